"""The fastest arithmetic that a machine gives: what engines are measured against.

On processors a convolution by OpenVINO whose kernels keep the registers busy: torch's matrix product is a quarter below
it.
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import Any

import numpy as np

from fcnseg.engine.runtimes.openvino import TRUNK_TYPES, compiled_for_processor, processor_has

CHANNELS, SIDE, LAYERS = 512, 54, 2
"""The shape of the convolutions, 3 x 3 of so many channels on a square map: the fastest in every precision of those
tried, of 128 to 1,024 channels, 1 x 1 and 3 x 3, on maps of 24 to 126 cells."""

ROUNDS = 8
"""The fastest of so many runs counts: other work on the machine can only slow them down."""


def ceiling_gflops(precision: str, device: str = "auto") -> float | None:
    """Measure the fastest arithmetic of a precision in 10^9 operations a second; None where nothing computes in it."""
    on_processor = find_spec("torch") is None or _is_processor(device)
    if on_processor and find_spec("openvino") and precision in TRUNK_TYPES:
        return convolution_gflops(precision)
    return matrix_product_gflops(precision, device)


def _is_processor(device: str) -> bool:
    from fcnseg.engine.runtimes.pytorch import find_device

    return find_device(device).type == "cpu"


def convolution_gflops(precision: str) -> float | None:
    """Measure convolutions by OpenVINO; None for a precision that this processor does not compute in."""
    if not processor_has("int8" if precision == "int8" else precision):
        return None
    request = compiled_for_processor(_convolutions(precision), precision).create_infer_request()
    image = np.random.default_rng(0).random((1, CHANNELS, SIDE, SIDE), np.float32)
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        request.infer([image])
        seconds.append(time.perf_counter() - start)
    return 2 * LAYERS * (3 * CHANNELS * SIDE) ** 2 / min(seconds) / 1e9


def _convolutions(precision: str) -> Any:
    """Return a model of convolutions and rectifiers, with explicit quantisation for int8."""
    import openvino
    from openvino import opset13 as ops

    image = ops.parameter([1, CHANNELS, SIDE, SIDE], np.float32)
    maps, random = image, np.random.default_rng(0)
    for _ in range(LAYERS):
        values = random.normal(0, (2 / (9 * CHANNELS)) ** 0.5, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
        weights = ops.constant(values)
        if precision == "int8":
            maps = _quantized(maps, 0.0, 4.0, 256)
            weights = _quantized(weights, -float(np.abs(values).max()), float(np.abs(values).max()), 255)
        maps = ops.relu(ops.convolution(maps, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    return openvino.Model([ops.reduce_max(maps, ops.constant([1, 2, 3]))], [image])


def _quantized(values: Any, low: float, high: float, levels: int) -> Any:
    from openvino import opset13 as ops

    ends = [ops.constant(np.float32(end)) for end in (low, high)]
    return ops.fake_quantize(values, *ends, *ends, levels)


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
