#!/usr/bin/env bash
# Everything about a CUDA device that has not been measured, in at most eight minutes, as one table: see
# benchmarks/gpu.py. From the project's root, with the Python that has torch, onnx and little else:
#   bash benchmarks/gpu.sh [PYTHON] [--rehearse] [PART ...]
set -euo pipefail
python=python3
if [[ $# -gt 0 && $1 != -* ]]; then
    python=$1
    shift
fi
export FCNSEG_HOME=${FCNSEG_HOME:-$(mktemp -d)}
exec "$python" -m benchmarks.bare benchmarks.gpu "$@"
