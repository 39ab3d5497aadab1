#!/usr/bin/env bash
# Trains on this machine, on all of its accelerators: installs what they need into .venv, once, and starts.
# usage: bash launch/workstation.sh [--extra cuda|tpu|pictures] [--dry-run] -- --config=FILE.py --workdir=DIR ...
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/setup.sh"
source "$here/env.sh"
source "$here/start.sh"
extra=""
take extra __ARGS__ "$@"
if [[ -z "$extra" ]]; then
  extra=pictures
  if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then extra=cuda; fi
fi
go setup "$extra"
cd "$ROOT"
go "$VENV/bin/python" -m aurljax.cli train "${TRAIN[@]}"
