#!/usr/bin/env bash
# Fine-tune a released MVSplat checkpoint with Diff3R, then test it before and after refinement.
#
#   mvsplat_finetune.sh CHECKOUT CHECKPOINT DATA [setting=value ...]
#   mvsplat_finetune.sh --smoke CHECKOUT            the same commands, two tiny steps on generated data, on a CPU
#
# CHECKOUT    a clone of https://github.com/donydchen/mvsplat, in whose environment this runs, with
#             pip install "diff3r-plugin[mvsplat]"
# CHECKPOINT  for instance its re10k.ckpt
# DATA        RealEstate10K in the host's chunk format (folders train/ and test/ with index.json)
# Further settings go to the host as they are, in training and test: diff3r.inner_steps=6 ...
# Environment: PYTHON (python), STEPS (5000), OUT (outputs/mvsplat_diff3r),
#              INDEX (the checkout's assets/evaluation_index_re10k.json)
set -euo pipefail
host=mvsplat
source "$(dirname "${BASH_SOURCE[0]}")/finetune_common.sh"
begin "$@"

"$python" -m src.main +experiment=re10k mode=train "${tune[@]}" "dataset.roots=[$data]" \
  "checkpointing.load='$checkpoint'" checkpointing.resume=false "checkpointing.every_n_train_steps=$steps" \
  "trainer.max_steps=$steps" data_loader.train.batch_size=2 optimizer.lr=2e-5 wandb.mode=disabled \
  "hydra.run.dir=$out/train" --plugin diff3r "${settings[@]}"

"$python" -m src.main +experiment=re10k mode=test "${judge[@]}" "dataset.roots=[$data]" \
  "checkpointing.load='$(newest_checkpoint "$out/train")'" dataset/view_sampler=evaluation \
  "dataset.view_sampler.index_path=$index" test.compute_scores=true wandb.mode=disabled "hydra.run.dir=$out/test" \
  "test.output_path=$out/test" --plugin diff3r "${settings[@]}"
report
