"""The graph's scores against the PyTorch network's, for every shipped recipe and for kin of them, in two runtimes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from onnx import TensorProto

from fcnseg.engine.graph import PLAIN, GraphForm, write_network
from fcnseg.engine.graph_writer import GraphWriter
from fcnseg.engine.onnx_session import session_of
from fcnseg.models import FCN, NetworkSpec, network_spec
from fcnseg.models.layers import deconvolution_names
from fcnseg.models.margins import applies
from fcnseg.recipes import find_recipe, recipe_names

SIZES = [(1, 1, 1), (2, 40, 7), (1, 75, 98)]

KIN: dict[str, dict[str, Any]] = {
    **{name: {} for name in recipe_names()},
    "voc-fcn8s in same geometry": {"geometry": "same"},
    "voc-fcn-alexnet in same geometry": {"geometry": "same"},
    "voc-fcn-googlenet in same geometry": {"geometry": "same"},
    "nyud-fcn32s-color-hha at stride 8": {"stride": 8},
    "siftflow-fcn8s with scaled skips": {"skip_scales": {"pool4": 0.01, "pool3": 0.0001}},
}


def network_of(name: str) -> FCN:
    """A narrow network of the family, every number random, deconvolutions that mix classes among them."""
    spec: NetworkSpec = network_spec(find_recipe(name.split()[0]))
    spec = replace(spec, width=0.07, fc_width=8, **KIN[name])
    dense = frozenset(deconvolution_names(spec)[::2])
    generator = torch.Generator().manual_seed(0)
    network = FCN(spec, dense).eval().requires_grad_(False)
    for key, parameter in network.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        fan = max(1, parameter[0].numel()) if parameter.ndim == 4 else 1
        parameter.copy_(drawn * (2 / fan) ** 0.5 if "bias" not in key else drawn)
    return network


def write(network: FCN, file: Path, form: GraphForm) -> None:
    graph, spec = GraphWriter(), network.spec
    axes = [["N", stream.channels, "H", "W"] for stream in spec.streams]
    images = [graph.input(f"image{i}", TensorProto.FLOAT, a) for i, a in enumerate(axes)]
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    for i, scores in enumerate(write_network(graph, spec, weights, images, form=form)):
        graph.output(graph.node("Identity", scores, output=f"scores{i}"), TensorProto.FLOAT, ["N", f"K{i}", "H", "W"])
    graph.save(file, {})


@pytest.mark.parametrize("name", KIN)
def test_scores_are_the_networks(name: str, tmp_path: Path) -> None:
    network, deployed, plain = network_of(name), tmp_path / "deployed.onnx", tmp_path / "plain.onnx"
    write(network, deployed, GraphForm())
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(deployed, "CPU", settings)
    runs = [lambda inputs: list(compiled(inputs).values()), partial(session_of(str(deployed)).run, None)]
    if applies(network.spec):  # else both are one
        write(network, plain, PLAIN)
        runs.append(partial(session_of(str(plain)).run, None))
    for batch, height, width in SIZES:
        generator = torch.Generator().manual_seed(width)
        channels = [stream.channels for stream in network.spec.streams]
        images = [60 * torch.randn((batch, c, height, width), generator=generator) for c in channels]
        expected = [scores.numpy() for scores in network(*images)]
        inputs = {f"image{i}": image.numpy() for i, image in enumerate(images)}
        for run in runs:
            for ours, theirs in zip(run(inputs), expected, strict=True):
                assert ours.shape == theirs.shape
                assert np.ptp(theirs) > 0
                assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()
