"""`fcnseg run --resize-short`: resized for the network, label maps of the images' own sizes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fcnseg as package
from tests.cli.test_run import label_maps
from tests.conftest import Outcome, TinyModel, make_tiny, photograph

Command = Callable[..., Outcome]

SIZES = {"a": (90, 61), "b/c": (50, 133), "d": (40, 40)}
"""Widths and heights."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i, (name, (width, height)) in enumerate(SIZES.items()):
        photograph(tmp_path / f"photos/{name}.png", width=width, height=height, seed=i)
    return tmp_path / "photos"


def maps(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in label_maps(folder):
        with Image.open(path) as image:
            found[path.relative_to(folder).with_suffix("").as_posix()] = np.asarray(image)
    return found


def expected_of(tiny: TinyModel, photo: Path, short: int) -> np.ndarray:
    """Resized by torchvision, run by the network in PyTorch, whose scores are interpolated to the size of the photo."""
    import torch

    functional = pytest.importorskip("torchvision.transforms.functional")
    from fcnseg.models.label_network import LabelNetwork
    from fcnseg.recipes import load_recipe
    from fcnseg.weights.loading import load_weights

    recipe = load_recipe(tiny.recipe)
    network = LabelNetwork(load_weights(recipe, tiny.weights).network(), recipe)
    with Image.open(photo) as image, torch.inference_mode():
        pixels = np.array(functional.resize(image.convert("RGB"), [short]))
        (scores,) = network.scores(torch.from_numpy(pixels)[None])
        size = image.size[::-1]
    own = torch.nn.functional.interpolate(scores, size, mode="bilinear", align_corners=False)
    return np.asarray(own.argmax(1)[0].numpy())


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_labels_are_those_of_the_resized_image_at_its_own_size(
    fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path, backend: str
) -> None:
    model = ("--model", tiny.recipe, "--weights", tiny.weights, "--device", "cpu", "--precision", "fp32")
    words = ("run", photos, "--out", tmp_path / "masks", *model, "--backend", backend, "--resize-short", 40)
    places = ("--save-probabilities", tmp_path / "p", "--overlay", tmp_path / "o")
    done = fcnseg(*words, *places, "--probabilities-dtype", "float32")
    assert (done.code, "resized to a short side of 40 px" in done.err) == (0, True)
    found = maps(tmp_path / "masks")
    for name, (width, height) in SIZES.items():
        assert found[name].shape == (height, width)
        assert (found[name] == expected_of(tiny, photos / f"{name}.png", 40)).mean() > 0.999
        probabilities = np.load(tmp_path / f"p/{name}.npy")
        assert probabilities.shape == (5, height, width)
        assert (probabilities.argmax(0) == found[name]).mean() > 0.9999
        np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-3)
        with Image.open(tmp_path / f"o/{name}.jpg") as overlay:
            assert overlay.size == (width, height)
    unlike = package.load(str(tiny.recipe), tiny.weights, backend="torch", device="cpu")
    with unlike as segmenter:
        assert (segmenter(photos / "a.png").labels["labels"] != found["a"]).mean() > 0.01


def test_it_is_a_setting_that_is_recorded_and_kept(
    fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path
) -> None:
    words = ["run", photos, "--out", tmp_path / "masks", *tiny.arguments]
    assert "resized to a short side of 40 px" in fcnseg(*words, "--dry-run", "--resize-short", 40).out
    assert not (tmp_path / "masks").exists()
    assert json.loads(fcnseg(*words, "--resize-short", 40, "--json").out)["resize_short"] == 40
    assert json.loads((tmp_path / "masks/.fcnseg/run.json").read_text())["settings"]["resize_short"] == 40
    assert "resized to a short side of 40 px" in fcnseg("status", tmp_path / "masks").out
    assert json.loads(fcnseg("status", tmp_path / "masks", "--json").out)["resize_short"] == 40
    before = {path: path.read_bytes() for path in label_maps(tmp_path / "masks")}
    for more, now in (((), "None"), (("--resize-short", 41), "41")):
        refused = fcnseg(*words, *more)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert f"resize-short was 40, is {now}" in refused.error_line
    again = fcnseg(*words, "--resize-short", 40)
    assert (again.code, "3 were there already" in again.err) == (0, True)
    assert {path: path.read_bytes() for path in label_maps(tmp_path / "masks")} == before
    summary = package.run(
        photos, tmp_path / "api", model=str(tiny.recipe), weights=tiny.weights, backend="torch", device="cpu",
        resize_short=40,
    )  # fmt: skip
    assert summary.done == 3
    assert all(np.array_equal(maps(tmp_path / "api")[name], maps(tmp_path / "masks")[name]) for name in SIZES)
    assert "resize-short was 40" in fcnseg("run", photos, "--out", tmp_path / "api", *tiny.arguments).error_line


def test_shards_have_the_same_labels_and_the_same_setting(
    fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("obstore")
    url = f"file://{tmp_path}/remote"
    words = ["run", photos, *tiny.arguments, "--out"]
    assert fcnseg(*words, url, "--resize-short", 40).code == 0
    assert fcnseg(*words, tmp_path / "local", "--resize-short", 40, "--tile", "off").code == 0
    assert all(np.array_equal(maps(tmp_path / "remote")[name], maps(tmp_path / "local")[name]) for name in SIZES)
    assert "resized to a short side of 40 px" in fcnseg("status", url).out
    refused = fcnseg(*words, url)
    assert (refused.code, "resize-short was 40, is None" in refused.error_line) == (2, True)


def test_one_that_cannot_be(fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path) -> None:
    photograph(photos / "line.png", width=6000, height=1)
    words = ["--out", tmp_path / "masks", *tiny.arguments, "--max-pixels", 100_000]
    done = fcnseg("run", photos, *words, "--resize-short", 40)
    assert done.code == 3
    assert "failed: line.png: a short side of 40 px makes it 240000 x 40, more than 100,000 px" in done.err
    assert len(maps(tmp_path / "masks")) == 3
    assert fcnseg("run", photos, "--out", tmp_path / "none", *tiny.arguments, "--resize-short", 0).code == 2
    two = make_tiny(tmp_path, streams="depth")
    refused = fcnseg("run", photos, "--depth", photos, "--out", tmp_path / "two", *two.arguments, "--resize-short", 40)
    assert (refused.code, "is for models of color images" in refused.error_line) == (2, True)
    with pytest.raises(package.FcnsegError, match="short side in pixels"):
        package.load(str(tiny.recipe), tiny.weights, backend="torch", device="cpu", resize_short=0)
