"""Counted operations against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fcnseg.models import network_spec
from fcnseg.models.arithmetic import network_gflop
from fcnseg.models.fcn import blank_network
from fcnseg.models.layers import deconvolution_names
from fcnseg.recipes import find_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize(("height", "width"), [(375, 500), (33, 1)])
def test_operations_are_those_that_torch_counts(name: str, height: int, width: int) -> None:
    spec = network_spec(find_recipe(name))
    network = blank_network(spec, frozenset(deconvolution_names(spec))).eval()
    images = [torch.empty(1, stream.channels, height, width, device="meta") for stream in spec.streams]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*images)
    assert network_gflop(spec, height, width) == pytest.approx(counter.get_total_flops() / 1e9, rel=1e-12)


def test_the_operations_of_the_released_network() -> None:
    assert network_gflop(network_spec(find_recipe("voc-fcn8s")), 375, 500) == pytest.approx(293.6, abs=0.05)
