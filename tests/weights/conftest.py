"""Small networks and their numbers, in the forms that users have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from torchvision.models.vgg import make_layers

from fcnseg.models import FCN, network_spec
from fcnseg.recipes import Recipe, load_recipe

Arrays = dict[str, np.ndarray]
MakeRecipe = Callable[..., Recipe]

RECIPE = """
name = "{name}"
[architecture]
backbone = "{backbone}"
stride = {stride}
geometry = "{geometry}"
width = {width}
fc_width = {fc_width}
{skips}
[[streams]]
[[streams.inputs]]
modality = "{modality}"
order = "{order}"
mean = {mean}
[[heads]]
classes = ["a", "b", "c"]
"""

DEFAULTS = {
    "name": "small",
    "backbone": "vgg16",
    "stride": 8,
    "geometry": "same",
    "width": 0.07,
    "fc_width": 8,
    "skips": "",
    "modality": "color",
    "order": "bgr",
    "mean": [104.0, 117.0, 123.0],
}


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCNSEG_HOME", str(tmp_path / "home"))


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """Writes and reads a small recipe: `recipe(stride=32)`."""

    def make(**changes: object) -> Recipe:
        values = DEFAULTS | changes
        path = tmp_path / f"{values['name']}.toml"
        path.write_text(RECIPE.format(**values))
        return load_recipe(path)

    return make


def numbers(recipe: Recipe, seed: int = 0) -> Arrays:
    """Random float32 numbers for every tensor of the recipe's network, deconvolutions K x 1 x k x k."""
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in FCN(network_spec(recipe)).state_dict().items()}
    draw = np.random.default_rng(seed)
    return {k: draw.normal(0, 0.05, s).astype(np.float32) for k, s in shapes.items()}


def dense(kernels: np.ndarray) -> np.ndarray:
    """K x 1 x k x k as Caffe keeps it: K x K x k x k, zero off the diagonal."""
    k = len(kernels)
    whole = np.zeros((k, k, *kernels.shape[2:]), kernels.dtype)
    whole[np.arange(k), np.arange(k)] = kernels[:, 0]
    return whole


def as_caffe(arrays: Arrays) -> dict[str, list[np.ndarray]]:
    """Blobs by layer."""
    blobs: dict[str, list[np.ndarray]] = {}
    for name, array in arrays.items():
        layer = name.rpartition(".")[0]
        blobs.setdefault(layer, []).append(dense(array) if layer.startswith("upscore") else array)
    return blobs


def as_torch(arrays: Arrays) -> dict[str, torch.Tensor]:
    """A state dict with dense deconvolutions, as pytorch-fcn's."""
    return {k: torch.tensor(dense(v) if k.startswith("upscore") else v) for k, v in arrays.items()}


def check(out: Path, expected: Arrays) -> dict[str, str]:
    """The file holds exactly these numbers, read by the safetensors library; its metadata."""
    found = load_file(out)
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == np.float32
    with safe_open(out, "np") as file:
        return dict(file.metadata())


def legacy(arrays: Arrays) -> Arrays:
    """As the older classifiers have it: fc6 and fc7 are inner products."""
    return {k: v.reshape(len(v), -1) if k in ("fc6.weight", "fc7.weight") else v for k, v in arrays.items()}


def torchvision_vgg16(recipe: Recipe) -> tuple[torch.nn.Module, torch.nn.Module]:
    """torchvision's own VGG-16 layers, as narrow as the recipe: features, classifier."""
    shapes = {k: v.shape for k, v in numbers(recipe).items()}
    widths = [shapes[f"conv{b}_1.weight"][0] for b in range(1, 6)]
    plan = [w for width, n in zip(widths, (2, 2, 3, 3, 3), strict=True) for w in (*[width] * n, "M")]
    nn = torch.nn
    features = make_layers(plan)  # type: ignore[arg-type]
    parts = (nn.Linear(widths[-1] * 49, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.ReLU(), nn.Dropout())
    return features, nn.Sequential(*parts, nn.Linear(8, 10)).eval()
