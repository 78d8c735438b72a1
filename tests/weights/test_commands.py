"""`fcnseg weights`, looked at by its results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fcnseg.recipes import Recipe, find_recipe
from fcnseg.weights.loading import load_weights
from fcnseg.weights.store import available, stored_path
from tests.caffe_files import write_caffemodel
from tests.conftest import Outcome
from tests.weights.conftest import as_caffe, numbers

Command = Callable[..., Outcome]


@pytest.fixture
def small(recipe: Callable[..., Recipe], tmp_path: Path) -> tuple[Recipe, Path]:
    made = recipe()
    return made, write_caffemodel(tmp_path / "small.caffemodel", as_caffe(numbers(made)))


def test_import_fills_the_store_and_list_shows_it(fcnseg: Command, tmp_path: Path) -> None:
    street = find_recipe("street-fcn8s")
    path = tmp_path / "s"
    save_file(numbers(street), path)
    assert fcnseg("weights", "import", path, "--model", "street-fcn8s").code == 0
    assert stored_path("street-fcn8s").is_file()
    assert available(street) in ("stored", "bundled")
    listed = fcnseg("weights", "list")
    assert "street-fcn8s" in listed.out


def test_import_to_a_file_runs_as_the_model(small: tuple[Recipe, Path], fcnseg: Command, tmp_path: Path) -> None:
    recipe, path = small
    out = tmp_path / "[red] out.safetensors"
    done = fcnseg("weights", "import", path, "--model", recipe.path, "--out", out)
    assert done.code == 0
    assert "[red] out" in done.err
    load_weights(recipe, out)


def test_a_mismatch_lists_each_tensor_and_then_one_line(
    small: tuple[Recipe, Path], recipe: Callable[..., Recipe], fcnseg: Command, tmp_path: Path
) -> None:
    done = fcnseg("weights", "import", small[1], "--model", recipe(name="o", stride=32).path, "--out", tmp_path / "o")
    assert done.code == 2
    assert "o: 1 missing (upscore.weight), 7 left over" in done.error_line
    assert len(done.err.splitlines()) == 1 + 8
    assert not (tmp_path / "o").exists()


def test_control_characters_in_a_file_do_not_reach_the_terminal(
    small: tuple[Recipe, Path], fcnseg: Command, tmp_path: Path
) -> None:
    path = write_caffemodel(tmp_path / "s", {"\x1b[2J\nx": [np.ones(3, np.float32)]})
    done = fcnseg("weights", "import", path, "--model", small[0].path)
    assert done.code == 2
    assert "\x1b" not in done.err + fcnseg("weights", "inspect", path).out


def test_a_foreign_file_is_one_line(small: tuple[Recipe, Path], fcnseg: Command, tmp_path: Path) -> None:
    (tmp_path / "page.caffemodel").write_text("<html>")
    for arguments in (
        ("import", tmp_path / "page.caffemodel", "-m", small[0].path),
        ("inspect", tmp_path / "no"),
    ):
        done = fcnseg("weights", *arguments)
        assert done.code == 1
        assert done.error_line == done.err.strip()


def test_inspect(fcnseg: Command, tmp_path: Path) -> None:
    path = tmp_path / "s"
    arrays = numbers(find_recipe("street-fcn8s"))
    arrays["conv1_1.bias"][0] = np.nan
    save_file(arrays, path, {"recipe": "street-fcn8s"})
    found = json.loads(fcnseg("weights", "inspect", path, "--json").out)
    assert found["fits"] == ["street-fcn8s"]
    assert found["parameters"] == sum(a.size for a in arrays.values())
    rows = {t["name"]: t for t in found["tensors"]}
    assert rows["conv1_1.bias"]["mean"] is None
    assert rows["fc6.weight"]["mean"] == pytest.approx(arrays["fc6.weight"].mean(), rel=1e-4)
    assert "street-fcn8s" in fcnseg("weights", "inspect", path).out


def test_inspect_knows_a_classifier_of_the_real_size(fcnseg: Command, tmp_path: Path) -> None:
    """bvlc_googlenet: the shipped recipe's trunk, and classifier layers."""
    shapes = numbers(find_recipe("voc-fcn-googlenet"))
    trunk = {k: v for k, v in shapes.items() if not k.startswith(("score", "upscore"))}
    classifier = as_caffe(trunk) | {"loss3/classifier": [np.ones((9, 4), np.float32)]}
    path = write_caffemodel(tmp_path / "s", classifier, generation="layers")
    found = json.loads(fcnseg("weights", "inspect", path, "--json").out)
    assert (found["fits"], found["starts"]) == ([], ["voc-fcn-googlenet"])


def test_absent_weights_say_how_to_get_them(fcnseg: Command, tmp_path: Path) -> None:
    done = fcnseg("run", tmp_path, "--out", tmp_path / "o", "--model", "voc-fcn8s")
    assert done.code == 1
