#!/usr/bin/env bash
# Installs what the tests need, checks the style, runs the tests; arguments go to pytest (--slow: the long ones too).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/setup.sh"
source "$here/env.sh"
setup test
cd "$ROOT"
"$VENV/bin/python" -m ruff check .
exec "$VENV/bin/python" -m pytest -n 2 "$@"
