"""The operations a network asks for, and the fastest arithmetic a machine gives."""

from __future__ import annotations

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from fcnseg.engine.runtimes.pytorch import find_device
from fcnseg.models import network_spec
from fcnseg.models.fcn import blank_network, deconvolution_names
from fcnseg.recipes import Recipe


def network_gflop(recipe: Recipe, height: int, width: int) -> float:
    """Count 10^9 operations of one image: multiplications and additions of all convolutions and deconvolutions.

    Deconvolutions count as the release defines them, each class from all classes, whatever an engine makes of them.
    """
    spec = network_spec(recipe)
    network = blank_network(spec, frozenset(deconvolution_names(spec))).eval()
    images = [torch.empty(1, stream.channels, height, width, device="meta") for stream in spec.streams]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*images)
    return float(counter.get_total_flops()) / 1e9


def matrix_product_gflops(precision: str, device: str = "auto") -> float | None:
    """Measure a large matrix product by torch, in 10^9 operations a second.

    None for a precision that torch has no fast product in.
    """
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
