#!/usr/bin/env bash
# Collect the wheels that the GPU check may lack on a machine without a network.
#
#     benchmarks/gpu_wheels.sh DIR [PYTHON_VERSION]
#
# for Linux on x86-64; PYTHON_VERSION (default 3.12) is that of the machine with the GPU. On it: WHEELS=DIR benchmarks/gpu_check.sh
set -euo pipefail
target=${1:?usage: benchmarks/gpu_wheels.sh DIR [PYTHON_VERSION]}
version=${2:-3.12}
PYTHON=${PYTHON:-python3}
mkdir -p "$target"
binary=(gsplat==1.5.3 ninja rich markdown-it-py mdurl pygments hydra-core==1.3.2 omegaconf==2.3.0 dacite "beartype<0.20" pyyaml
        einops jaxtyping wadler-lindig pluggy pytest iniconfig packaging)
"$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version "$version" \
    --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform any --dest "$target" "${binary[@]}"
# Only its source is published, and a machine without a network cannot build it.
"$PYTHON" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$target" antlr4-python3-runtime==4.9.3
du -sh "$target"
