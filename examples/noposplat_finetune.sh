#!/usr/bin/env bash
# Fine-tune a released NoPoSplat checkpoint with Diff3R, then test it before and after refinement.
#
#   noposplat_finetune.sh CHECKOUT CHECKPOINT DATA [setting=value ...]
#   noposplat_finetune.sh --smoke CHECKOUT            a few tiny steps on generated data, on a CPU
#
# CHECKOUT    a clone of https://github.com/cvg/NoPoSplat, in whose environment this runs, with
#             pip install "diff3r-plugin[noposplat]"
# CHECKPOINT  for instance its re10k.ckpt
#             The host's encoder does not see the context poses; the refinement uses those of the batch
#             (diff3r.context_poses=batch, printed with the scores).
# DATA        RealEstate10K in the host's chunk format (folders train/ and test/ with index.json)
# Further settings go to the host as they are: data_loader.train.batch_size=2 diff3r.inner_steps=6 ...
# Environment: PYTHON (python), STEPS (5000), OUT (outputs/noposplat_diff3r)
set -euo pipefail
fail() { echo "noposplat_finetune: $*" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python}

if [ "${1:-}" = --smoke ]; then
  [ $# -ge 2 ] || fail "--smoke needs the checkout"
  out=$(mktemp -d)
  "$python" "$here/../tests/hostlab/make_re10k_like.py" "$out/data"
  export HOSTLAB_DATA=$out/data HOSTLAB_OUT=$out HOSTLAB_STEPS=2 HOSTLAB_LPIPS=0 PYTHON=$python
  HOSTLAB_TAG=plain HOSTLAB_MODE=train "$here/../tests/hostlab/run_host.sh" noposplat "$2"
  checkpoint=$(find "$out/noposplat/plain" -name '*.ckpt' | head -1)
  HOSTLAB_TAG=tuned HOSTLAB_MODE=train "$here/../tests/hostlab/run_host.sh" noposplat "$2" \
    "model.encoder.pretrained_weights='$checkpoint'" --plugin diff3r
  HOSTLAB_TAG=tuned HOSTLAB_MODE=test "$here/../tests/hostlab/run_host.sh" noposplat "$2" --plugin diff3r
  echo "smoke run passed; everything is in $out"
  exit
fi

[ $# -ge 3 ] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2; }
checkout=$(realpath "$1"); checkpoint=$(realpath "$2"); data=$(realpath "$3"); shift 3
[ -f "$checkpoint" ] || fail "there is no checkpoint $checkpoint"
for stage in train test; do
  [ -f "$data/$stage/index.json" ] || fail "$data/$stage/index.json is missing: is $data RealEstate10K in chunks?"
done
"$python" -m diff3r_plugin.cli doctor "$checkout" --adapter noposplat || fail "see what doctor says above"
out=$(realpath -m "${OUT:-outputs/noposplat_diff3r}")
cd "$checkout"

"$python" -m src.main +experiment=re10k "dataset.re10k.roots=[$data]" \
  "model.encoder.pretrained_weights='$checkpoint'" "trainer.max_steps=${STEPS:-5000}" \
  data_loader.train.batch_size=2 optimizer.lr=2e-5 wandb.mode=disabled "hydra.run.dir=$out/train" --plugin diff3r "$@"

tuned=$(find "$out/train/checkpoints" -name '*.ckpt' -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
"$python" -m src.main +experiment=re10k "dataset.re10k.roots=[$data]" "checkpointing.load='$tuned'" mode=test \
  dataset/view_sampler@dataset.re10k.view_sampler=evaluation test.align_pose=false wandb.mode=disabled \
  "hydra.run.dir=$out/test" "test.output_path=$out/test" --plugin diff3r "$@"
echo "scores before and after refinement: $(find "$out/test" -name diff3r_scores.json)"
