"""Every number ends in its place, or the error says which does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from torchvision.models.vgg import make_layers

from fcnseg.errors import OutputError, SettingsError, WeightsError, WeightsMismatchError
from fcnseg.models import FCN, network_spec
from fcnseg.recipes import Recipe
from fcnseg.weights.importing import import_weights
from fcnseg.weights.loading import load_network
from tests.caffe_files import write_caffemodel
from tests.weights.conftest import Arrays, as_caffe, as_torch, dense, numbers

MakeRecipe = Callable[..., Recipe]
SKIPS = "skip_scales = { pool4 = 0.01, pool3 = 0.0001 }"


def check(out: Path, expected: Arrays) -> dict[str, str]:
    """The file holds exactly these numbers, read by the safetensors library; its metadata."""
    found = load_file(out)
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == np.float32
    with safe_open(out, "np") as file:
        return dict(file.metadata())


def legacy(arrays: Arrays) -> Arrays:
    """As the older classifiers have it: fc6 and fc7 are inner products."""
    return {k: v.reshape(len(v), -1) if k in ("fc6.weight", "fc7.weight") else v for k, v in arrays.items()}


SOURCES: dict[str, Callable[[Path, Arrays], object]] = {
    "caffe": lambda p, a: write_caffemodel(p, as_caffe(a)),
    "caffe-v1": lambda p, a: write_caffemodel(p, as_caffe(legacy(a)), generation="layers"),
    "caffe-double": lambda p, a: write_caffemodel(p, as_caffe(a), double=True),
    "torch": lambda p, a: torch.save(as_torch(a), p),
    "torch-legacy": lambda p, a: torch.save(as_torch(a), p, _use_new_zipfile_serialization=False),
    "safetensors": lambda p, a: save_file(a, p),
}


@pytest.mark.parametrize("source", SOURCES)
def test_imports_and_loads_bit_for_bit(source: str, recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe()
    arrays = numbers(small)
    path, out = tmp_path / "source file", tmp_path / "new" / "out.safetensors"
    SOURCES[source](path, arrays)
    report = import_weights(path, small, out)
    metadata = check(out, arrays)
    assert (metadata["recipe"], metadata["source"], metadata["convention"]) == (
        "small",
        "source file",
        "caffe",
    )
    assert report.parameters == sum(a.size for a in arrays.values())
    for weights in (path, out):
        loaded = load_network(small, weights)
        assert not loaded.training_start
        assert not loaded.network.training
        for name, tensor in loaded.network.state_dict().items():
            np.testing.assert_array_equal(tensor.numpy(), arrays[name])
            assert tensor.data_ptr() % 4 == 0
    assert [p.name for p in out.parent.iterdir()] == ["out.safetensors"]


@pytest.mark.parametrize("backbone", ["alexnet", "googlenet"])
def test_other_backbones(backbone: str, recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe(backbone=backbone, stride=32)
    arrays = numbers(small)
    import_weights(write_caffemodel(tmp_path / "s", as_caffe(arrays)), small, tmp_path / "out")
    check(tmp_path / "out", arrays)


def test_mixing_deconvolutions_stay_dense(recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe()
    arrays = numbers(small)
    state = as_torch(arrays)
    state["upscore2.weight"][0, 1, 2, 2] = 0.5
    torch.save(state, tmp_path / "s")
    report = import_weights(tmp_path / "s", small, tmp_path / "out")
    assert report.dense == ("upscore2",)
    network = load_network(small, tmp_path / "out").network
    image = torch.rand(1, 3, 40, 40) * 255
    whole = FCN(network_spec(small), frozenset({"upscore2", "upscore_pool4", "upscore8"})).eval()
    whole.load_state_dict(state)
    torch.testing.assert_close(network(image), whole(image))


def test_half_and_integer_numbers_become_float32(recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe()
    arrays = {k: v.astype(np.float16) for k, v in numbers(small).items()}
    arrays["score_fr.bias"] = np.array([1, 2, 3], np.int64)
    save_file(arrays, tmp_path / "s")
    import_weights(tmp_path / "s", small, tmp_path / "out")
    check(tmp_path / "out", {k: v.astype(np.float32) for k, v in arrays.items()})


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_name_their_tensor(value: float, recipe: MakeRecipe, tmp_path: Path) -> None:
    arrays = {k: v.astype(np.float64) for k, v in numbers(recipe()).items()}
    arrays["conv3_2.weight"].flat[5] = value
    save_file(arrays, tmp_path / "s")
    with pytest.raises(WeightsError, match=r"conv3_2\.weight"):
        import_weights(tmp_path / "s", recipe(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------- skip scales


def test_skip_scales_are_filled_for_pytorch_fcn_only(recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe(skips=SKIPS)
    arrays = numbers(small)
    lacking = {k: v for k, v in arrays.items() if not k.startswith("scale_")}
    torch.save(as_torch(lacking), tmp_path / "s.pth")
    report = import_weights(tmp_path / "s.pth", small, tmp_path / "out")
    assert report.initialised == ("scale_pool3.weight", "scale_pool4.weight")
    filled = {k: np.full_like(arrays[k], v) for k, v in (("scale_pool3.weight", 1e-4), ("scale_pool4.weight", 1e-2))}
    check(tmp_path / "out", lacking | filled)
    assert not load_network(small, tmp_path / "out").training_start
    write_caffemodel(tmp_path / "s.caffemodel", as_caffe(lacking))
    with pytest.raises(WeightsMismatchError, match=r"scale_pool3\.weight"):
        import_weights(tmp_path / "s.caffemodel", small, tmp_path / "out")


def test_a_file_named_as_another_models_is_noted(recipe: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "fcn8s-atonce_from_caffe.pth"
    torch.save(as_torch(numbers(recipe())), path)
    (note,) = import_weights(path, recipe(), tmp_path / "out").notes
    assert "voc-fcn8s-atonce" in note


# ---------------------------------------------------------------------- classifiers


def classifier(recipe: Recipe) -> Arrays:
    arrays = {k: v for k, v in numbers(recipe).items() if not k.startswith(("score_", "upscore", "scale_"))}
    return legacy(arrays) | {"fc8.weight": np.ones((10, 8), np.float32), "fc8.bias": np.ones(10, np.float32)}


@pytest.mark.parametrize("skips", ["", SKIPS])
def test_transplant_starts_as_a_new_network(skips: str, recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe(skips=skips)
    write_caffemodel(tmp_path / "s", as_caffe(classifier(small)), generation="layers")
    with pytest.raises(WeightsMismatchError, match="--transplant"):
        import_weights(tmp_path / "s", small, tmp_path / "out")
    report = import_weights(tmp_path / "s", small, tmp_path / "out", transplant=True)
    new = {k: v.numpy() for k, v in FCN(network_spec(small)).state_dict().items() if k.startswith(("s", "u"))}
    kept = {k: v for k, v in numbers(small).items() if k not in new}
    metadata = check(tmp_path / "out", kept | new)
    assert set(report.initialised) == set(new) == set(metadata["initialised"].split())
    assert load_network(small, tmp_path / "out").training_start


def test_transplant_does_not_invent_what_a_model_lacks(recipe: MakeRecipe, tmp_path: Path) -> None:
    arrays = numbers(recipe())
    del arrays["score_fr.bias"]
    save_file(arrays, tmp_path / "s")
    with pytest.raises(WeightsMismatchError, match=r"score_fr\.bias"):
        import_weights(tmp_path / "s", recipe(), tmp_path / "out", transplant=True)


def torchvision_vgg16(recipe: Recipe) -> tuple[torch.nn.Module, torch.nn.Module]:
    """torchvision's own VGG-16 layers, as narrow as the recipe: features, classifier."""
    shapes = {k: v.shape for k, v in numbers(recipe).items()}
    widths = [shapes[f"conv{b}_1.weight"][0] for b in range(1, 6)]
    plan = [w for width, n in zip(widths, (2, 2, 3, 3, 3), strict=True) for w in (*[width] * n, "M")]
    nn = torch.nn
    features = make_layers(plan)  # type: ignore[arg-type]
    parts = (nn.Linear(widths[-1] * 49, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.ReLU(), nn.Dropout())
    return features, nn.Sequential(*parts, nn.Linear(8, 10)).eval()


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
        network = load_network(small, tmp_path / "out").network
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


# ---------------------------------------------------------------------- what does not fit


def test_every_misfit_is_listed_with_its_shapes(recipe: MakeRecipe, tmp_path: Path) -> None:
    arrays = numbers(recipe())
    del arrays["conv2_1.bias"]
    arrays["conv1_1.weight"] = arrays["conv1_1.weight"][:1]
    arrays["bn\n.num_batches_tracked"] = np.zeros(1, np.float32)
    arrays["upscore8.weight"] = dense(arrays["upscore8.weight"])[:, :2]
    save_file(arrays, tmp_path / "s")
    with pytest.raises(WeightsMismatchError) as caught:
        import_weights(tmp_path / "s", recipe(), tmp_path / "out")
    faults = sorted(caught.value.faults)
    assert [f.split(": ")[0] for f in faults] == ["left over", "misshapen", "misshapen", "missing"]
    assert "conv1_1.weight" in faults[1]
    assert "1 x 3 x 3 x 3" in faults[1]
    assert "\n" not in str(caught.value) + "".join(faults)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (4, 4, 4), (4, 9, 3, 3), (1, 1, 1, 1, 1), (5, 3, 3, 3)])
def test_a_first_layer_of_any_shape_is_a_fault(shape: tuple[int, ...], recipe: MakeRecipe, tmp_path: Path) -> None:
    features, head = torchvision_vgg16(recipe())
    state = {f"features.{k}": v for k, v in features.state_dict().items()}
    state |= {f"classifier.{k}": v for k, v in head.state_dict().items()}
    torch.save(state | {"features.0.weight": torch.zeros(shape)}, tmp_path / "s")
    with pytest.raises(WeightsMismatchError):
        import_weights(tmp_path / "s", recipe(), tmp_path / "out", transplant=True)


def test_the_hint_names_the_recipe_that_fits(recipe: MakeRecipe, tmp_path: Path) -> None:
    from fcnseg.recipes import find_recipe

    street = find_recipe("street-fcn8s")
    save_file(numbers(street), tmp_path / "s")
    with pytest.raises(WeightsMismatchError, match="it fits street-fcn8s: use --model street-fcn8s"):
        import_weights(tmp_path / "s", recipe(), tmp_path / "out")


def test_weights_of_another_recipe_are_refused(recipe: MakeRecipe, tmp_path: Path) -> None:
    save_file(numbers(recipe()), tmp_path / "s")
    import_weights(tmp_path / "s", recipe(), tmp_path / "out")
    with pytest.raises(WeightsMismatchError, match="small, not of other"):
        load_network(recipe(name="other"), tmp_path / "out")


# ---------------------------------------------------------------------- writing


def test_the_output_replaces_only_our_own_form(recipe: MakeRecipe, tmp_path: Path) -> None:
    path = write_caffemodel(tmp_path / "s", as_caffe(numbers(recipe())))
    before = path.read_bytes()
    other = write_caffemodel(tmp_path / "t", as_caffe(numbers(recipe())))
    for out in (path, other, tmp_path):
        with pytest.raises(SettingsError, match="another --out"):
            import_weights(path, recipe(), out)
    assert path.read_bytes() == other.read_bytes() == before
    for _ in range(2):
        import_weights(path, recipe(), tmp_path / "out")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_import_leaves_nothing(
    error: BaseException, recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_caffemodel(tmp_path / "s", as_caffe(numbers(recipe())))

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((KeyboardInterrupt, OutputError)):
        import_weights(path, recipe(), tmp_path / "new" / "out")
    assert not list((tmp_path / "new").iterdir())


def test_an_output_below_a_file_says_so(recipe: MakeRecipe, tmp_path: Path) -> None:
    path = write_caffemodel(tmp_path / "s", as_caffe(numbers(recipe())))
    with pytest.raises(OutputError, match="cannot write"):
        import_weights(path, recipe(), path / "out")


def test_a_recipe_name_cannot_leave_the_store() -> None:
    from fcnseg.weights.store import store_folder, stored_path

    assert stored_path("../../x/y").parent == store_folder()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_import_whole_or_not_at_all(data: st.DataObject, recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe(stride=32, width=0.03, fc_width=2)
    form = data.draw(st.sampled_from([s for s in SOURCES if s != "caffe-double"]))
    path, out = tmp_path / "whole", tmp_path / "out"
    SOURCES[form](path, numbers(small))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.booleans())
    broken = tmp_path / "broken"
    broken.write_bytes(whole[:at] + (bytes([whole[at] ^ 255]) + whole[at + 1 :] if flip else b""))
    out.unlink(missing_ok=True)
    try:
        import_weights(broken, small, out)
    except (WeightsError, WeightsMismatchError):
        assert not out.exists()
        return
    found = load_file(out)
    for name, array in numbers(small).items():
        assert np.isfinite(found[name]).all()
        # a changed number passes, as no form has a checksum that is read; a cut shows
        assert flip or np.array_equal(found[name], array)
