"""Every tensor is accounted for; nothing half-fits."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fcnseg.errors import FcnsegError, OutputError, SettingsError, WeightsError, WeightsMismatchError
from fcnseg.models import FCN, network_spec
from fcnseg.weights.importing import import_weights
from fcnseg.weights.loading import load_network
from tests.caffe_files import write_caffemodel
from tests.weights.nets import blobs, diagonal, make_recipe, random_tensors


def test_missing_left_over_and_misshapen_tensors_are_all_listed(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    tensors = random_tensors(recipe)
    del tensors["conv3_2.bias"], tensors["upscore2.weight"]
    tensors["conv9.weight"] = np.zeros((2, 3), np.float32)
    tensors["fc7.weight"] = np.zeros((6, 5, 1, 1), np.float32)
    source = write_caffemodel(tmp_path / "w", blobs(tensors))
    with pytest.raises(WeightsMismatchError) as caught:
        import_weights(source, recipe, tmp_path / "x.safetensors")
    assert caught.value.faults == (
        "missing: conv3_2.bias, 18",
        "misshapen: fc7.weight is 6 x 5 x 1 x 1, expected 6 x 6 x 1 x 1",
        "missing: upscore2.weight, 3 x 1 x 4 x 4",
        "left over: conv9.weight, 2 x 3",
    )
    assert "2 missing, 1 misshapen, 1 left over" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.toml", "w"]


def test_weights_of_another_model_name_it(tmp_path: Path) -> None:
    ours, other = make_recipe(tmp_path), make_recipe(tmp_path, "other")
    source = write_caffemodel(tmp_path / "w", blobs(random_tensors(ours)))
    import_weights(source, ours, tmp_path / "x.safetensors")
    with pytest.raises(WeightsMismatchError, match="weights of net, not of other; use --model net"):
        load_network(other, tmp_path / "x.safetensors")


def test_a_file_of_a_shipped_model_is_recognised(tmp_path: Path) -> None:
    from fcnseg.recipes import find_recipe

    source = write_caffemodel(tmp_path / "w", blobs(random_tensors(find_recipe("street-fcn8s"))))
    with pytest.raises(WeightsMismatchError, match="it fits street-fcn8s"):
        load_network(make_recipe(tmp_path), source)


def test_loading_is_bit_exact_and_straight_from_caffe(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    tensors = random_tensors(recipe)
    source = write_caffemodel(tmp_path / "w", blobs(tensors))
    import_weights(source, recipe, tmp_path / "x.safetensors")
    for path in (source, tmp_path / "x.safetensors"):
        loaded = load_network(recipe, path)
        assert not loaded.training_start
        for name, value in loaded.network.state_dict().items():
            assert np.array_equal(value.numpy(), diagonal(name, tensors[name]))


def test_a_deconvolution_that_mixes_classes_stays_dense(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    tensors = random_tensors(recipe)
    tensors["upscore8.weight"][0, 2, 5, 5] = 0.25
    source = write_caffemodel(tmp_path / "w", blobs(tensors))
    report = import_weights(source, recipe, tmp_path / "x.safetensors")
    assert report.dense == ("upscore8",)
    network = load_network(recipe, tmp_path / "x.safetensors").network
    reference = FCN(network_spec(recipe), frozenset({"upscore2", "upscore_pool4", "upscore8"})).eval()
    reference.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    x = torch.randn(1, 3, 40, 30)
    (ours,), (theirs,) = network(x), reference(x)
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-4 * theirs.abs().max().item())


def test_pytorch_fcns_at_once_scales_in_its_code(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, extra="skip_scales = { pool4 = 0.01, pool3 = 0.0001 }")
    tensors = random_tensors(recipe)
    without = {k: torch.from_numpy(v) for k, v in tensors.items() if not k.startswith("scale_")}
    torch.save(without, tmp_path / "fcn8s-atonce_from_caffe.pth")
    report = import_weights(tmp_path / "fcn8s-atonce_from_caffe.pth", recipe, tmp_path / "x.safetensors")
    assert report.initialised == ()
    found = load_file(tmp_path / "x.safetensors")
    assert torch.equal(found["scale_pool4.weight"], torch.full_like(found["scale_pool4.weight"], 0.01))
    assert torch.equal(found["scale_pool3.weight"], torch.full_like(found["scale_pool3.weight"], 0.0001))


@pytest.mark.parametrize("generation", ["layer", "layers"])
@pytest.mark.parametrize(("backbone", "side"), [("vgg16", 7), ("alexnet", 6)])
def test_an_imagenet_classifier_becomes_a_start_for_training(
    tmp_path: Path, generation: str, backbone: str, side: int
) -> None:
    recipe = make_recipe(tmp_path, backbone=backbone, stride=8 if backbone == "vgg16" else 32)
    tensors = {k: v for k, v in random_tensors(recipe).items() if not k.startswith(("score", "upscore"))}
    fc6, fc7 = tensors["fc6.weight"], tensors["fc7.weight"]
    assert fc6.shape[2:] == (side, side)
    file = dict(tensors)
    file["fc6.weight"], file["fc7.weight"] = fc6.reshape(6, -1), fc7.reshape(6, -1)
    file["fc8.weight"], file["fc8.bias"] = np.ones((10, 6), np.float32), np.ones(10, np.float32)
    types = dict.fromkeys(("fc6", "fc7", "fc8"), "InnerProduct")
    source = write_caffemodel(tmp_path / "w", blobs(file), types, generation=generation)
    with pytest.raises(WeightsMismatchError, match="ImageNet classifier: --transplant"):
        import_weights(source, recipe, tmp_path / "x.safetensors")
    report = import_weights(source, recipe, tmp_path / "x.safetensors", transplant=True)
    loaded = load_network(recipe, tmp_path / "x.safetensors")
    assert loaded.training_start
    state = loaded.network.state_dict()
    assert all(np.array_equal(state[name].numpy(), array) for name, array in tensors.items())
    fresh = FCN(network_spec(recipe)).state_dict()
    assert set(report.initialised) == state.keys() - tensors.keys()
    assert all(torch.equal(state[name], fresh[name]) for name in report.initialised)


def narrow_vgg(width: float, fc_width: int, side: int) -> torch.nn.Module:
    """torchvision's VGG-16 with fewer channels: its own class, layers and names."""
    cfg = [c if c == "M" else max(2, 2 * round(c * width / 2)) for c in torchvision.models.vgg.cfgs["D"]]
    vgg = torchvision.models.VGG(torchvision.models.vgg.make_layers(cfg), num_classes=10)
    last = cfg[-2]
    for i, (a, b) in {0: (last * side * side, fc_width), 3: (fc_width, fc_width), 6: (fc_width, 10)}.items():
        vgg.classifier[i] = torch.nn.Linear(a, b)
    return vgg.eval()


IMAGENET_MEAN_BGR = (0.406 * 255, 0.456 * 255, 0.485 * 255)


def test_torchvisions_input_is_folded_into_the_first_convolution(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, mean=IMAGENET_MEAN_BGR)
    torch.manual_seed(0)
    vgg = narrow_vgg(0.07, 6, 7)
    torch.save(vgg.state_dict(), tmp_path / "vgg16-397923af.pth")
    report = import_weights(tmp_path / "vgg16-397923af.pth", recipe, tmp_path / "x.safetensors", transplant=True)
    assert report.convention == "torchvision"
    state = load_file(tmp_path / "x.safetensors")
    pixels = torch.randint(0, 256, (1, 3, 30, 40)).float()
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    theirs = vgg.features[0]((pixels / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / deviation)
    ours_in = pixels.flip(1) - torch.tensor(IMAGENET_MEAN_BGR)[:, None, None]
    ours = torch.nn.functional.conv2d(ours_in, state["conv1_1.weight"], state["conv1_1.bias"], padding=1)
    assert torch.allclose(ours, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=1e-4)
    assert torch.equal(state["fc6.weight"].reshape(6, -1), vgg.classifier[0].weight)
    assert torch.equal(state["conv5_3.weight"], vgg.features[28].weight)


def test_with_another_mean_the_fold_is_exact_away_from_the_border(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    torch.manual_seed(0)
    vgg = narrow_vgg(0.07, 6, 7)
    torch.save(vgg.state_dict(), tmp_path / "v.pth")
    import_weights(tmp_path / "v.pth", recipe, tmp_path / "x.safetensors", transplant=True)
    state = load_file(tmp_path / "x.safetensors")
    pixels = torch.randint(0, 256, (1, 3, 30, 40)).float()
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    theirs = vgg.features[0]((pixels / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / deviation)
    ours_in = pixels.flip(1) - torch.tensor(recipe.streams[0].inputs[0].mean)[:, None, None]
    ours = torch.nn.functional.conv2d(ours_in, state["conv1_1.weight"], state["conv1_1.bias"], padding=1)
    inside = (..., slice(1, -1), slice(1, -1))
    assert torch.allclose(ours[inside], theirs[inside], atol=1e-5 * theirs.abs().max().item(), rtol=1e-4)


def test_the_convention_can_be_said(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    vgg = narrow_vgg(0.07, 6, 7)
    for name, convention in (("vgg16_from_caffe.pth", None), ("v.pth", "caffe")):
        torch.save(vgg.state_dict(), tmp_path / name)
        out = tmp_path / "x.safetensors"
        report = import_weights(tmp_path / name, recipe, out, transplant=True, convention=convention)
        assert report.convention == "caffe"
        assert torch.equal(load_file(out)["conv1_1.weight"], vgg.features[0].weight)
    with pytest.raises(SettingsError, match="caffe or torchvision"):
        import_weights(tmp_path / "v.pth", recipe, out, transplant=True, convention="bgr")


def test_torchvisions_other_networks_are_refused_by_name(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, backbone="alexnet", stride=32)
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="torchvision's AlexNet, another network"):
        import_weights(tmp_path / "a.pth", recipe, tmp_path / "x.safetensors", transplant=True)
    torch.save({"inception3a.branch1.conv.weight": torch.zeros(64, 192, 1, 1)}, tmp_path / "g.pth")
    with pytest.raises(WeightsError, match="torchvision's GoogLeNet, another network"):
        import_weights(tmp_path / "g.pth", recipe, tmp_path / "x.safetensors", transplant=True)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    for bad in (np.nan, np.inf):
        tensors = random_tensors(recipe)
        tensors["conv4_1.weight"][0, 0, 0, 0] = bad
        source = write_caffemodel(tmp_path / "w", blobs(tensors))
        with pytest.raises(WeightsError, match=r"conv4_1\.weight holds numbers that are not finite"):
            import_weights(source, recipe, tmp_path / "x.safetensors")


def test_half_precision_files_load(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        state = {k: torch.from_numpy(v).to(dtype) for k, v in random_tensors(recipe, dense=False).items()}
        save_file(state, tmp_path / "h.safetensors")
        network = load_network(recipe, tmp_path / "h.safetensors").network
        assert all(torch.equal(v, state[k].float()) for k, v in network.state_dict().items())


def test_an_output_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    source = write_caffemodel(tmp_path / "w", blobs(random_tensors(recipe)))
    with pytest.raises(OutputError, match="cannot write"):
        import_weights(source, recipe, source / "x.safetensors")
    (tmp_path / "x").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        import_weights(source, recipe, tmp_path / "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.toml", "w", "x"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_mutilated_files_give_an_error_or_the_very_shapes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("mutilated")
    recipe = make_recipe(folder)
    tensors = random_tensors(recipe)
    source = folder / "w"
    form = data.draw(st.sampled_from(["layer", "layers", "pytorch", "legacy", "safetensors"]))
    if form in ("layer", "layers"):
        write_caffemodel(source, blobs(tensors), generation=form)
    elif form == "safetensors":
        save_file({k: torch.from_numpy(v) for k, v in tensors.items()}, source)
    else:
        zipped = form == "pytorch"
        torch.save({k: torch.from_numpy(v) for k, v in tensors.items()}, source, _use_new_zipfile_serialization=zipped)
    content = bytearray(source.read_bytes())
    head = data.draw(st.sampled_from([64, 4096, len(content)]))
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, min(head, len(content)) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    source.write_bytes(content)
    out = folder / "x.safetensors"
    try:
        import_weights(source, recipe, out)
    except FcnsegError:
        assert not out.exists()
    else:
        assert load_file(out).keys() == tensors.keys()
    assert {p.name for p in folder.iterdir()} <= {"net.toml", "w", "x.safetensors"}
