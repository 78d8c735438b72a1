"""Export a model's graph as an ONNX file, for other runtimes."""

from __future__ import annotations

from pathlib import Path

from fcnseg.engine.graph import write_graph
from fcnseg.engine.graph_sizes import FixedSizes
from fcnseg.engine.runtimes.common import output_names
from fcnseg.errors import SettingsError
from fcnseg.recipes import MODALITIES, find_recipe
from fcnseg.types import AnyPath, optional_path
from fcnseg.weights.loading import load_whole_model


def export_model(
    model: str,
    out: AnyPath,
    *,
    weights: AnyPath | None = None,
    probabilities: str | None = None,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
) -> list[str]:
    """Write a model's graph as ONNX (see `write_graph`); returns a line for each input and output.

    `probabilities` ("float32" or "float16") adds outputs of class probabilities, N x K x H x W, in that type. `size`
    (height, width, in pixels) and `batch` (images) fix those axes, for runtimes that need it; None leaves them dynamic.

    Raises SettingsError for an unknown type or sizes below 1, OutputError if the file cannot be written, and the errors
    of weights.

    >>> import fcnseg
    >>> fcnseg.export_model("street-fcn8s", "street.onnx")
    ['input   color: uint8, N x H x W x 3', 'output  labels: uint8, N x H x W']
    """
    if probabilities not in (None, "float32", "float16"):
        raise SettingsError(f"probabilities of type {probabilities!r} are unknown; use float32 or float16")
    height, width = size or (None, None)
    fixed = FixedSizes(height, width, batch)
    if any(n < 1 for n in fixed.axes.values()):
        raise SettingsError(f"a graph of {fixed.axes} is none; give sizes and a batch of 1 or more")
    recipe = find_recipe(model)
    loaded = load_whole_model(recipe, optional_path(weights))
    digest = loaded.sha256
    write_graph(Path(out), recipe, loaded.tensors, probabilities=probabilities, weights_sha256=digest, fixed=fixed)
    n, h, w = (str(fixed.axes.get(axis, axis)) for axis in "NHW")
    inputs = [
        f"{m}: {'float32' if m == 'depth' else 'uint8'}, {n} x {h} x {w} x {MODALITIES[m]}" for m in recipe.modalities
    ]
    labels = [
        f"{head.name}: {'uint8' if head.labels.classes <= 256 else 'uint16'}, {n} x {h} x {w}" for head in recipe.heads
    ]
    names = output_names(recipe, True)[len(labels) :] if probabilities else ()
    values = [
        f"{name}: {probabilities}, {n} x {head.labels.classes} x {h} x {w}"
        for name, head in zip(names, recipe.heads, strict=bool(names))
    ]
    return [*(f"input   {line}" for line in inputs), *(f"output  {line}" for line in labels + values)]
