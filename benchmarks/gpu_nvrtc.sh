#!/usr/bin/env bash
# Compile all GPU kernels by several releases of NVRTC, oldest to newest, without a GPU, a toolkit or a host compiler.
#
#     benchmarks/gpu_nvrtc.sh [DIR] [FOLDER_OR_LIBRARY ...]
#
# DIR (default outputs/nvrtc) keeps the wheels' contents, 20 to 90 MB a release. RELEASES names those that are compiled by, as pip
# does; RELEASES= compiles by what is given or found alone.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-outputs/nvrtc}
shift || true
PYTHON=${PYTHON:-python3}
RELEASES=${RELEASES-nvidia-cuda-nvrtc-cu11==11.8.89 nvidia-cuda-nvrtc-cu12==12.1.105 nvidia-cuda-nvrtc-cu12==12.4.127 nvidia-cuda-nvrtc-cu12==12.8.93 nvidia-cuda-nvrtc==13.0.88}
libraries=("$@")
for release in $RELEASES; do
    folder=$target/${release##*==}
    [ -d "$folder" ] || "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" "$release"
    libraries+=("$folder")
done
"$PYTHON" -m benchmarks.gpu.nvrtc ${libraries[@]+"${libraries[@]}"}
