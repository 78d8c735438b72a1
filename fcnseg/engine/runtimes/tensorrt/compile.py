"""Compile engines by TensorRT, where each precision has a graph of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from fcnseg.engine.precision import is_homogeneous, measure_ranges, quantize, with_headroom
from fcnseg.engine.runtimes.common import GraphSource
from fcnseg.engine.runtimes.tensorrt.plan import build_plan
from fcnseg.models import network_spec

if TYPE_CHECKING:
    from fcnseg.engine.identity import EngineIdentity


def compile_engines(builder: GraphSource, identity: EngineIdentity, outputs: Mapping[Path, Sequence[str]]) -> Path:
    """Write plans with the outputs named for each file; returns the graph they were made of."""
    graph = _typed_graph(builder, identity)
    for number, (file, names) in enumerate(outputs.items()):
        begin, share = 0.15 + 0.25 * number / len(outputs), 0.25 / len(outputs)
        plan = build_plan(
            graph,
            identity.backend,
            identity.shapes,
            outputs=names,
            on_progress=lambda phase, fraction: builder.on_progress(phase.lower(), begin + share * fraction),  # noqa: B023
        )
        file.write_bytes(plan)
    return graph


def _typed_graph(builder: GraphSource, identity: EngineIdentity) -> Path:
    precision, spec = identity.precision, network_spec(builder.recipe)
    if precision == "fp32":
        return builder.graph_file()
    if precision != "int8":
        weights = builder.weights()
        if precision == "fp16" and is_homogeneous(spec):
            weights = with_headroom(weights, spec)
        return builder.write(precision, weights=weights, precision=precision)
    builder.on_progress("calibrating", 0.1)
    model = onnx.load(builder.plain_graph_file())
    file = builder.work / "int8.onnx"
    onnx.save(quantize(model, measure_ranges(model, builder.calibration())), file, save_as_external_data=True)
    return file
