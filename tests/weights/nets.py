"""Small networks' tensors, as the files of users hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fcnseg.recipes import Recipe, load_recipe
from fcnseg.weights.fit import expected_shapes

RECIPE = """
name = "{name}"
[architecture]
backbone = "{backbone}"
stride = {stride}
width = 0.07
fc_width = 6
{extra}
[[streams]]
[[streams.inputs]]
modality = "color"
order = "bgr"
mean = {mean}
[[heads]]
classes = ["a", "b", "c"]
"""


def make_recipe(
    folder: Path,
    name: str = "net",
    backbone: str = "vgg16",
    stride: int = 8,
    extra: str = "",
    mean: Sequence[float] = (104.0, 116.5, 122.5),
) -> Recipe:
    path = folder / f"{name}.toml"
    path.write_text(RECIPE.format(name=name, backbone=backbone, stride=stride, extra=extra, mean=list(mean)))
    return load_recipe(path)


def random_tensors(recipe: Recipe, seed: int = 0, *, dense: bool = True) -> dict[str, np.ndarray]:
    """Random float32 tensors of a recipe's network; deconvolutions as Caffe's dense K x K x k x k, diagonal."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in expected_shapes(recipe).items():
        values = rng.standard_normal(shape, dtype=np.float32)
        if name.startswith("upscore") and dense:
            full = np.zeros((shape[0], *shape[:1], *shape[2:]), np.float32)
            full[np.arange(shape[0]), np.arange(shape[0])] = values[:, 0]
            values = full
        tensors[name] = values
    return tensors


def blobs(tensors: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """The tensors by layer, weight before bias."""
    found: dict[str, list[np.ndarray]] = {}
    for name, array in tensors.items():
        found.setdefault(name.rpartition(".")[0], []).append(array)
    return found


def diagonal(name: str, array: np.ndarray) -> np.ndarray:
    """What the network holds of a tensor: one kernel a class."""
    if not name.startswith("upscore"):
        return array
    k = np.arange(array.shape[0])
    return array[k, k][:, None]
