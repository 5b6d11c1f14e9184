#!/usr/bin/env bash
# The GPU check: correctness, figures, memory and training of the gsplat backend on one device, unattended, within nine
# minutes including gsplat's own compilation.
#
#     benchmarks/gpu_check.sh [--cpu] [--stage check|figures|train|profile] [OUT_DIR]
#
# writes OUT_DIR/results.json (default: outputs/gpu_check; anew after every part) beside an archive of logs and gsplat's compiled part, and prints tables. Exit status 0: all well; 1: a check failed or
# a figure missed what it must reach (printed); 2: it cannot start; 3: something is missing for lack of time. --cpu is a dry run of everything
# at tiny sizes on the CPU, in a minute and a half; none of its figures is one of a GPU.
#
# WHEELS=DIR: a folder of wheels (benchmarks/gpu_wheels.sh, or make gpu-wheels, where there is a network) from which what the
# interpreter lacks is taken for this run. GSPLAT_SO=FILE: the compiled part that an earlier run on such a machine left.
#
# Nothing is installed into the interpreter. Needed: Linux; a Python (PYTHON chooses it) with a CUDA build of torch, gsplat, einops, jaxtyping,
# pluggy, numpy and pillow; nvcc of torch's CUDA release and a C++ compiler, which compile gsplat and our kernels at their
# first use; this checkout (it need not be installed). For the training also what the miniature host imports: lightning,
# hydra-core, dacite, beartype<0.20, pyyaml, rich, tqdm (the extra "demo"); without these that part is recorded as skipped.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-python3}
command -v "$PYTHON" >/dev/null || { echo "gpu_check: there is no '$PYTHON'; set PYTHON" >&2; exit 2; }
"$PYTHON" -c "import torch" 2>/dev/null || {
    echo "gpu_check: '$PYTHON' has no torch; set PYTHON to the interpreter of an environment that has it" >&2
    exit 2
}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1

dry_run=no
for argument in "$@"; do
    case $argument in --cpu | -h | --help) dry_run=yes ;; esac
done
if [ "$dry_run" = no ]; then
    # Compile for the devices that are here and no others: each architecture costs as much again.
    if [ -z "${TORCH_CUDA_ARCH_LIST:-}" ]; then
        found=$("$PYTHON" - <<'PY'
import torch

capabilities = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
print(";".join(f"{major}.{minor}" for major, minor in sorted(capabilities)))
PY
        )
        [ -n "$found" ] || { echo "gpu_check: torch sees no CUDA device; --cpu makes a dry run" >&2; exit 2; }
        export TORCH_CUDA_ARCH_LIST=$found
    fi
    if [ -z "${MAX_JOBS:-}" ]; then
        # One compilation takes up to about 3 GB; more jobs than memory would end in the out-of-memory killer.
        cores=$(nproc)
        memory=$(awk '/MemAvailable/ { print int($2 / 3000000) }' /proc/meminfo)
        MAX_JOBS=$((memory < cores ? memory : cores))
        export MAX_JOBS=$((MAX_JOBS > 0 ? MAX_JOBS : 1))
    fi
    if ! command -v nvcc >/dev/null; then
        for home in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda; do
            if [ -n "$home" ] && [ -x "$home/bin/nvcc" ]; then
                export PATH="$home/bin:$PATH"
                break
            fi
        done
    fi
fi
exec "$PYTHON" -m benchmarks.gpu "$@"
