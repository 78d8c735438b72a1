"""Cross-validation: every image validates once, and folds without labels are refused before the first training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import SettingsError
from fcnseg.recipes import find_recipe
from fcnseg.training.datasets import open_samples
from fcnseg.training.folds import in_fold
from tests.conftest import Outcome, TinyModel
from tests.training.test_comparison import labelled

Run = Callable[..., Outcome]


def test_each_image_is_in_one_fold(tmp_path: Path) -> None:
    labelled(tmp_path / "train", "abcdef")
    labelled(tmp_path / "val", "vw")
    train, val = (open_samples(tmp_path, find_recipe("street-fcn8s"), split) for split in ("train", "val"))
    folds = [in_fold(train, val, fold, 3) for fold in (1, 2, 3)]
    assert sorted(name for _, of in folds for name in of.names) == sorted("abcdefvw")
    assert {len(of) for _, of in folds} == {2, 3}
    for others, of in folds:
        assert sorted([*others.names, *of.names]) == sorted("abcdefvw")
        assert len(of.sizes) == len(of)
        assert of[0].name == of.names[0]
    for fold, count in ((0, 3), (4, 3), (1, 9), (1, 1)):
        with pytest.raises(SettingsError, match="use "):
            in_fold(train, val, fold, count)


def test_the_figures_of_all_folds_are_summed_up(fcnseg: Run, tiny: TinyModel, tmp_path: Path) -> None:
    labelled(tmp_path / "data", "abcd")
    words = ("train", tiny.recipe, "--data", tmp_path / "data", "--out", tmp_path / "run", "--weights", tiny.weights)
    more = ("--folds", 2, "--steps", 1, "-b", 2)
    done = fcnseg(*words, *more)
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "run/folds.json").read_text())
    shares = [fold["figures"]["labels"]["mean_iu"] for fold in found["folds"]]
    assert found["summary"]["labels"]["mean_iu"]["mean"] == pytest.approx(np.mean(shares))
    assert found["summary"]["labels"]["mean_iu"]["std"] == pytest.approx(np.std(shares, ddof=1))
    assert f"{100 * np.mean(shares):.2f} ± " in done.out
    assert (tmp_path / "run/fold-2/model.toml").exists()
    again = fcnseg(*words, *more)  # those that ended are kept
    assert again.out == done.out
    assert "step 1 of 1, loss" not in again.err
    for file in (tmp_path / "data/labels").iterdir():
        if file.stem != "a":
            Image.fromarray(np.full((32, 40), 255, np.uint8)).save(file)
    void = fcnseg(*words[:-3], tmp_path / "void", *words[-2:], *more)
    assert void.code == 2
    assert "is labelled in the 2 images of fold" in void.error_line
    assert not (tmp_path / "void").exists()
    assert fcnseg(*words, "--fold", 1).error_line.endswith("--fold says which of --folds; give both")
