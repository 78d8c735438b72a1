"""VGG-16 under torchvision's names, against torchvision itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from fcnseg.errors import SettingsError, WeightsMismatchError
from fcnseg.weights.importing import import_weights
from fcnseg.weights.loading import load_weights
from tests.weights.conftest import MakeRecipe, numbers, torchvision_vgg16


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_torchvisions_vgg16_computes_the_same(order: str, recipe: MakeRecipe, tmp_path: Path) -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    ours = (255 * mean).tolist()
    small = recipe(stride=32, order=order, mean=ours[::-1] if order == "bgr" else ours)
    torch.manual_seed(0)
    features, head = torchvision_vgg16(small)
    state = {f"features.{k}": v for k, v in features.state_dict().items()}
    torch.save(state | {f"classifier.{k}": v for k, v in head.state_dict().items()}, tmp_path / "vgg16-397923af.pth")
    report = import_weights(tmp_path / "vgg16-397923af.pth", small, tmp_path / "out", transplant=True)
    assert report.convention == "torchvision"
    assert any("--convention caffe" in note for note in report.notes)
    pixels = torch.randint(0, 256, (1, 3, 224, 224)).float()
    with torch.inference_mode():
        map_ = features((pixels / 255 - mean[:, None, None]) / std[:, None, None])
        expected = head[:5](map_.flatten(1))
        arranged = pixels.flip(1) if order == "bgr" else pixels
        shifted = arranged - torch.tensor(small.streams[0].inputs[0].mean)[:, None, None]
        network = load_weights(small, tmp_path / "out").network()
        found = network.trunk(network.spec.streams[0], shifted)["fr"][:, :, 3, 3]  # fc6 over the whole 7 x 7 map
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_pytorch_fcns_vgg16_is_taken_as_it_is(recipe: MakeRecipe, tmp_path: Path) -> None:
    features, head = torchvision_vgg16(recipe())
    state = {f"features.{k}": v for k, v in features.state_dict().items()}
    state |= {f"classifier.{k}": v for k, v in head.state_dict().items()}
    for name, convention in (("vgg16_from_caffe.pth", None), ("other.pth", "caffe")):
        torch.save(state, tmp_path / name)
        report = import_weights(tmp_path / name, recipe(), tmp_path / "out", transplant=True, convention=convention)
        assert report.convention == "caffe"
        np.testing.assert_array_equal(load_file(tmp_path / "out")["conv1_1.weight"], state["features.0.weight"])


def test_the_convention_counts_for_caffes_names_too_and_only_for_colour(recipe: MakeRecipe, tmp_path: Path) -> None:
    save_file(numbers(recipe()), tmp_path / "s")
    import_weights(tmp_path / "s", recipe(), tmp_path / "out", convention="torchvision")
    assert not np.array_equal(load_file(tmp_path / "out")["conv1_1.weight"], numbers(recipe())["conv1_1.weight"])
    with pytest.raises(SettingsError, match="caffe or torchvision"):
        import_weights(tmp_path / "s", recipe(), tmp_path / "out", convention="tf")
    hha = recipe(name="hha", modality="hha", order="as-stored")
    with pytest.raises(SettingsError, match="one colour image"):
        import_weights(tmp_path / "s", hha, tmp_path / "out", convention="torchvision")


@pytest.mark.parametrize(
    ("key", "shape", "says"),
    [
        ("features.0.weight", (64, 3, 11, 11), "AlexNet"),
        ("inception3a.branch1.conv.weight", (4, 4, 1, 1), "GoogLeNet"),
    ],
)
def test_torchvisions_other_networks_are_refused(
    key: str, shape: tuple[int, ...], says: str, recipe: MakeRecipe, tmp_path: Path
) -> None:
    torch.save({key: torch.zeros(shape)}, tmp_path / "s")
    with pytest.raises(WeightsMismatchError, match=rf"{says}.*bvlc_{says.lower()}"):
        import_weights(tmp_path / "s", recipe(), tmp_path / "out", transplant=True)
