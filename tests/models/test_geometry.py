"""The grids of the layers: the release's numbers come out of them, and they tell what tiny networks do."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnseg.models import network_spec
from fcnseg.models.backbones import VGG16, backbone_layers, grids, receptive_field_px
from fcnseg.models.geometry import IMAGE, Grid, Window, crop_offset, upsampling_window
from fcnseg.models.layers import bilinear_kernel, parameter_count
from fcnseg.models.spec import Head, NetworkSpec, plan_fusion
from fcnseg.recipes import find_recipe
from tests.caffe_definitions import NETWORKS, caffe_definition

# ---------------------------------------------------------------------- the published numbers

FUSIONS = {
    ("vgg16", 32): [("upscore", 64, 32, 19)],
    ("vgg16", 16): [("upscore2", 4, 2, -5), ("upscore16", 32, 16, 27)],
    ("vgg16", 8): [("upscore2", 4, 2, -5), ("upscore_pool4", 4, 2, -9), ("upscore8", 16, 8, 31)],
    ("alexnet", 32): [("upscore", 63, 32, 18)],
    ("googlenet", 32): [("upscore", 63, 32, 98)],
}
"""Name, kernel, stride and offset in the caffe geometry; a negative offset crops the skip layer's score."""


@pytest.mark.parametrize(("backbone", "stride"), FUSIONS)
def test_kernels_and_crop_offsets_are_those_of_the_release(backbone: str, stride: int) -> None:
    steps = plan_fusion(NetworkSpec(backbone, stride, (Head(21),)))
    assert [(s.name, s.window.kernel, s.window.stride, s.offset) for s in steps] == FUSIONS[backbone, stride]
    assert steps[-1].target is None


def test_score_layers_lie_at_strides_of_32_16_and_8() -> None:
    for backbone in ("vgg16", "alexnet", "googlenet"):
        layers = backbone_layers(backbone, "caffe")
        assert grids(layers)[layers[-1].name].step_px == 32
    vgg = grids(VGG16)
    assert [vgg[name].step_px for name in ("pool4", "pool3")] == [16, 8]


def test_receptive_fields_are_those_of_the_papers_first_table() -> None:
    assert receptive_field_px("vgg16") == 404
    assert receptive_field_px("alexnet") == 355
    assert receptive_field_px("googlenet", final_average_pool=True) == 907
    assert receptive_field_px("googlenet") == 715


@pytest.mark.parametrize(
    ("name", "millions", "exactly"),
    [
        ("voc-fcn32s", 134, 134_346_581),
        ("voc-fcn-alexnet", 57, 56_954_261),
        ("voc-fcn-googlenet", 6, 5_995_077),
    ],
)
def test_parameters_are_as_many_as_the_paper_says(name: str, millions: int, exactly: int) -> None:
    """Counted: weights and biases of every convolution, fc6, fc7 and the score layer among them; not the
    deconvolution. VGG-16: 14,714,688 + 102,764,544 + 16,781,312 + 86,037."""
    count = parameter_count(network_spec(find_recipe(name)))
    assert (count, round(count / 1e6)) == (exactly, millions)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_as_many_as_in_the_definition(name: str) -> None:
    definition = caffe_definition(name)
    shapes = [s for layer, s in definition.blobs.items() if definition.types[layer] == "Convolution"]
    count = sum(torch.Size(shape).numel() for layer in shapes for shape in layer)
    assert parameter_count(network_spec(find_recipe(name))) == count


# ---------------------------------------------------------------------- grids against brute force

SIDE = 180


@st.composite
def sliding(draw: st.DrawFn) -> Window:
    """A window no narrower than its stride, so that it skips no sample."""
    stride = draw(st.integers(1, 3))
    return Window(draw(st.integers(stride, 5)), stride, draw(st.integers(0, 2)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(sliding(), st.booleans()), min_size=1, max_size=3), st.integers(-9, 9))
def test_one_changed_pixel_changes_exactly_the_samples_whose_field_holds_it(
    chain: list[tuple[Window, bool]], shift: int
) -> None:
    """Along one axis, far from the borders. All weights are one and the image is zero but for the pixel, so
    nothing cancels and no maximum hides it."""
    pixel = SIDE // 2 + shift
    x = torch.zeros(1, 1, SIDE, dtype=torch.float64)
    x[..., pixel] = 1
    grid = IMAGE
    for window, pooled in chain:
        grid = grid.after(window)
        x = F.pad(x, (window.pad, window.pad))
        if pooled:
            x = F.max_pool1d(x, window.kernel, window.stride)
        else:
            x = F.conv1d(x, torch.ones(1, 1, window.kernel, dtype=torch.float64), stride=window.stride)
    changed = {int(i) for i in x.flatten().nonzero()}
    reach = Fraction(grid.receptive_field_px - 1, 2)
    samples = range(x.numel())
    expected = {i for i in samples if abs(grid.origin_px + grid.step_px * i - pixel) <= reach}
    assert changed == expected
    assert 0 < len(changed) < x.numel()


@st.composite
def averages_and_upsampling(draw: st.DrawFn) -> list[tuple[Window, bool]]:
    """Averaging windows, then (True) bilinear deconvolutions."""
    down = draw(st.lists(sliding(), min_size=0, max_size=2))
    factors = draw(st.lists(st.integers(2, 4), min_size=1, max_size=2))
    up = [Window(2 * factor - draw(st.integers(0, 1)), factor, draw(st.integers(0, 1))) for factor in factors]
    return [*((w, False) for w in down), *((w, True) for w in up)]


@settings(deadline=None, max_examples=40)
@given(averages_and_upsampling())
def test_a_ramp_shows_where_each_sample_lies(chain: list[tuple[Window, bool]]) -> None:
    """Averages and bilinear deconvolutions keep a linear ramp, so each sample's value is its own position in
    the image, by the grid. A constant goes through the same chain; where it stays, no border is felt."""
    ramp = torch.arange(60, dtype=torch.float64).expand(60, 60)
    x = torch.stack([ramp, ramp.T, torch.ones_like(ramp)])[:, None]
    grid = IMAGE
    for window, upsampled in chain:
        if upsampled:
            grid = grid.upsampled(window)
            kernel = torch.from_numpy(bilinear_kernel(window.kernel)).double()[None, None]
            x = F.conv_transpose2d(x, kernel, stride=window.stride, padding=window.pad)
        else:
            grid = grid.after(window)
            area = window.kernel**2
            kernel = torch.full((1, 1, window.kernel, window.kernel), 1 / area, dtype=torch.float64)
            x = F.conv2d(x, kernel, stride=window.stride, padding=window.pad)
    inside = (x[2, 0] - 1).abs() < 1e-6
    assert inside.sum() > 20
    columns = float(grid.origin_px) + float(grid.step_px) * torch.arange(x.shape[-1], dtype=torch.float64)
    expected = columns.expand(x.shape[-2:])
    assert torch.allclose(x[0, 0][inside], expected[inside], atol=1e-4)
    assert torch.allclose(x[1, 0][inside], expected.T[inside], atol=1e-4)


# ---------------------------------------------------------------------- bilinear kernels


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 63, 64])
def test_a_bilinear_kernel_interpolates(size: int) -> None:
    """Upsampled by ceil(size / 2), a constant stays constant and a ramp a ramp, but for one source sample of
    border. Sample j lies at (j - (size - 1) / 2) / factor in the source."""
    factor = (size + 1) // 2
    ramp = torch.arange(6.0).expand(6, 6)
    source = torch.stack([torch.ones(6, 6), ramp])[:, None]
    constant, line = F.conv_transpose2d(source, torch.from_numpy(bilinear_kernel(size))[None, None], stride=factor)[
        :, 0
    ]
    positions = (torch.arange(constant.shape[-1]) - (size - 1) / 2) / factor
    inside = (positions >= 0) & (positions <= 5)
    assert inside.sum() >= 5 * factor
    square = inside[:, None] & inside[None, :]
    assert torch.allclose(constant[square], torch.tensor(1.0), atol=1e-5)
    assert torch.allclose(line[square], positions.expand(len(positions), -1)[square], atol=1e-4)


@given(st.integers(1, 70))
def test_a_bilinear_kernel_is_symmetric_and_sums_to_its_factor_squared(size: int) -> None:
    kernel = torch.from_numpy(bilinear_kernel(size))
    assert torch.equal(kernel, kernel.T)
    assert torch.allclose(kernel, kernel.flip(0), atol=1e-6)
    assert kernel.sum().item() == pytest.approx(((size + 1) // 2) ** 2, rel=1e-5)


# ---------------------------------------------------------------------- what cannot be aligned


def test_maps_of_different_steps_or_half_a_sample_apart_have_no_crop() -> None:
    with pytest.raises(ValueError, match="different steps: 1 and 2 px"):
        crop_offset(IMAGE, IMAGE.after(Window(2, 2)))
    with pytest.raises(ValueError, match="never align: the offset is 1/2 samples"):
        crop_offset(IMAGE, IMAGE.after(Window(2)))
    with pytest.raises(ValueError, match="no bilinear kernel aligns"):
        upsampling_window(Grid(Fraction(2), Fraction(1, 3)), 2, IMAGE)
