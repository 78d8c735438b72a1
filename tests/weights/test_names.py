"""Names that are not the network's own: prefixes, the first release, and files of other class counts."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from fcnseg.errors import WeightsError, WeightsMismatchError
from fcnseg.models.fcn import FCN
from fcnseg.recipes import Recipe
from fcnseg.training.initial_weights import find_initial_weights
from fcnseg.weights.importing import import_weights
from fcnseg.weights.loading import load_weights
from tests.caffe_files import write_caffemodel
from tests.weights.conftest import Arrays, MakeRecipe, as_caffe, as_torch, check, dense, numbers

PREFIXES = ["module.", "model.", "_orig_mod.", "module._orig_mod.", "net.fcn.module."]


def prefixed(arrays: Arrays, prefix: str) -> Arrays:
    return {prefix + name: array for name, array in arrays.items()}


@pytest.mark.parametrize("form", ["torch", "safetensors"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_common_prefix_is_taken_off_and_said(prefix: str, form: str, recipe: MakeRecipe, tmp_path: Path) -> None:
    small, path = recipe(), tmp_path / "w"
    arrays = numbers(small)
    if form == "torch":
        torch.save({"state_dict": prefixed(as_torch(arrays), prefix)}, path)  # type: ignore[arg-type]
    else:
        save_file(prefixed(arrays, prefix), path, {"format": "pt", "epoch": "3"})
    report = import_weights(path, small, tmp_path / "out")
    check(tmp_path / "out", arrays)
    assert f"the prefix {prefix} was taken off all names" in report.notes
    load_weights(small, path)
    assert find_initial_weights(small, [path]).keep_scores


def test_a_strangers_checkpoint_of_the_trainings_name_starts_a_training(recipe: MakeRecipe, tmp_path: Path) -> None:
    small, path = recipe(), tmp_path / "checkpoint.pt"
    torch.save({"network": prefixed(as_torch(numbers(small)), "module.")}, path)  # type: ignore[arg-type]
    assert find_initial_weights(small, [path]).keep_scores
    torch.save({"network": {}, "args": Namespace()}, path)
    with pytest.raises(WeightsError, match=r"argparse\.Namespace"):
        find_initial_weights(small, [path])


def test_an_averaged_model_is_taken(recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe()
    arrays = numbers(small)
    state = {"n_averaged": torch.tensor(7)} | prefixed(as_torch(arrays), "module.")  # type: ignore[operator]
    torch.save(state, tmp_path / "w")
    (first, *_) = import_weights(tmp_path / "w", small, tmp_path / "out").notes
    check(tmp_path / "out", arrays)
    assert first == "the prefix module. was taken off all names, and n_averaged, a count, left out"


@pytest.mark.parametrize("extra", [{"criterion.weight": 3}, {"n_averaged": 2}, {"module": 1}])
def test_a_mixture_stays_refused(extra: dict[str, int], recipe: MakeRecipe, tmp_path: Path) -> None:
    """Two prefixes, a prefix on some names only, or what is no part of the network."""
    small = recipe()
    arrays = numbers(small)
    half = len(arrays) // 2
    mixtures = [
        prefixed(dict(list(arrays.items())[:half]), "module.") | dict(list(arrays.items())[half:]),
        prefixed(dict(list(arrays.items())[:half]), "module.") | prefixed(dict(list(arrays.items())[half:]), "model."),
        prefixed(arrays, "module.") | {name: np.ones(n, np.float32) for name, n in extra.items()},
    ]
    for mixture in mixtures:
        save_file(mixture, tmp_path / "w")
        with pytest.raises(WeightsMismatchError, match="left over"):
            import_weights(tmp_path / "w", small, tmp_path / "out")


# ---------------------------------------------------------------------- the first release


FIRST = {
    32: {"score_fr": "score-fr", "upscore": "upsample"},
    16: {"score_fr": "score-fr", "upscore2": "score2", "score_pool4": "score-pool4", "upscore16": "upsample"},
    8: {
        "score_fr": "score-fr",
        "upscore2": "score2",
        "score_pool4": "score-pool4",
        "upscore_pool4": "score4",
        "score_pool3": "score-pool3",
        "upscore8": "upsample",
    },
}
CONTEXT = {**FIRST[8], "score_fr": "score59", "upscore2": "upscore2", "upscore_pool4": "upsample-fused-16"}
BIASES = {"upscore2.bias": np.float32([0.5, -1, 2]), "upscore_pool4.bias": np.float32([1, 2, 3])}


def of_2015(arrays: Arrays, names: dict[str, str], biases: Arrays) -> dict[str, list[np.ndarray]]:
    """Blobs by layer under the first release's names, deconvolutions with biases."""
    blobs: dict[str, list[np.ndarray]] = {}
    for layer, values in as_caffe(arrays).items():
        added = [biases.get(f"{layer}.bias", np.zeros(3, np.float32))] if layer.startswith("upscore") else []
        blobs[names.get(layer, layer)] = values + added
    return blobs


@pytest.mark.parametrize(("stride", "names"), [*FIRST.items(), (8, CONTEXT)])
def test_the_first_release_gives_the_same_scores(
    stride: int, names: dict[str, str], recipe: MakeRecipe, tmp_path: Path
) -> None:
    """V1 layers, whose deconvolutions add their biases: as a hook does here."""
    small = recipe(stride=stride)
    arrays = numbers(small)
    path = write_caffemodel(tmp_path / "w", of_2015(arrays, names, BIASES), generation="layers")
    notes = import_weights(path, small, tmp_path / "out").notes
    assert "its layers have the names of the authors' first release (2015)" in notes
    image = torch.tensor(np.random.default_rng(0).normal(0, 50, (1, 3, 70, 90)).astype(np.float32))
    found = load_weights(small, tmp_path / "out").network()(image)
    expected = with_biases(small, arrays, tmp_path)(image)
    np.testing.assert_allclose(found[0].detach().numpy(), expected[0].detach().numpy(), rtol=1e-4, atol=1e-4)
    moved = {8: ["score_pool3.bias", "score_pool4.bias"], 16: ["score_pool4.bias"], 32: []}[stride]
    changed = [name for name, array in load_file(tmp_path / "out").items() if not np.array_equal(array, arrays[name])]
    assert sorted(changed) == moved


def with_biases(recipe: Recipe, arrays: Arrays, folder: Path) -> FCN:
    save_file(arrays, folder / "plain")
    network = load_weights(recipe, folder / "plain").network()
    for name, layer in network.named_modules():
        if f"{name}.bias" in BIASES:
            bias = torch.tensor(BIASES[f"{name}.bias"])[:, None, None]
            layer.register_forward_hook(lambda module, given, scores, bias=bias: scores + bias)
    return network


def test_a_bias_that_no_layer_can_take_is_left_over(recipe: MakeRecipe, tmp_path: Path) -> None:
    last = {"upscore8.bias": np.float32([0, 0, 1])}
    path = write_caffemodel(tmp_path / "w", of_2015(numbers(recipe()), FIRST[8], last), generation="layers")
    with pytest.raises(WeightsMismatchError, match=r"1 left over \(upscore8\.bias\)"):
        import_weights(path, recipe(), tmp_path / "out")


def test_a_layer_under_both_names_is_a_fault(recipe: MakeRecipe, tmp_path: Path) -> None:
    arrays = numbers(recipe())
    blobs = as_caffe(arrays) | {"score-fr": as_caffe(arrays)["score_fr"]}
    with pytest.raises(WeightsMismatchError, match="left over"):
        import_weights(write_caffemodel(tmp_path / "w", blobs), recipe(), tmp_path / "out")


# ---------------------------------------------------------------------- messages


@pytest.mark.parametrize("prefix", ["", "module."])
def test_another_class_count_is_said(prefix: str, recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe()
    arrays = numbers(small)
    for name in arrays:
        if name.startswith(("score_", "upscore")):
            arrays[name] = np.concatenate([arrays[name], arrays[name], arrays[name]])[:7]
            if name.startswith("upscore"):
                arrays[name] = dense(arrays[name])
    save_file(prefixed(arrays, prefix), tmp_path / "w")
    with pytest.raises(WeightsMismatchError) as caught:
        import_weights(tmp_path / "w", small, tmp_path / "out")
    said = f"it has 7 classes, small 3: copy the recipe {small.path} and name its own `classes` there"
    assert str(caught.value).endswith(said)


def test_names_with_spaces_are_quoted(recipe: MakeRecipe, tmp_path: Path) -> None:
    arrays = numbers(recipe()) | {"my layer, the first.weight": np.ones(2, np.float32), "": np.ones(1, np.float32)}
    save_file(arrays, tmp_path / "w")
    with pytest.raises(WeightsMismatchError, match=r"2 left over \('', 'my layer, the first\.weight'\)") as caught:
        import_weights(tmp_path / "w", recipe(), tmp_path / "out")
    assert sorted(caught.value.faults) == ["left over: '', 1", "left over: 'my layer, the first.weight', 2"]
