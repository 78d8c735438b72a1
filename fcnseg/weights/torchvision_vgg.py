"""VGG-16 weights under torchvision's names, and the input that they expect.

torchvision's own VGG-16 takes RGB in 0..1, minus a mean, over a standard deviation; pytorch-fcn's
`vgg16_from_caffe.pth` has the same names but Caffe's input (BGR, 0..255, minus a mean), which is ours. The first is
folded into `conv1_1`: w' = w / (255 std) per channel, in our channel order, and the bias takes the difference of the
two means. Zero padding then stands for the recipe's mean colour: the fold is exact up to the border where the two
means are equal, and inside it where they differ.

Sources: torchvision.models.vgg (layer numbers), torchvision's weight documentation (mean and deviation).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fcnseg.errors import SettingsError, WeightsMismatchError
from fcnseg.recipes import Recipe
from fcnseg.weights.tensors import Array
from fcnseg.weights.torchvision_fcn import is_fcn

CONVENTIONS = ("caffe", "torchvision")
MEAN_RGB = np.array([0.485, 0.456, 0.406]) * 255
DEVIATION_RGB = np.array([0.229, 0.224, 0.225]) * 255

_CONV_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_CONV_NAMES = [f"conv{b}_{i}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]
NAMES = {
    **{f"features.{n}": name for n, name in zip(_CONV_NUMBERS, _CONV_NAMES, strict=True)},
    "classifier.0": "fc6",
    "classifier.3": "fc7",
    "classifier.6": "fc8",
}

FROM_CAFFE_MD5 = "aa75b158f4181e7f6230029eb96c1b13"
"""The MD5 of pytorch-fcn's `vgg16_from_caffe.pth`, from its downloader."""


def renamed(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return tensors named as in torchvision's VGG-16 under Caffe's names, all others unchanged."""
    return {_renamed(key): value for key, value in tensors.items()} if _is_vgg16(tensors) else dict(tensors)


def check_convention(convention: str | None) -> None:
    """Raise SettingsError for an unknown convention."""
    if convention not in (None, *CONVENTIONS):
        raise SettingsError(f"convention {convention!r} is unknown; use caffe or torchvision")


def convention_of(path: Path, tensors: Mapping[str, Array]) -> str:
    """Return the convention of a file's tensors: torchvision's if they have its names, except for pytorch-fcn's copy of
    Caffe's."""
    if is_fcn(tensors):
        return "torchvision"
    return "torchvision" if _is_vgg16(tensors) and not _is_from_caffe(path) else "caffe"


def folded(weight: Array, bias: Array, recipe: Recipe) -> tuple[Array, Array]:
    """Return the first convolution for our input (the recipe's order, 0..255, minus its mean), float32.

    Raises SettingsError unless the recipe takes one colour image.
    """
    inputs = [image for stream in recipe.streams for image in stream.inputs]
    if [image.modality for image in inputs] != ["color"]:
        raise SettingsError(f"the torchvision convention is for one colour image; {recipe.name} takes other inputs")
    source = inputs[0]
    order = slice(None, None, -1) if source.order == "bgr" else slice(None)
    scaled = (weight.astype(np.float64) / DEVIATION_RGB[:, None, None])[:, order]
    difference = np.array(source.mean) - MEAN_RGB[order]
    moved = bias.astype(np.float64) + (scaled.sum((2, 3)) * difference).sum(1)
    return scaled.astype(np.float32), moved.astype(np.float32)


def _renamed(key: str) -> str:
    layer, _, kind = key.rpartition(".")
    return f"{NAMES[layer]}.{kind}" if layer in NAMES else key


def _is_vgg16(tensors: Mapping[str, Array]) -> bool:
    layers = {key.rpartition(".")[0] for key in tensors if key.startswith("features.")}
    return layers == {f"features.{n}" for n in _CONV_NUMBERS}


def _is_from_caffe(path: Path) -> bool:
    if path.name.startswith("vgg16_from_caffe"):
        return True
    with path.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest() == FROM_CAFFE_MD5


def refuse_other_networks(path: Path, tensors: Mapping[str, Array]) -> None:
    """Raise WeightsMismatchError for torchvision's AlexNet and GoogLeNet, which only share the paper's names."""
    first = tensors.get("features.0.weight")
    if first is not None and first.shape[2:] == (11, 11):
        raise WeightsMismatchError(
            f"{path} is torchvision's AlexNet, another network than the paper's (no groups, no normalisation, "
            "other widths); use bvlc_alexnet.caffemodel"
        )
    if "inception3a.branch1.conv.weight" in tensors:
        raise WeightsMismatchError(
            f"{path} is torchvision's GoogLeNet, another network than the paper's (batch normalisation, 3x3 in "
            "place of 5x5); use bvlc_googlenet.caffemodel"
        )
