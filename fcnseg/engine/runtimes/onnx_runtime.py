"""The plain network in ONNX Runtime, at fp32: the reference that engines for processors are verified against."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np

from fcnseg.engine.graph import PLAIN, write_graph
from fcnseg.engine.onnx_session import session_of
from fcnseg.engine.runtimes.common import ClosesOnExit, check_inputs, check_memory, engine_info, output_names, too_large
from fcnseg.errors import EngineError, TooLargeError, is_out_of_memory
from fcnseg.recipes import Recipe
from fcnseg.types import Labels, Pixels, Probabilities
from fcnseg.weights.loading import load_whole_model


class ReferenceEngine(ClosesOnExit):
    """A graph with probabilities, in an implementation that none of the engines shares; see `types.Engine`."""

    def __init__(self, recipe: Recipe, graph: Path, folder: tempfile.TemporaryDirectory[str] | None = None) -> None:
        self.recipe, self.graph, self._folder = recipe, graph, folder
        self.info = engine_info(
            recipe,
            backend="onnxruntime",
            device="cpu",
            precision="fp32",
            weights_sha256="",
            versions={"onnxruntime": version("onnxruntime")},
        )
        self._session: Any = None

    def __enter__(self) -> Self:
        self._session = session_of(str(self.graph))
        return self

    def close(self) -> None:
        """Release the network, and the folder of a temporary graph."""
        self._session = None
        if self._folder:
            self._folder.cleanup()

    def infer(
        self, inputs: Mapping[str, Pixels], probabilities: bool = False
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        """Labels N x H x W of each head and, if asked, float32 probabilities N x K x H x W."""
        check_inputs(self.recipe, inputs)
        height, width = next(iter(inputs.values())).shape[1:3]
        check_memory(self.recipe, height, width, 4)
        names, heads = output_names(self.recipe, probabilities), [head.name for head in self.recipe.heads]
        try:
            results = self._session.run(names, {m: np.ascontiguousarray(inputs[m]) for m in self.recipe.modalities})
        except Exception as error:  # its errors share no other type
            if is_out_of_memory(error):
                raise TooLargeError(too_large(height, width)) from error
            raise EngineError(f"ONNX Runtime cannot run {width} x {height} pixels: {error}") from error
        labels = dict(zip(heads, results, strict=False))
        return labels, dict(zip(heads, results[len(heads) :], strict=True)) if probabilities else None


def reference_engine(recipe: Recipe, weights: Path | None = None) -> ReferenceEngine:
    """Return the reference of a recipe and its weights, not entered yet; its graph is a temporary file."""
    folder = tempfile.TemporaryDirectory(prefix="fcnseg-")
    loaded = load_whole_model(recipe, weights)
    graph = Path(folder.name) / "plain.onnx"
    write_graph(graph, recipe, loaded.tensors, probabilities="float32", form=PLAIN, separate_weights=True)
    return ReferenceEngine(recipe, graph, folder)
