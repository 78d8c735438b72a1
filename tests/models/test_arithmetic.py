"""Counted operations against torch's own counter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto
from torch.utils.flop_counter import FlopCounterMode

from fcnseg.engine.graph import GraphForm, write_network
from fcnseg.engine.graph_sizes import FixedSizes, _shapes, fix_sizes
from fcnseg.engine.graph_writer import GraphWriter
from fcnseg.models import Head, NetworkSpec, network_spec
from fcnseg.models.arithmetic import computed_gflop, network_gflop
from fcnseg.models.backbones import Conv, backbone_layers
from fcnseg.models.fcn import blank_network
from fcnseg.models.layers import deconvolution_names, weight_shapes
from fcnseg.models.margins import plan_windows
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


@pytest.mark.parametrize("name", recipe_names())
def test_computed_operations_are_those_that_torch_counts(name: str) -> None:
    spec = network_spec(find_recipe(name))
    network = blank_network(spec).eval()
    images = [torch.empty(1, stream.channels, 75, 98, device="meta") for stream in spec.streams]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*images)
    assert computed_gflop(spec, 75, 98) == pytest.approx(counter.get_total_flops() / 1e9, rel=1e-12)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (33, 1), (129, 64)])
def test_operations_without_margins_are_those_of_the_graph(height: int, width: int) -> None:
    """Of a graph of fixed sizes whose blank maps, which a graph of any size computes, are numbers."""
    spec = NetworkSpec("vgg16", 8, (Head(3),), width=0.04, fc_width=4)
    graph = GraphWriter()
    image = graph.input("image", TensorProto.FLOAT, ["N", 3, "H", "W"])
    weights = {key: np.ones(shape, np.float32) for key, shape in weight_shapes(spec).items()}
    (scores,) = write_network(graph, spec, weights, [image], form=GraphForm())
    graph.output(scores, TensorProto.FLOAT, ["N", 3, "H", "W"])
    fix_sizes(graph, FixedSizes(height, width, 1))
    numbers = {node.output[0]: node for node in graph.nodes if node.op_type == "Conv"}
    operations = 0
    for name, dims in _shapes(graph).items():
        if name in numbers:
            operations += 2 * graph.numbers[numbers[name].input[1]].size * dims[2] * dims[3]
    plan = plan_windows(backbone_layers("vgg16", "caffe"))
    assert len(numbers) == 13 + 2 + 3
    blank = 0
    blanks = [plan.blank_size(height), plan.blank_size(width)]
    for step in plan.steps[1:]:
        if isinstance(step.layer, Conv):
            blank += 2 * weights[f"{step.layer.name}.weight"].size * blanks[0] * blanks[1]
        else:
            blanks = [-(-n // 2) for n in blanks]
    deconvolutions = computed_gflop(spec, height, width) - computed_gflop(spec, height, width, coarse=True)
    assert deconvolutions > 0
    found = computed_gflop(spec, height, width, windowed=True, coarse=True) * 1e9
    assert found == pytest.approx(operations + blank, rel=2e-2)


def test_the_operations_of_the_released_network() -> None:
    assert network_gflop(network_spec(find_recipe("voc-fcn8s")), 375, 500) == pytest.approx(293.6, abs=0.05)
