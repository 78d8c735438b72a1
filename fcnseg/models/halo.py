"""Which pixels the scores of a pixel depend on: what an image may be cut into without a score changing.

A network of sliding windows gives the same score wherever it looks, as long as it sees the same: all pixels of its
influence, and the image's borders where those lie within it. Moving an image by a multiple of the coarsest stride moves
every map by whole samples. Both axes are alike; the arithmetic is that of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fcnseg.models.backbones import Layer, backbone_layers, grids, windows
from fcnseg.models.geometry import Window
from fcnseg.models.spec import NetworkSpec, plan_fusion


@dataclass(frozen=True)
class Halo:
    """A pixel's scores depend on no pixel further than `before_px` before it or `after_px` after it, along an axis.

    `step_px` is by how much an image may move with its scores: the stride of the coarsest map.
    """

    before_px: int
    after_px: int
    step_px: int


def halo_of(spec: NetworkSpec) -> Halo:
    """The influence of a network: through the trunk, the skip layers and the upsampling, whatever its weights."""
    layers = backbone_layers(spec.backbone, spec.geometry)
    step_px = int(grids(layers)[layers[-1].name].step_px)
    seen = [(pixel, *_pixels_seen(spec, layers, pixel)) for pixel in range(step_px)]  # further pixels repeat these
    return Halo(max(p - first for p, first, _ in seen), max(last - p for p, _, last in seen), step_px)


def _pixels_seen(spec: NetworkSpec, layers: tuple[Layer, ...], pixel: int) -> tuple[int, int]:
    """The first and the last image coordinate that a pixel's scores depend on, borders left aside."""
    names = [layer.name for layer in layers]
    first = last = pixel
    seen = []
    for step in reversed(plan_fusion(spec)):
        if step.target is not None:
            cut = max(0, -step.offset)
            trunk = layers[: names.index(step.target) + 1]
            seen.append(_before(trunk, first + cut, last + cut))
        uncropped = max(0, step.offset)
        first, last = _upsampled_from(step.window, first + uncropped, last + uncropped)
    seen.append(_before(layers, first, last))
    return min(first for first, _ in seen), max(last for _, last in seen)


def _upsampled_from(window: Window, first: int, last: int) -> tuple[int, int]:
    """The samples whose kernels a deconvolution lays over the outputs first to last."""
    return -((window.kernel - 1 - first) // window.stride), last // window.stride


def _before(layers: Iterable[Layer], first: int, last: int) -> tuple[int, int]:
    """The image coordinates that the samples first to last of the last layer's output are computed from."""
    for window in reversed([window for layer in layers for window in windows(layer)]):
        first, last = first * window.stride - window.pad, last * window.stride - window.pad + window.kernel - 1
    return first, last
