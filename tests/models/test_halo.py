"""The halo is what networks really see: not a pixel less, and nowhere a pixel more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fcnseg.models import FCN, Head, NetworkSpec, Stream
from fcnseg.models.backbones import Geometry
from fcnseg.models.halo import Halo, halo_of

NETWORKS: list[tuple[str, int]] = [("vgg16", 32), ("vgg16", 16), ("vgg16", 8), ("alexnet", 32), ("googlenet", 32)]


def network(spec: NetworkSpec) -> FCN:
    """Random positive weights and no bias: a black image scores 0, and a bright pixel raises all that it reaches."""
    built = FCN(spec).eval()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for name, parameter in built.named_parameters():
            parameter.uniform_(0.5, 1.0) if name.endswith("weight") else parameter.zero_()
    return built


def reached(built: FCN, place: Callable[[Tensor], Tensor], size: int, pixel: int) -> tuple[int, int]:
    """The first and the last pixel along an axis whose scores a bright pixel changes."""
    images = [torch.zeros(1, stream.channels, 1, size) for stream in built.spec.streams]
    images[-1][..., pixel] = 1.0
    with torch.inference_mode():
        scores = built(*map(place, images))
    where = torch.cat([s.flatten(2) for s in scores], dim=1).any(dim=1).nonzero()[:, 1]
    return int(where.min()), int(where.max())


def along_rows(image: Tensor) -> Tensor:
    return image


def along_columns(image: Tensor) -> Tensor:
    return image.mT


def holds(spec: NetworkSpec, place: Callable[[Tensor], Tensor] = along_rows) -> None:
    halo = halo_of(spec)
    first = halo.after_px + halo.step_px
    pixels = range(first, first + halo.step_px)
    size = pixels[-1] + halo.before_px + halo.step_px
    built = network(spec)
    seen = [(pixel, *reached(built, place, size, pixel)) for pixel in pixels]
    before = max(last - pixel for pixel, _, last in seen)
    after = max(pixel - start for pixel, start, _ in seen)
    assert (before, after) == (halo.before_px, halo.after_px)


@pytest.mark.parametrize("geometry", ["caffe", "same"])
@pytest.mark.parametrize(("backbone", "stride"), NETWORKS)
def test_no_score_sees_further_and_some_see_as_far(backbone: str, stride: int, geometry: Geometry) -> None:
    holds(NetworkSpec(backbone, stride, (Head(2),), geometry=geometry, width=1 / 32, fc_width=2))


def test_columns_are_as_rows() -> None:
    holds(NetworkSpec("vgg16", 8, (Head(2),), geometry="same", width=1 / 32, fc_width=2), along_columns)


def test_heads_and_streams_see_alike() -> None:
    heads, streams = (Head(2, "_a"), Head(3, "_b")), (Stream(suffix="color"), Stream(4, "hha"))
    holds(NetworkSpec("vgg16", 16, heads, streams, "same", 1 / 32, 2))


def test_the_halo_is_the_receptive_field_and_the_reach_of_the_upsampling() -> None:
    """FCN-32s: 404 px (paper, table 1) around a sample; a pixel mixes two samples, 32 px apart, on each axis."""
    halo = halo_of(NetworkSpec("vgg16", 32, (Head(21),)))
    assert halo == Halo(233, 233, 32)
    assert halo.before_px + 1 + halo.after_px - 404 == 32 + 31
