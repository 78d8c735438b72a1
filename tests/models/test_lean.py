"""The network with less to do against the network: the same scores at every kind of size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fcnseg.engine.runtimes.pytorch import lower_trunk
from fcnseg.models import FCN, Head, NetworkSpec, Stream
from fcnseg.models.layers import bilinear_kernel
from fcnseg.models.lean import SIZES_KEPT, Interpolation, LeanFCN
from tests.models.test_margins import EARLY, LATE, build, pictures, spec

VARIANTS = [spec(8), spec(16, EARLY), spec(32, LATE), spec(8, LATE), replace(spec(8), geometry="same")]
PAIRS = [(network, LeanFCN.of(network)) for network in map(build, VARIANTS)]


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(range(len(VARIANTS))), st.integers(1, 150), st.integers(1, 150), st.integers(1, 3))
def test_scores_are_the_same_at_every_size(variant: int, height: int, width: int, batch: int) -> None:
    plain, lean = PAIRS[variant]
    images = pictures(plain, height, width, batch)
    with torch.inference_mode():
        for _ in range(2):  # with surroundings that are new, and that are kept
            for stream, image in zip(plain.spec.streams, images, strict=True):
                expected = plain.trunk(stream, image)
                for name, found in lean.trunk(stream, image).items():
                    assert found.shape == expected[name].shape
                    assert (found - expected[name]).abs().max() <= 1e-5 * expected[name].abs().max()
            (wanted,), (scores,) = plain(*images), lean(*images)
            assert (scores - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(33, 97), (64, 48), (101, 16)])
def test_margins_are_those_of_the_plain_trunk_in_its_own_precision(dtype: torch.dtype, size: tuple[int, int]) -> None:
    plain, lean = build(spec(8)), LeanFCN.of(build(spec(8)))
    for network in (plain, lean):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        lower_trunk(network, dtype)
    (image,) = pictures(plain, *size, batch=2)
    with torch.inference_mode():
        expected, found = (network.trunk(plain.spec.streams[0], image)["pool4"] for network in (plain, lean))
    error = (found - expected).abs().max() / expected.abs().max()
    assert error <= (1e-5 if dtype == torch.float32 else 0.01)


def test_a_window_that_misses_a_cell_would_be_seen() -> None:
    """The tolerance is far below what one wrong cell of background changes."""
    plain, lean = PAIRS[0]
    (image,) = pictures(plain, 64, 64)
    with torch.inference_mode():
        around = lean._windowed[0].surroundings(64, 64)
        wrong = around._replace(backgrounds=tuple(b * 1.01 for b in around.backgrounds))
        found = lean._windowed[0](image, wrong)["pool4"]
        expected = plain.trunk(plain.spec.streams[0], image)["pool4"]
    assert (found - expected).abs().max() > 1e-4 * expected.abs().max()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([2, 4, 8, 16, 32]))
def test_interpolation_is_the_bilinear_deconvolution(height: int, width: int, stride: int) -> None:
    deconvolution = nn.ConvTranspose2d(3, 3, 2 * stride, stride, groups=3, bias=False)
    deconvolution.weight = nn.Parameter(torch.from_numpy(bilinear_kernel(2 * stride)).expand(3, 1, -1, -1))
    x = torch.randn(2, 3, height, width)
    with torch.inference_mode():
        expected, found = deconvolution(x), Interpolation(stride)(x)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-6 * x.abs().max()


def test_deconvolutions_that_were_trained_stay() -> None:
    network = build(spec(8))
    with torch.no_grad():
        network.get_submodule("upscore8").weight[0, 0, 3, 3] += 0.01  # type: ignore[operator, index]
    lean = LeanFCN.of(network)
    assert isinstance(lean.get_submodule("upscore8"), nn.ConvTranspose2d)
    assert isinstance(lean.get_submodule("upscore2"), Interpolation)
    alexnet = FCN(NetworkSpec("alexnet", 32, (Head(3),), width=1 / 16, fc_width=4))
    assert isinstance(LeanFCN.of(alexnet).get_submodule("upscore"), nn.ConvTranspose2d)  # of 63 pixels: no such one


def test_surroundings_are_kept_of_the_last_sizes_alone() -> None:
    _, lean = PAIRS[0]
    first = lean.surroundings(3, 3)
    assert lean.surroundings(3, 3) is first
    for width in range(4, 4 + SIZES_KEPT):
        lean.surroundings(3, width)
    assert lean.surroundings(3, 3) is not first
    assert len(lean._surroundings) == SIZES_KEPT


def test_what_has_no_margins_has_no_surroundings() -> None:
    for of in (spec(8, (Stream(),)), NetworkSpec("googlenet", 32, (Head(3),), width=1 / 16, fc_width=4)):
        network = LeanFCN.of(build(replace(of, geometry="same")))
        assert network.surroundings(9, 9) == ()
