"""Halo: the pixels around a pixel that its scores depend on.

Tiles that overlap by the halo give the scores of the whole image: a network of sliding windows gives the same score
wherever its halo holds the same pixels, and the image's borders at the same places if they lie within it. Moving an
image by a multiple of the coarsest stride moves every feature map by whole samples. Both axes are alike; the arithmetic
is that of one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from fcnseg.models.backbones import INTERPOLATED, Layer, backbone_layers, grids, windows
from fcnseg.models.geometry import Window
from fcnseg.models.spec import NetworkSpec, plan_fusion


@dataclass(frozen=True)
class Halo:
    """Along an axis, a pixel's scores depend on at most `before_px` pixels before it and `after_px` after it.

    Scores move with the image if it moves by a multiple of `step_px`, the stride of the coarsest feature map. Where
    they are interpolated to the image's size, its side must be a multiple of `side_px` too: else their scale is one
    that no tile has.
    """

    before_px: int
    after_px: int
    step_px: int
    side_px: int = 1


def halo_of(spec: NetworkSpec) -> Halo:
    """Return the halo of a network, through trunk, skip layers and upsampling, whatever its weights."""
    layers = backbone_layers(spec.backbone, spec.geometry)
    step_px = int(grids(layers)[layers[-1].name].step_px)
    pixels = range(step_px)  # further pixels repeat these
    fields = [(pixel, *_receptive_field(spec, layers, pixel)) for pixel in pixels]
    side_px = step_px if spec.backbone in INTERPOLATED else 1
    return Halo(max(p - first for p, first, _ in fields), max(last - p for p, _, last in fields), step_px, side_px)


def _receptive_field(spec: NetworkSpec, layers: tuple[Layer, ...], pixel: int) -> tuple[int, int]:
    """Return the first and last image coordinate that a pixel's scores depend on; they may lie outside the image."""
    names = [layer.name for layer in layers]
    first = last = pixel
    fields = []
    if spec.backbone in INTERPOLATED:  # between two samples, whose centres are at (stride - 1) / 2 + stride x i
        first = (2 * pixel + 1 - spec.stride) // (2 * spec.stride)
        return _inputs_of(layers, first, first + 1)
    for step in reversed(plan_fusion(spec)):
        if step.target is not None:
            cut = max(0, -step.offset)
            trunk = layers[: names.index(step.target) + 1]
            fields.append(_inputs_of(trunk, first + cut, last + cut))
        uncropped = max(0, step.offset)
        first, last = _upsampled_from(step.window, first + uncropped, last + uncropped)
    fields.append(_inputs_of(layers, first, last))
    return min(first for first, _ in fields), max(last for _, last in fields)


def _upsampled_from(window: Window, first: int, last: int) -> tuple[int, int]:
    """Return the first and last sample whose kernels cover the outputs `first` to `last` of a deconvolution."""
    return -((window.kernel - 1 - first) // window.stride), last // window.stride


def _inputs_of(layers: Iterable[Layer], first: int, last: int) -> tuple[int, int]:
    """Return the first and last image coordinate that samples `first` to `last` of the layers' output depend on."""
    for window in reversed([window for layer in layers for window in windows(layer)]):
        first, last = first * window.stride - window.pad, last * window.stride - window.pad + window.span - 1
    return first, last
