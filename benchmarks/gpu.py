"""voc-fcn8s at full width on a CUDA device: torch in three precisions, and TensorRT where it is installed.

Claim to check: torch fp16, channels last, within 2x of the dense fp16 ceiling that the same run measures.
Run it by `bash benchmarks/gpu.sh`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.engines import MODEL, SIZE, write_weights
from fcnseg.engine.bench_frames import made_up_frames
from fcnseg.recipes import find_recipe


def main() -> None:
    """Print `fcnseg bench`'s table for all that can run here."""
    if not torch.cuda.is_available():
        print("skipped: torch finds no CUDA device")
        return
    engines = ["torch:fp32", "torch:bf16", "torch:fp16"]
    for backend, module in (("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx")):
        if find_spec(module):
            engines += [f"{backend}:{precision}" for precision in ("fp32", "bf16", "fp16")]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        write_weights(weights, made_up_frames(find_recipe(MODEL), SIZE, 1)[0].inputs["color"])
        command = ["bench", "--model", MODEL, "--weights", weights, "--size", "500x375", "--device", "cuda"]
        subprocess.run(
            [sys.executable, "-m", "fcnseg", *map(str, command), "--engines", ",".join(engines), "--repeat", "20"],
            check=True,
        )


if __name__ == "__main__":
    main()
