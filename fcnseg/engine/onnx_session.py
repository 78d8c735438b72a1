"""Sessions of ONNX Runtime, which is loaded here alone: it would tell its maker what it does."""

from __future__ import annotations

import os
from typing import Any

from fcnseg.workers.limits import numeric_threads


def session_of(model: str | bytes) -> Any:
    """Open a graph, a file's name or its bytes, on the processor."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # or it tells its maker, and writes into the user's home
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = numeric_threads()
    options.log_severity_level = 3  # errors alone: those are raised
    options.enable_cpu_mem_arena = False  # or it keeps what its largest image took
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
