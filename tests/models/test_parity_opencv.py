"""Every network against OpenCV's reading of the same Caffe files: an implementation nobody here wrote.

Definitions (paddings, kernels, crop offsets typed in) come from `tests.caffe_definitions`, weights are
random, and both programs get the same numbers. Deconvolution kernels are random too: bilinear ones would
hide a misalignment.

OpenCV reads these files as Caffe does and needs no workaround: it rounds pooling up, divides LRN's alpha by
its size, takes a crop's one offset for both axes, weighs Eltwise sums, and accepts dense deconvolutions, old
files and any image size at a definition without input shapes. Its Winograd convolutions stay on: they cost
a few units in the sixth digit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fcnseg.models import FCN, NetworkSpec, network_spec
from fcnseg.models.layers import deconvolution_names
from fcnseg.recipes import find_recipe, recipe_names
from tests.caffe_definitions import NETWORKS, Definition, caffe_definition
from tests.caffe_files import write_caffemodel

Array = np.ndarray[Any, np.dtype[np.float32]]
Blobs = dict[str, list[Array]]

SIZES = ((1, 1), (33, 17), (71, 20), (24, 99))
TOLERANCE = 1e-4
"""Of the largest score. What is measured is near 1e-6; a shift by one sample is near 1."""

WIDTH, FC_WIDTH = 1 / 8, 32
V1_NETWORKS = ("voc-fcn32s", "voc-fcn-alexnet", "voc-fcn-googlenet", "nyud-fcn32s-color-hha")


def narrow(channels: int) -> int:
    """An eighth, even."""
    return max(2, 2 * round(channels * WIDTH / 2))


def random_blobs(definition: Definition, seed: int, dense: frozenset[str] = frozenset()) -> Blobs:
    """Weights that keep activations at the scale of the input, so that every term of the scores counts.

    A deconvolution gets another random kernel for every class, zero between classes unless it is in `dense`.
    """
    random = np.random.default_rng(seed)

    def normal(shape: tuple[int, ...], scale: float) -> Array:
        return random.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    skip_scales = {"score_pool4": 0.01, "score_pool3": 0.0001} if "scale_pool4" in definition.blobs else {}
    blobs: Blobs = {}
    for name, shapes in definition.blobs.items():
        kind, shape = definition.types[name], shapes[0]
        if kind == "Scale":
            mean = skip_scales[name.replace("scale", "score")]
            blobs[name] = [(mean * random.uniform(0.5, 1.5, shape)).astype(np.float32)]
        elif kind == "Deconvolution":
            mixing = np.ones(shape[:2], np.float32) if name in dense else np.eye(shape[0], dtype=np.float32)
            blobs[name] = [normal(shape, 0.5) * mixing[:, :, None, None]]
        else:
            gain = 1 / skip_scales.get(name, 1) if name.startswith("score_") else 2**0.5
            blobs[name] = [normal(shape, gain * np.prod(shape[1:]) ** -0.5), normal(shapes[1], 10)]
    return blobs


def loaded(spec: NetworkSpec, blobs: Blobs, dense: frozenset[str] = frozenset()) -> FCN:
    """Our network with these numbers; names and shapes must all fit. Diagonal kernels become one a class."""
    grouped = set(deconvolution_names(spec)) - dense
    state: dict[str, torch.Tensor] = {}
    for name, arrays in blobs.items():
        weight = arrays[0]
        if name in grouped:
            weight = weight[range(len(weight)), range(len(weight))][:, None]
        state[f"{name}.weight"] = torch.from_numpy(weight)
        if len(arrays) > 1:
            state[f"{name}.bias"] = torch.from_numpy(arrays[1])
    with torch.device("meta"):
        network = FCN(spec, dense)
    network.load_state_dict(state, assign=True)
    return network.eval()


@dataclass(frozen=True)
class Agreement:
    """The largest difference as a share of the largest score; the share of pixels too near a tie to call."""

    error: float
    ties: float


def compared(ours: Array, theirs: Array) -> Agreement:
    """Checks shapes, scores and, wherever the two best scores are not within the tolerance, labels."""
    assert ours.shape == theirs.shape
    largest = float(np.abs(theirs).max())
    assert np.isfinite(largest)
    error = float(np.abs(ours - theirs).max()) / largest
    assert error < TOLERANCE
    best = np.sort(theirs, axis=1)
    clear = best[:, -1] - best[:, -2] > 2 * TOLERANCE * largest
    assert np.array_equal(ours.argmax(1)[clear], theirs.argmax(1)[clear])
    return Agreement(error, 1 - float(clear.mean()))


class Pair:
    """The same network twice: read by OpenCV from its files, and ours."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        whole: bool = False,
        generation: str = "layer",
        dense: frozenset[str] = frozenset(),
    ) -> None:
        spec = network_spec(find_recipe(name))
        definition = caffe_definition(name) if whole else caffe_definition(name, narrow, FC_WIDTH)
        spec = spec if whole else replace(spec, width=WIDTH, fc_width=FC_WIDTH)
        blobs = random_blobs(definition, len(name), dense)
        text = folder / "net.prototxt"
        text.write_text(definition.text)
        weights = write_caffemodel(folder / "net.caffemodel", blobs, definition.types, generation=generation)
        self.ours = loaded(spec, blobs, dense)
        self.theirs = cv2.dnn.readNetFromCaffe(str(text), str(weights))
        weights.unlink()
        self.inputs, self.outputs = definition.inputs, definition.outputs

    def run(self, images: list[Array]) -> list[tuple[Array, Array]]:
        """For each head our scores and OpenCV's."""
        for name, image in zip(self.inputs, images, strict=True):
            self.theirs.setInput(image, name)
        theirs = self.theirs.forward(self.outputs)
        with torch.inference_mode():
            ours = self.ours(*(torch.from_numpy(image) for image in images))
        return [(a.numpy(), np.asarray(b, np.float32)) for a, b in zip(ours, theirs, strict=True)]

    def images(self, size: tuple[int, int], batch: int = 1) -> list[Array]:
        """Random inputs at the scale of photographs less their mean."""
        random = np.random.default_rng(size)
        shapes = [(batch, stream.channels, *size) for stream in self.ours.spec.streams]
        return [random.normal(0, 60, shape).astype(np.float32) for shape in shapes]

    def compared(self, *sizes: tuple[int, int]) -> list[Agreement]:
        return [compared(*scores) for size in sizes for scores in self.run(self.images(size))]


def report(name: str, found: list[Agreement]) -> None:
    """The measured figures, shown by `pytest -rP`."""
    worst, ties = max(a.error for a in found), max(a.ties for a in found)
    print(f"parity {name}: largest error {worst:.1e} of the largest score, ties {ties:.2%}")
    assert ties < 0.05


def test_every_recipe_in_the_release_geometry_has_a_definition() -> None:
    recipes = {name for name in recipe_names() if find_recipe(name).architecture.geometry == "caffe"}
    assert recipes == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_equal_opencvs(tmp_path: Path, name: str) -> None:
    report(name, Pair(tmp_path, name).compared(*SIZES))


@pytest.mark.parametrize("name", V1_NETWORKS)
def test_scores_equal_opencvs_reading_of_the_older_file(tmp_path: Path, name: str) -> None:
    report(f"{name}, V1 file", Pair(tmp_path, name, generation="layers").compared((30, 41)))


@pytest.mark.parametrize(
    ("name", "dense"),
    [
        ("voc-fcn8s", {"upscore2", "upscore_pool4", "upscore8"}),
        ("voc-fcn8s", {"upscore_pool4"}),
        ("voc-fcn-alexnet", {"upscore"}),
        ("siftflow-fcn16s", {"upscore16_sem", "upscore2_geo"}),
    ],
)
def test_deconvolutions_that_mix_classes_equal_opencvs(tmp_path: Path, name: str, dense: set[str]) -> None:
    found = Pair(tmp_path, name, dense=frozenset(dense)).compared((1, 1), (40, 27))
    report(f"{name}, dense {', '.join(sorted(dense))}", found)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_comparison_sees_every_input(tmp_path: Path, name: str) -> None:
    """Another image in any stream changes the scores far more than the tolerance: the nets are not dead."""
    pair = Pair(tmp_path, name)
    images = pair.images((48, 64), batch=2)
    (ours, theirs), *_ = pair.run(images)
    compared(ours, theirs)
    for index in range(len(images)):
        changed = [image[:1] if i != index else image[1:] for i, image in enumerate(images)]
        (other, _), *_ = pair.run(changed)
        assert np.abs(other - ours[:1]).max() > 0.01 * np.abs(ours).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["voc-fcn8s", "voc-fcn-alexnet"])
def test_the_whole_width_equals_opencvs(tmp_path: Path, name: str) -> None:
    """Over half a gigabyte of weights each way for VGG-16; one size."""
    report(f"{name}, whole width", Pair(tmp_path, name, whole=True).compared((64, 80)))
