# What mvsplat_finetune.sh and noposplat_finetune.sh share: arguments, their checks, and the smoke run.
#
# Source it with `host` set to the adapter's name; then call `begin "$@"`. It sets
#   checkout checkpoint data index steps out    as given, checked
#   workdir                                     where the host's commands run
#   settings                                    of the user, for training and test alike
#   tune judge                                  of the smoke run, for training and for test; empty otherwise
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
harness=$here/../tests/hostlab
script=$(basename "$0" .sh)
python=${PYTHON:-python}

fail() { echo "$script: $*" >&2; exit 2; }

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2; }

begin() {
  tune=(); judge=()
  case ${1:-} in
    --smoke) [ $# -ge 2 ] || fail "--smoke needs the checkout"; checkout=$2; shift 2; find_checkout; prepare_smoke_run ;;
    -h|--help|"") usage ;;
    *) [ $# -ge 3 ] || usage
       checkout=$1; checkpoint=$2; data=$3; shift 3
       find_checkout
       steps=${STEPS:-5000}; out=$(realpath -m "${OUT:-outputs/${host}_diff3r}")
       index=${INDEX:-$checkout/assets/evaluation_index_re10k.json}; workdir=$checkout ;;
  esac
  settings=("$@")
  [ -f "$checkpoint" ] || fail "there is no checkpoint $checkpoint"
  checkpoint=$(realpath "$checkpoint")
  for stage in train test; do
    [ -f "$data/$stage/index.json" ] || fail "$data/$stage/index.json is missing: is $data RealEstate10K in chunks?"
  done
  data=$(realpath "$data")
  [ -f "$index" ] || fail "there is no evaluation index $index; set INDEX to one that names scenes of $data/test"
  index=$(realpath "$index")
  case $steps in *[!0-9]*|"") fail "STEPS must be a whole number, got '$steps'" ;; esac
  "$python" -m diff3r_plugin.cli doctor "$checkout" --adapter "$host" || fail "see what doctor says above"
  cd "$workdir"
}

find_checkout() {
  [ -f "$checkout/src/main.py" ] || fail "$checkout is no checkout of $host: it has no src/main.py"
  checkout=$(realpath "$checkout")
}

# Generated data, a checkpoint of two plain steps, and the harness's tiny settings for the commands that follow.
prepare_smoke_run() {
  [ -d "$harness" ] || fail "--smoke needs the project's source tree; $harness is missing"
  local smoke
  smoke=$(mktemp -d)
  data=$smoke/data; index=$data/evaluation_index.json; steps=2; out=$smoke/tuned; workdir=$smoke/cwd
  "$python" "$harness/make_re10k_like.py" "$data"
  export PYTHON=$python HOSTLAB_DATA=$data HOSTLAB_OUT=$smoke HOSTLAB_LPIPS=0 HOSTLAB_TAG=plain
  HOSTLAB_STEPS=2 HOSTLAB_MODE=train "$harness/run_host.sh" "$host" "$checkout"
  checkpoint=$(find "$smoke/$host/plain" -name '*.ckpt' | head -1)
  mapfile -t tune < <(HOSTLAB_MODE=print-train "$harness/run_host.sh" "$host" "$checkout")
  mapfile -t judge < <(HOSTLAB_MODE=print-test "$harness/run_host.sh" "$host" "$checkout")
  # the environment that run_host.sh gives a host: a CPU, and stand-ins for what only exists in CUDA
  export HOSTLAB=1 HOSTLAB_SIZE=64 OMP_NUM_THREADS=1 WANDB_MODE=disabled
  export PYTHONPATH=$harness/stand_in:$checkout${PYTHONPATH:+:$PYTHONPATH}
  mkdir -p "$workdir"
}

newest_checkpoint() {  # below a folder
  local found
  found=$(find "$1" -name '*.ckpt' -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
  [ -n "$found" ] || fail "training left no checkpoint below $1"
  echo "$found"
}

report() {
  local scores
  scores=$(find "$out/test" -name diff3r_scores.json)
  [ -n "$scores" ] || fail "the test left no diff3r_scores.json below $out/test"
  echo "scores before and after refinement: $scores"
}
