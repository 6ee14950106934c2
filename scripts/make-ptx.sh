#!/usr/bin/env bash
# Compiles src/cuda/kernels.cu to src/cuda/kernels.ptx, which is committed, so that a rig needs a driver and no compiler. For compute
# capability 7.5 and everything newer, with the NVRTC of tests/requirements.txt; a test compares the two.
set -euo pipefail
cd "$(dirname "$0")/.."
make --silent .venv/ready
.venv/bin/python tests/support/compile_kernels.py src/cuda/kernels.cu ptx:compute_75 >src/cuda/kernels.ptx.new
mv src/cuda/kernels.ptx.new src/cuda/kernels.ptx
