#!/usr/bin/env bash
# From a fresh machine to music: installs, trains a small model on Bach's chorales on this machine, generates, and
# writes MIDI, WAV, pictures and summary.html into demo/. Run it again to resume or reuse; --fresh starts over.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/setup.sh"
source "$here/env.sh"
setup demo
exec "$VENV/bin/python" "$ROOT/tools/demo.py" --out "$ROOT/demo" "$@"
