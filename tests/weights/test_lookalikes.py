"""Networks with tensors of the same names and shapes: told apart by what the file says, or a line says that none is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from fcnseg.errors import WeightsMismatchError
from fcnseg.recipes import find_recipe
from fcnseg.weights.importing import import_weights
from fcnseg.weights.loading import load_weights
from fcnseg.weights.lookalikes import doubts, refuse_lookalike, told_by
from fcnseg.weights.matching import expected_shapes, match
from fcnseg.weights.tensors import TensorFile
from tests.weights.conftest import MakeRecipe, as_torch, numbers

SKIPS = "skip_scales = { pool4 = 0.01, pool3 = 0.0001 }"


def file_of(model: str, name: str, form: str = "pytorch", **metadata: str) -> TensorFile:
    """A file of a shipped model's size, without its numbers; pytorch-fcn's hold no scales."""
    shapes = {n: s for n, s in expected_shapes(find_recipe(model)).items() if not n.startswith("scale_")}
    return TensorFile(Path(name), form, {n: np.broadcast_to(np.float32(0), s) for n, s in shapes.items()}, metadata)


def outcome(file: TensorFile, model: str) -> str:
    """The error's text, the doubts, or nothing."""
    recipe, evidence = find_recipe(model), told_by(file)
    matched = match(file, recipe)
    assert not matched.faults
    try:
        refuse_lookalike(file, evidence, recipe, matched)
    except WeightsMismatchError as error:
        return str(error)
    return "" if evidence else " ".join(doubts(file, recipe))


TOLD = [
    ("x.pth", {"arch": "FCN8sAtOnce"}, True),
    ("x.pth", {"arch": "FCN8s"}, False),
    ("fcn8s-atonce_from_caffe.pth", {"arch": "FCN8s"}, False),
    ("fcn8s-atonce_from_caffe.pth", {}, True),
    ("fcn8s-atonce_from_caffe (1).pth", {}, True),
    ("FCN8s_AtOnce best.pth.tar", {}, True),
    ("fcn8s_from_caffe.pth", {}, False),
    ("copy of fcn8s-heavy-pascal.safetensors", {}, False),
    ("x", {"recipe": "voc-fcn8s-atonce"}, True),
    ("x", {"recipe": "voc-fcn8s"}, False),
]


@pytest.mark.parametrize(("name", "metadata", "at_once"), TOLD)
def test_a_net_trained_at_once_is_told_from_one_in_stages(name: str, metadata: dict[str, str], at_once: bool) -> None:
    file = file_of("voc-fcn8s", name, **metadata)
    right, wrong = ("voc-fcn8s-atonce", "voc-fcn8s")[:: 1 if at_once else -1]
    assert outcome(file, right) == ""
    message = outcome(file, wrong)
    assert f"use --model {right}" in message
    assert ("rename the file" in message) == (not metadata)


@pytest.mark.parametrize("model", ["voc-fcn8s", "voc-fcn8s-atonce"])
def test_where_nothing_tells_that_is_said(model: str) -> None:
    other = ({"voc-fcn8s", "voc-fcn8s-atonce"} - {model}).pop()
    said = outcome(file_of("voc-fcn8s", "model_best.pth.tar"), model)
    assert said.startswith(f"nothing in the file tells {model} from {other}")
    assert "fcnseg score" in said


def test_colours_and_hha_are_told_apart() -> None:
    for name in ("nyud-fcn32s-hha-heavy.caffemodel", "w.caffemodel"):
        file = file_of("nyud-fcn32s-hha", name, "caffe")
        assert ("use --model nyud-fcn32s-hha" if "nyud" in name else "nothing in the file") in outcome(
            file, "nyud-fcn32s-color"
        )
    late = file_of("nyud-fcn32s-color-hha", "nyud-fcn32s-color-hha-heavy.caffemodel", "caffe")
    assert outcome(late, "nyud-fcn32s-color-hha") == ""


def test_a_caffe_file_tells_by_its_scales_and_other_strides_need_nothing() -> None:
    assert outcome(file_of("voc-fcn8s", "x", "caffe"), "voc-fcn8s") == ""
    assert outcome(file_of("voc-fcn16s", "x"), "voc-fcn16s") == ""


def test_contradictions_are_refused_wherever_weights_are_read(recipe: MakeRecipe, tmp_path: Path) -> None:
    staged, at_once = recipe(), recipe(name="once", skips=SKIPS)
    plain = as_torch(numbers(staged))
    torch.save({"arch": "FCN8sAtOnce", "model_state_dict": plain}, tmp_path / "w.pth")
    for use in (load_weights, lambda r, p: import_weights(p, r, tmp_path / "out")):
        with pytest.raises(WeightsMismatchError, match="use a recipe with `skip_scales`"):
            use(staged, tmp_path / "w.pth")  # type: ignore[operator]
    assert import_weights(tmp_path / "w.pth", at_once, tmp_path / "out").initialised


def test_a_users_recipe_is_doubted_too(recipe: MakeRecipe, tmp_path: Path) -> None:
    torch.save(as_torch(numbers(recipe())), tmp_path / "w.pth")
    (note,) = import_weights(tmp_path / "w.pth", recipe(), tmp_path / "out").notes
    assert "tells small from an FCN-8s trained at once" in note
    save_file(numbers(recipe()), tmp_path / "w", {"recipe": "mine"})
    assert not import_weights(tmp_path / "w", recipe(), tmp_path / "out").notes
