#!/usr/bin/env bash
# Everything that needs a CUDA device: the tests marked `gpu`, then torch (and TensorRT, where installed) side by side.
# From the project's root, in an environment with fcnseg's dependencies; ends in a short table.
#   bash benchmarks/gpu.sh [PYTHON]
set -u
python=${1:-python3}
export FCNSEG_HOME=${FCNSEG_HOME:-$(mktemp -d)}
echo "== tests marked gpu"
"$python" -m pytest -o addopts= -p no:cacheprovider -q tests/gpu 2>&1 | tail -15
echo "== voc-fcn8s, random weights, 500x375"
"$python" -m benchmarks.gpu
