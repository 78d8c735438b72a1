"""The fastest arithmetic that a machine gives."""

from __future__ import annotations

import time
from importlib.util import find_spec

import numpy as np


def matrix_product_gflops(precision: str, device: str = "auto") -> float | None:
    """Measure a large matrix product by torch, or NumPy where that is not installed, in 10^9 operations a second.

    None for a precision that they have no fast product in.
    """
    if find_spec("torch") is None:
        return _by_numpy(2048) if precision == "fp32" else None
    import torch

    from fcnseg.engine.runtimes.pytorch import find_device

    place = find_device(device)
    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
    if place.type == "cuda":
        types["fp16"] = torch.float16  # on processors torch computes it one number at a time
    if precision not in types or (precision == "int8" and not hasattr(torch, "_int_mm")):
        return None
    side = 8192 if place.type == "cuda" else 2048
    square = torch.ones(side, side, device=place).to(types[precision])
    product = torch._int_mm if precision == "int8" else torch.mm
    product(square, square)
    start = time.perf_counter()
    done = product(square, square)
    done[0, 0].item()  # waits for a GPU
    return 2 * side**3 / (time.perf_counter() - start) / 1e9


def _by_numpy(side: int) -> float:
    square = np.ones((side, side), np.float32)
    square @ square
    start = time.perf_counter()
    square @ square
    return 2 * side**3 / (time.perf_counter() - start) / 1e9
