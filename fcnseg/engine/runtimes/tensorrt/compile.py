"""Compile engines by TensorRT, where each precision has a graph of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from fcnseg.engine.graph import LabelGraph
from fcnseg.engine.precision import cast_trunk, measure_ranges, quantize
from fcnseg.engine.runtimes.common import GraphSource
from fcnseg.engine.runtimes.tensorrt.plan import build_plan
from fcnseg.weights.loading import load_whole_network

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
    if identity.precision == "fp32":
        return builder.graph_file(identity)
    network = load_whole_network(builder.recipe, builder.weights).network
    if identity.precision != "int8":
        cast_trunk(network, identity.precision)
        return builder.export(network, identity.precision, identity)
    builder.on_progress("calibrating", 0.1)
    ranges = measure_ranges(LabelGraph(network, builder.recipe).eval(), builder.calibration())
    file = builder.work / "int8.onnx"
    plain = builder.export(network, "plain", identity, skip_margins=False)  # whose layers the ranges were measured at
    onnx.save(quantize(onnx.load(plain), ranges), file, save_as_external_data=True)
    return file
