#!/usr/bin/env bash
# Everything that needs a CUDA device: the first ten minutes step by step, the tests marked `gpu`, then torch (and
# TensorRT, where installed) side by side. From the project's root; without a device each part says so.
# Python needs torch, onnx, onnxruntime, Pillow, h5py, typer, rich and pytest; see benchmarks/bare.py.
#   bash benchmarks/gpu.sh [PYTHON]
set -uo pipefail
python=${1:-python3}
export FCNSEG_HOME=${FCNSEG_HOME:-$(mktemp -d)}
failed=0
part() {
    echo "== $1"
    shift
    "$python" -m benchmarks.bare "$@" || failed=1
}
part "the first ten minutes" benchmarks.first_gpu
part "tests marked gpu" pytest -o addopts= -p no:cacheprovider -q -rs --continue-on-collection-errors tests/gpu
part "voc-fcn8s, random weights, 500x375" benchmarks.gpu
exit $failed
