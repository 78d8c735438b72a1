"""Export the graph as an ONNX file: the source of every compiled engine, and for other runtimes."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import fcnseg
from fcnseg.engine.graph import LabelGraph
from fcnseg.engine.runtimes.common import output_names
from fcnseg.errors import EngineError, OutputError, SettingsError
from fcnseg.io.atomic import PART
from fcnseg.recipes import MODALITIES, find_recipe
from fcnseg.types import AnyPath, optional_path
from fcnseg.weights.loading import load_whole_network

OPSET = 20
TRACED = 2, 93, 125
"""The batch, height and width the graph is traced with; nothing in the file depends on them."""

SMALLEST_TRACED_PX = 64
"""Below it torch.export demands proofs about maps of one cell. The file itself is good from 1 x 1 up."""

SINGLE_FILE_BYTES = 2**31 - 2**20
"""A protobuf message holds less than 2 GiB; larger weights go into a file of their own."""


def export_model(
    model: str,
    out: AnyPath,
    *,
    weights: AnyPath | None = None,
    probabilities: str | None = None,
) -> list[str]:
    """Write a model's graph as ONNX (see `export_onnx`); returns a line for each input and output.

    `probabilities` ("float32" or "float16") adds outputs of class probabilities, N x K x H x W, in that type.

    Raises SettingsError for an unknown type, OutputError if the file cannot be written, and the errors of weights.

    >>> import fcnseg
    >>> fcnseg.export_model("street-fcn8s", "street.onnx")
    ['input   color: uint8, N x H x W x 3', 'output  labels: uint8, N x H x W']
    """
    if probabilities not in (None, "float32", "float16"):
        raise SettingsError(f"probabilities of type {probabilities!r} are unknown; use float32 or float16")
    recipe = find_recipe(model)
    loaded = load_whole_network(recipe, optional_path(weights))
    graph = LabelGraph(loaded.network, recipe, probabilities, skip_margins=True).eval()
    export_onnx(graph, Path(out), weights_sha256=loaded.weights_sha256)
    inputs = [f"{m}: {'float32' if m == 'depth' else 'uint8'}, N x H x W x {MODALITIES[m]}" for m in recipe.modalities]
    labels = [f"{h.name}: {'uint8' if h.labels.classes <= 256 else 'uint16'}, N x H x W" for h in recipe.heads]
    names = output_names(recipe, True)[len(labels) :] if probabilities else ()
    values = [
        f"{name}: {probabilities}, N x {head.labels.classes} x H x W"
        for name, head in zip(names, recipe.heads, strict=bool(names))
    ]
    return [*(f"input   {line}" for line in inputs), *(f"output  {line}" for line in labels + values)]


def export_onnx(graph: LabelGraph, path: Path, *, weights_sha256: str = "", separate_weights: bool = False) -> None:
    """Write `graph` as ONNX, whole or not at all.

    Inputs are named after the modalities (N x H x W x C, see LabelGraph), outputs as `output_names` says; N, H and W
    are dynamic. With `separate_weights` (and above 2 GiB in any case) the numbers go into `<path>.data`.
    Raises OutputError if it cannot be written, EngineError if torch cannot export it.
    """
    program = _translate(graph)
    model = program.model
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.shape = _named_axes(value.shape)
    _pad_instead_of_rounding_up(model.graph)
    for node in model.graph:
        for note in ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node"):  # paths of this machine
            node.metadata_props.pop(note, None)
    model.metadata_props.update(
        fcnseg=fcnseg.__version__,
        model=graph.recipe.name,
        weights_sha256=weights_sha256,
        classes=json.dumps({head.name: list(head.labels.names) for head in graph.recipe.heads}),
    )
    size = sum(p.numel() * p.element_size() for p in graph.state_dict().values())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=PART) as folder:
            program.save(Path(folder) / path.name, external_data=separate_weights or size > SINGLE_FILE_BYTES)
            for file in sorted(Path(folder).iterdir(), reverse=True):  # the numbers before the graph that names them
                os.replace(file, path.parent / file.name)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; check its permissions and space") from error


def _translate(graph: LabelGraph) -> Any:
    """Return the torch.onnx program of a graph."""
    recipe = graph.recipe
    batch, height, width = TRACED
    images = tuple(
        torch.zeros(batch, height, width, MODALITIES[m], dtype=torch.float32 if m == "depth" else torch.uint8)
        for m in recipe.modalities
    )
    dims = {
        0: torch.export.Dim("N", min=1, max=2**16),
        1: torch.export.Dim("H", min=SMALLEST_TRACED_PX, max=2**20),
        2: torch.export.Dim("W", min=SMALLEST_TRACED_PX, max=2**20),
    }
    try:
        with _quiet(), torch.no_grad():
            traced = torch.export.export(
                graph.cpu(),
                images,
                dynamic_shapes={"images": tuple(dims for _ in images)},
                prefer_deferred_runtime_asserts_over_guards=True,  # ceil-mode pooling: true for every size
            )
            program = torch.onnx.export(
                traced,
                dynamo=True,
                input_names=list(recipe.modalities),
                output_names=list(output_names(recipe, graph.probabilities is not None)),
                opset_version=OPSET,
                verbose=False,
            )
    except ImportError as error:
        raise EngineError(f"exporting needs {error.name}; `pip install onnx onnxscript` installs it") from error
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise EngineError(f"torch {torch.__version__} cannot export {recipe.name}: {_first_line(error)}") from error
    return program


def _pad_instead_of_rounding_up(graph: Any) -> None:
    """Turn pooling that rounds its output up into pooling that rounds down over a map with `stride - 1` more cells at
    the end: the same windows, and OpenVINO takes it for maps smaller than a window too."""
    import onnx_ir

    for node in graph:
        if node.op_type == "MaxPool" and node.attributes.get_int("ceil_mode", 0):
            pads, strides = node.attributes.get_ints("pads", [0] * 4), node.attributes.get_ints("strides")
            ends = [pad + stride - 1 for pad, stride in zip(pads[2:], strides, strict=True)]
            node.attributes.add(onnx_ir.AttrInt64("ceil_mode", 0))
            node.attributes.add(onnx_ir.AttrInt64s("pads", [*pads[:2], *ends]))


def _named_axes(shape: Any) -> Any:
    """Name the dynamic axes of N x H x W x C, N x K x H x W or N x H x W."""
    names = iter("NHW")
    return type(shape)([size if isinstance(size, int) else next(names) for size in shape])


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: what goes wrong is raised."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
