# Sourced by the scripts that install: `setup EXTRA` leaves a .venv in the repository with aurljax[EXTRA] installed in it.
# PYTHON=/path/to/python chooses the interpreter; otherwise the newest suitable one on the PATH is taken.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"

# Prints "3.12.1 /path/to/python3.12" for a Python that can make an environment; fails with the reason otherwise.
inspect() {
  "$1" 2>/dev/null -c '
import importlib.util, sys
version = "%d.%d.%d" % sys.version_info[:3]
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(print(sys.argv[1], "is version", version) or 3)
lacks = [m for m in ("venv", "ensurepip", "ssl", "zlib", "ctypes") if importlib.util.find_spec(m) is None]
if lacks:
    sys.exit(print(sys.argv[1], "has no", " and no ".join(lacks)) or 3)
print(version, sys.executable)' "$1" || { [[ $? == 3 ]] || echo "$1 does not run"; return 1; }
}

# Makes .venv with the newest Python for which that works.
make_environment() {
  local candidate found problems=""
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    command -v "$candidate" >/dev/null || continue
    if ! found="$(inspect "$candidate")"; then
      problems+="$found, "
    elif "${found#* }" -m venv --clear "$VENV" >/dev/null 2>&1; then
      echo "Python ${found%% *} from ${found#* }"
      return
    else
      problems+="$candidate cannot make an environment, "
    fi
  done
  rm -rf "$VENV"
  problems="${problems%, }"
  echo "aurljax needs Python 3.11, 3.12 or 3.13 with venv, but ${problems:-none is on the PATH}: install one, for" \
    "instance the packages python3.12 and python3.12-venv on Ubuntu, or name one with PYTHON=..." >&2
  return 1
}

# Installs aurljax[$1] with the tested versions, unless this was done for the same pyproject.toml and constraints.
setup() {
  local stamp now
  now="$(cat "$ROOT/pyproject.toml" "$ROOT/launch/constraints.txt" | cksum)"
  for stamp in "$VENV/installed-$1" "$VENV/installed-test"; do  # test brings all that demo does
    if [[ -x "$VENV/bin/python" && -f "$stamp" && "$(<"$stamp")" == "$now" ]]; then return; fi
  done
  "$VENV/bin/python" -c "import pip" 2>/dev/null || make_environment || return
  echo "Installing aurljax[$1] into .venv: a minute or two, once"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$ROOT/launch/constraints.txt" --editable "$ROOT[$1]" || return
  echo "$now" >"$VENV/installed-$1"
}
