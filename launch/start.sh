# Sourced by the scripts that start a training. Splits their arguments: options of the script stand before `--`, those of
# `aurljax train` behind it; --dry-run tells what would be done.

# take NAME...: reads --NAME=VALUE or --NAME VALUE into $NAME (- as _) and all behind `--` into the array TRAIN.
take() {
  local known=" $* " option_name
  DRY="" TRAIN=()
  while (($#)) && [[ "$1" != __ARGS__ ]]; do shift; done
  shift
  while (($#)); do
    case "$1" in
      --dry-run) DRY=1 ;;
      --) shift; TRAIN=("$@"); break ;;
      --*=*)
        option_name="${1%%=*}" option_name="${option_name#--}"
        [[ "$known" == *" $option_name "* ]] || refuse "unknown option --$option_name"
        printf -v "${option_name//-/_}" %s "${1#*=}" ;;
      --*)
        option_name="${1#--}"
        [[ "$known" == *" $option_name "* ]] || refuse "unknown option --$option_name"
        (($# > 1)) || refuse "--$option_name needs a value"
        printf -v "${option_name//-/_}" %s "$2"
        shift ;;
      *) refuse "what is $1? options of the script stand before --, those of aurljax train behind it" ;;
    esac
    shift
  done
  ((${#TRAIN[@]})) || refuse "nothing to train; end with -- --config=FILE.py --workdir=DIR"
}

# refuse SENTENCE: says what is wrong and how the script is used, from the lines at its head.
refuse() {
  echo "$(basename "$0"): $1" >&2
  sed -n 's/^# usage: /usage: /p' "$0" >&2
  exit 2
}

# quoted WORD...: the words as a shell would read them.
quoted() {
  local text
  printf -v text '%q ' "$@"
  printf '%s' "${text% }"
}

# go WORD...: runs the command; with --dry-run tells it.
go() {
  if [[ -n "$DRY" ]]; then quoted "$@" && echo; else "$@"; fi
}
