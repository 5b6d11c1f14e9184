#!/bin/sh
# Build the kernels with AddressSanitizer and UndefinedBehaviorSanitizer and run every test of the native backend.
# Usage: tests/kernels/run_sanitized.sh [pytest arguments]; PYTHON and DIFF3R_CXX choose interpreter and compiler.
set -eu
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python}
export DIFF3R_CXX="${DIFF3R_CXX:-g++}"
export DIFF3R_CXXFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
export DIFF3R_CACHE_DIR="${DIFF3R_CACHE_DIR:-${TMPDIR:-/tmp}/diff3r-sanitized}"
# The interpreter leaks on purpose, and allocations larger than memory are answers that the tests ask for.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:detect_odr_violation=0
export UBSAN_OPTIONS=print_stacktrace=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
# Before the sanitizer is loaded, or the compiler runs under it as well.
"$PYTHON" -c "import torch; from diff3r_plugin.kernels.loading.build_cpu import library_path; print(library_path())"
LD_PRELOAD="$($DIFF3R_CXX -print-file-name=libasan.so) $($DIFF3R_CXX -print-file-name=libstdc++.so.6)"
export LD_PRELOAD
# The build tests start compilers and fresh interpreters of their own, which need no sanitizer.
exec "$PYTHON" -m pytest -q -p no:cacheprovider tests/render/test_native.py tests/render/test_native_degenerate.py \
    tests/render/test_native_alphas.py tests/render/test_backends.py tests/linearized -k "not torch" "$@"
