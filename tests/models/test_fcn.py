"""What must hold for every network: sizes, equivalent forms, and the paper's claim that classifiers slide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.vgg import VGG, cfgs, make_layers

from fcnseg.models import FCN, Head, NetworkSpec, Stream
from fcnseg.models.backbones import Geometry, backbone_layers, grids
from fcnseg.models.fcn import fold_batch_norm
from fcnseg.models.geometry import IMAGE, Grid
from fcnseg.models.layers import deconvolution_names

NETWORKS = [("vgg16", 32), ("vgg16", 16), ("vgg16", 8), ("alexnet", 32), ("googlenet", 32)]
PADDED: list[Geometry] = ["caffe", "same"]


def tiny(backbone: str = "vgg16", stride: int = 8, geometry: Geometry = "same") -> NetworkSpec:
    return NetworkSpec(backbone, stride, (Head(3),), geometry=geometry, width=1 / 16, fc_width=6)


def build(spec: NetworkSpec, dense: Iterable[str] = (), seed: int = 0) -> FCN:
    """A network whose every weight is random: scores and deconvolutions too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FCN(spec, frozenset(dense))
        for name, module in network.named_children():
            if name.startswith("score_") and isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.5)
                nn.init.normal_(module.bias)  # type: ignore[arg-type]
            elif isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.5)
    return network.eval()


def picture(height: int, width: int, batch: int = 1, channels: int = 3, seed: int = 0) -> Tensor:
    return 60 * torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def run(network: FCN, *images: Tensor) -> Tensor:
    with torch.inference_mode():
        scores: tuple[Tensor, ...] = network(*images)
    return scores[0]


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """The largest difference is at most `tolerance` of the largest value, which is not zero."""
    assert found.shape == expected.shape
    largest = expected.abs().max()
    assert largest > 0
    assert float((found - expected).abs().max() / largest) <= tolerance


# ---------------------------------------------------------------------- sizes


@pytest.mark.parametrize("geometry", PADDED)
@pytest.mark.parametrize(("backbone", "stride"), NETWORKS)
@settings(deadline=None, max_examples=15)
@given(height=st.integers(1, 90), width=st.integers(1, 90), batch=st.integers(1, 2))
def test_scores_have_the_size_of_the_image(
    backbone: str, stride: int, geometry: Geometry, height: int, width: int, batch: int
) -> None:
    spec = replace(tiny(backbone, stride, geometry), width=1 / 32, heads=(Head(3, "_a"), Head(2, "_b")))
    with torch.inference_mode():
        scores = FCN(spec).eval()(picture(height, width, batch))
    assert [tuple(s.shape) for s in scores] == [(batch, 3, height, width), (batch, 2, height, width)]


@pytest.mark.parametrize("geometry", PADDED)
@pytest.mark.parametrize(("backbone", "stride"), NETWORKS)
def test_every_small_size_works(backbone: str, stride: int, geometry: Geometry) -> None:
    network = build(tiny(backbone, stride, geometry))
    for size in range(1, 12):
        assert run(network, picture(size, 1)).shape == (1, 3, size, 1)
        assert run(network, picture(1, size)).shape == (1, 3, 1, size)


# ---------------------------------------------------------------------- equivalent forms


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_diagonal_dense_deconvolutions_give_the_same_numbers_as_one_kernel_a_class(stride: int) -> None:
    spec = tiny(stride=stride)
    grouped = build(spec)
    dense = FCN(spec, frozenset(deconvolution_names(spec))).eval()
    state = grouped.state_dict()
    for name in deconvolution_names(spec):
        kernels = state[f"{name}.weight"]
        state[f"{name}.weight"] = torch.eye(len(kernels))[:, :, None, None] * kernels
    dense.load_state_dict(state)
    image = picture(50, 61)
    assert_near(run(dense, image), run(grouped, image), 1e-6)


@pytest.mark.parametrize("geometry", PADDED)
@pytest.mark.parametrize("backbone", ["vgg16", "alexnet", "googlenet"])
def test_folding_batch_norm_keeps_the_function(backbone: str, geometry: Geometry) -> None:
    spec = replace(tiny(backbone, 8 if backbone == "vgg16" else 32, geometry), batch_norm=True)
    network = build(spec, {"upscore8"} if backbone == "vgg16" else ())
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
                assert module.running_mean is not None
                assert module.running_var is not None
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
    folded = fold_batch_norm(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    image = picture(40, 53)
    assert_near(run(folded, image), run(network, image))


@pytest.mark.parametrize(("backbone", "stride"), NETWORKS)
def test_an_image_in_a_batch_scores_as_it_does_alone(backbone: str, stride: int) -> None:
    network = build(tiny(backbone, stride, "caffe"))
    images = picture(35, 48, batch=3)
    together = run(network, images)
    for index in range(3):
        assert_near(run(network, images[index : index + 1]), together[index : index + 1])


def test_two_equal_streams_score_as_one() -> None:
    """Late fusion is a mean: of equal scores it is that score, at every fusion."""
    one = build(tiny())
    two = FCN(replace(one.spec, streams=(Stream(3, "color"), Stream(3, "hha")))).eval()
    state: dict[str, Tensor] = {}
    for key, value in one.state_dict().items():
        layer, _, tensor = key.rpartition(".")
        suffixes = ("",) if layer.startswith("upscore") else ("color", "hha")
        state |= {f"{layer}{suffix}.{tensor}": value for suffix in suffixes}
    two.load_state_dict(state)
    image = picture(45, 38)
    assert_near(run(two, image, image), run(one, image), 1e-6)


def test_late_fusion_averages_the_streams() -> None:
    """Upsampling is linear, so two streams give the mean of what two networks of one stream give."""
    spec = tiny(stride=32)
    ones = [build(spec, seed=seed) for seed in (1, 2)]
    ones[1].get_submodule("upscore").load_state_dict(ones[0].get_submodule("upscore").state_dict())
    two = FCN(replace(spec, streams=(Stream(3, "color"), Stream(3, "hha")))).eval()
    state = {"upscore.weight": ones[0].state_dict()["upscore.weight"]}
    for suffix, one in zip(("color", "hha"), ones, strict=True):
        for key, value in one.state_dict().items():
            layer, _, tensor = key.rpartition(".")
            if layer != "upscore":
                state[f"{layer}{suffix}.{tensor}"] = value
    two.load_state_dict(state)
    images = picture(45, 38, seed=3), picture(45, 38, seed=4)
    mean = (run(ones[0], images[0]) + run(ones[1], images[1])) / 2
    assert_near(run(two, *images), mean)


def test_at_once_scales_equal_smaller_score_weights() -> None:
    scales = {"pool4": 0.01, "pool3": 0.0001}
    scaled = build(replace(tiny(), skip_scales=scales))
    for name, value in scales.items():
        assert set(scaled.get_parameter(f"scale_{name}.weight").tolist()) == {torch.tensor(value).item()}
    plain = FCN(tiny()).eval()
    state = {key: value for key, value in scaled.state_dict().items() if not key.startswith("scale_")}
    for name, value in scales.items():
        state[f"score_{name}.weight"] = state[f"score_{name}.weight"] * value
    plain.load_state_dict(state)
    image = picture(44, 57)
    assert_near(run(plain, image), run(scaled, image))


# ---------------------------------------------------------------------- skips


def line_over(grid: Grid, shape: Sequence[int]) -> Tensor:
    """A linear function of image position, sampled on a grid."""
    rows, columns = (float(grid.origin_px) + float(grid.step_px) * torch.arange(float(n)) for n in shape)
    return 2 * rows[:, None] - 3 * columns[None, :] + 5


def zero_skips(network: FCN) -> None:
    with torch.no_grad():
        for name in network.spec.skips:
            network.get_parameter(f"score_{name}.weight").zero_()
            network.get_parameter(f"score_{name}.bias").zero_()


@pytest.mark.parametrize("geometry", PADDED)
@pytest.mark.parametrize("stride", [16, 8])
def test_zero_skip_scores_leave_the_coarse_scores_alone(stride: int, geometry: Geometry) -> None:
    """Where a finer net starts its training: the skip layers' content does not matter, and the scores are the
    coarse ones through all deconvolutions in turn.

    Two bilinear steps are not quite one of the whole factor (the second interpolates between samples of the
    first), but they agree wherever the coarse scores are linear in position. There the finer net and the
    FCN-32s both give the line itself, at the right pixels.
    """
    size = (150, 170)
    spec = tiny(stride=stride, geometry=geometry)
    fine, coarse = FCN(spec).eval(), FCN(replace(spec, stride=32)).eval()
    with torch.inference_mode():
        taps = fine.trunk(Stream(), picture(*size))
        layers = backbone_layers("vgg16", geometry)
        grid = grids(layers)["fc7"]
        line = line_over(grid, taps["fr"].shape[-2:])
        taps["fr"] = torch.stack([line, torch.ones_like(line)])[None].repeat(1, 3, 1, 1)
        for network in (fine, coarse):  # class 0 takes the line, class 1 the constant, class 2 nothing
            network.get_parameter("score_fr.weight").copy_(torch.eye(3, 6)[:, :, None, None])
        zero_skips(fine)
        found, expected = (n.fuse(spec.heads[0], [taps], size) for n in (fine, coarse))
        other = {name: tap if name == "fr" else torch.randn_like(tap) for name, tap in taps.items()}
        assert torch.equal(fine.fuse(spec.heads[0], [other], size), found)
    inside = ((found[0, 1] - 1).abs() < 1e-5) & ((expected[0, 1] - 1).abs() < 1e-5)
    assert inside.float().mean() > 0.3
    pixels = line_over(IMAGE, size)
    for scores in (found, expected):
        assert_near(scores[0, 0][inside], pixels[inside])


@pytest.mark.parametrize("stride", [16, 8])
def test_new_skips_start_at_zero(stride: int) -> None:
    """A fresh net's skip scores are zero, so random skip features add nothing."""
    network = FCN(tiny(stride=stride))
    for name in network.spec.skips:
        assert not network.get_parameter(f"score_{name}.weight").any()
        assert not network.get_parameter(f"score_{name}.bias").any()


@pytest.mark.parametrize("geometry", PADDED)
def test_skip_scores_land_on_their_own_pixels(geometry: Geometry) -> None:
    """With zero coarse scores, a linear skip score reaches the image as the same line, at pool3 and pool4."""
    size = (120, 140)
    spec = tiny(geometry=geometry)
    network = FCN(spec).eval()
    layers = grids(backbone_layers("vgg16", geometry))
    pixels = line_over(IMAGE, size)
    for name in spec.skips:
        with torch.inference_mode():
            found = network.trunk(Stream(), picture(*size))
            taps = {key: torch.zeros_like(tap) for key, tap in found.items()}
            taps[name][0, 0] = line_over(layers[name], taps[name].shape[-2:])
            taps[name][0, 1] = 1
            weight = network.get_parameter(f"score_{name}.weight")
            weight.copy_(torch.eye(3, weight.shape[1])[:, :, None, None])
            scores = network.fuse(spec.heads[0], [taps], size)
            weight.zero_()
        inside = (scores[0, 1] - 1).abs() < 1e-5
        assert inside.float().mean() > 0.3
        assert_near(scores[0, 0][inside], pixels[inside])


# ---------------------------------------------------------------------- the classifier that slides

CLASSES, HIDDEN = 5, 12


def classifier() -> VGG:
    """torchvision's VGG-16, a sixteenth as wide, with random weights."""
    widths = [width if isinstance(width, str) else width // 16 for width in cfgs["D"]]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VGG(make_layers(widths), init_weights=False)
        network.classifier = nn.Sequential(
            nn.Linear(32 * 7 * 7, HIDDEN),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(HIDDEN, CLASSES),
        )
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.normal_(module.bias)  # type: ignore[arg-type]
    return network.eval()


def convolutional(original: VGG) -> FCN:
    """The classifier as a fully convolutional network: the Linear layers' weights, reshaped and nothing else,
    are the kernels of fc6 (7 x 7), fc7 and score_fr (1 x 1)."""
    spec = NetworkSpec("vgg16", 32, (Head(CLASSES),), geometry="classifier", width=1 / 16, fc_width=HIDDEN)
    network = FCN(spec)
    layers = [m for m in original.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    ours = [(n, m) for n, m in network.named_children() if isinstance(m, nn.Conv2d)]
    for (_, conv), layer in zip(ours, layers, strict=True):
        conv.load_state_dict({"weight": layer.weight.reshape(conv.weight.shape), "bias": layer.bias})
    assert [name for name, _ in ours[-3:]] == ["fc6", "fc7", "score_fr"]
    return network.eval()


def classify(network: FCN, image: Tensor) -> Tensor:
    """The scores before any upsampling: one vector of classes for each place of the sliding classifier."""
    with torch.inference_mode():
        scores: Tensor = network.get_submodule("score_fr")(network.trunk(Stream(), image)["fr"])
    return scores


def test_on_one_crop_the_network_is_the_classifier() -> None:
    """On 224 x 224 there is one place, and its scores are torchvision's."""
    original = classifier()
    crops = picture(224, 224, batch=2)
    with torch.inference_mode():
        expected = original(crops)
    assert_near(classify(convolutional(original), crops)[..., 0, 0], expected)


def centre_taps(original: VGG) -> None:
    """Convolutions that see one sample: their padding then reaches nothing. fc6 stays whole."""
    for module in original.features:
        if isinstance(module, nn.Conv2d):
            side = torch.zeros(3, 3)
            side[1, 1] = 3
            module.weight.data *= side


def centre_cell(original: VGG) -> None:
    """An fc6 that reads the middle of its 7 x 7 cells: that cell's field, 212 px, lies inside the crop."""
    weight = original.classifier[0].weight.data.view(HIDDEN, 32, 7, 7)
    kept = weight[:, :, 3, 3].clone() * 7
    weight.zero_()
    weight[:, :, 3, 3] = kept


def slid_and_cropped(original: VGG) -> tuple[Tensor, Tensor]:
    """The scores of the six places on 256 x 288, 32 px apart: by the network in one run, by torchvision of
    the six crops. Six rows of classes each."""
    image = picture(256, 288)
    slid = classify(convolutional(original), image)
    assert slid.shape == (1, CLASSES, 2, 3)
    crops = [image[0, :, y : y + 224, x : x + 224] for y in (0, 32) for x in (0, 32, 64)]
    with torch.inference_mode():
        return slid[0].flatten(1).T, original(torch.stack(crops))


@pytest.mark.parametrize("without_padding", [centre_taps, centre_cell])
def test_on_a_bigger_image_the_network_slides_the_classifier(without_padding: Callable[[VGG], None]) -> None:
    """It holds exactly where the zeros around a crop do not count."""
    original = classifier()
    without_padding(original)
    slid, cropped = slid_and_cropped(original)
    assert_near(slid, cropped)
    assert float((cropped[0] - cropped[1:]).abs().max()) > 0.01 * float(cropped.abs().max())


def test_in_general_a_slid_classifier_sees_the_picture_where_a_crop_sees_zeros() -> None:
    slid, cropped = slid_and_cropped(classifier())
    assert float((slid - cropped).abs().max()) > 0.001 * float(cropped.abs().max())
