"""What decides the weights of a training is compared by name when it is resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fcnseg.errors import SettingsError
from fcnseg.training.comparison import described, differences, extends, file_differences, remedies
from fcnseg.training.preparation import TrainOptions, default_crop, make_plan
from fcnseg.training.records import RunFolder
from tests.conftest import make_tiny, photograph

CPU = torch.device("cpu")


def labelled(folder: Path, names: str, size: tuple[int, int] = (40, 32)) -> Path:
    for number, name in enumerate(names):
        photograph(folder / "images" / f"{name}.jpg", *size, seed=ord(name))
        (folder / "labels").mkdir(exist_ok=True)
        Image.fromarray(np.full(size[::-1], number % 3, np.uint8)).save(folder / "labels" / f"{name}.png")
    return folder


@pytest.fixture
def begun(tmp_path: Path) -> TrainOptions:
    """The options of a training that has a checkpoint."""
    recipe = tmp_path / "mine.toml"
    recipe.write_text(make_tiny(tmp_path).recipe.read_text())
    labelled(tmp_path / "data/train", "abc")
    labelled(tmp_path / "data/val", "vw")
    (tmp_path / "map.txt").write_text("0: 0\n1: 1\n2: 2\n")
    options = TrainOptions(
        tmp_path / "data", tmp_path / "run", str(recipe), scratch=True, label_map=tmp_path / "map.txt"
    )
    plan = make_plan(options, CPU)
    with_results(plan.out, plan)
    return options


def with_results(out: Path, plan: Any) -> None:
    folder = RunFolder(out)
    folder.begin(plan.settings, plan.files)
    folder.save({"stage": 0})
    folder.close()


def refused(options: TrainOptions, **changes: Any) -> str:
    plan = make_plan(replace(options, **changes), CPU)
    with pytest.raises(SettingsError) as caught:
        RunFolder(plan.out).check(plan.settings, plan.files)
    return str(caught.value)


def edited(file: Path, before: str, now: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, now, 1))


def test_the_same_training_goes_on(begun: TrainOptions) -> None:
    plan = make_plan(begun, CPU)
    assert RunFolder(plan.out).check(plan.settings, plan.files) == []
    notes = RunFolder(plan.out).check(make_plan(replace(begun, micro_batch=1), CPU).settings, plan.files)
    assert notes == ["micro_batch was 8, now 1: normalisation, dropout and rounding differ by it"]


@pytest.mark.parametrize(
    ("before", "now", "says"),
    [
        ("mean = [", "mean = [1.5, 2.5, 3.5] #", "stream 0.color.mean was "),
        ('order = "bgr"', 'order = "rgb"', "stream 0.color.order was bgr, now rgb"),
        ("width = ", "width = 0.25 #", "architecture.width was "),
        ("stride = 8", "stride = 16", "architecture.stride was 8, now 16"),
        ('"b", "c"', '"x", "c"', "heads.labels.classes[1] was b, now x"),
        (', "e"]', "]", "heads.labels.classes was ['a', 'b', 'c', 'd', 'e'], now ['a', 'b', 'c', 'd']"),
        ("[[heads]]", "[[heads]]\nignore = 254", "heads.labels.ignore was 255, now 254"),
    ],
)
def test_the_contents_of_the_recipe_count(begun: TrainOptions, before: str, now: str, says: str) -> None:
    edited(Path(begun.model), before, now)
    said = refused(begun)
    assert says in said
    assert said.endswith("; give the same, or --overwrite")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"overrides": {"steps": 40}}, "(steps was not given, now 40)"),
        ({"overrides": {"lr": 0.5}}, "lr was 0.003, now 0.5"),
        ({"overrides": {"rotation": 5.0}}, "rotation was 0.0, now 5.0"),
        ({"seed": 7}, "seed was 0, now 7"),
        ({"reduce_labels": True, "label_map": None}, "data set 0.labels.classes of values.0 was 0, now not given"),
        ({"ignore": (2,)}, "data set 0.labels.void was 255, now [2, 255]"),
        ({"validate_every": 3.0}, "validate_every was 0.0, now 3.0"),
    ],
    ids=str,
)
def test_every_option_that_counts_is_named(begun: TrainOptions, changes: dict[str, Any], says: str) -> None:
    assert says in refused(begun, **changes)


def test_a_label_map_of_other_contents_counts(begun: TrainOptions, tmp_path: Path) -> None:
    edited(tmp_path / "map.txt", "2: 2", "2: 1")
    assert "data set 0.labels.classes of values.2 was 2, now 1" in refused(begun)


def test_images_that_came_went_or_changed_are_named(begun: TrainOptions, tmp_path: Path) -> None:
    labelled(tmp_path / "data/train", "abcde")
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (32, 40), np.uint8)).save(
        tmp_path / "data/train/labels/a.png"
    )
    for kind, suffix in (("images", "jpg"), ("labels", "png")):
        (tmp_path / f"data/val/{kind}/w.{suffix}").unlink()
    said = refused(begun)
    assert "2 training images added: d, e; 1 training image changed: a; 1 validation image removed: w" in said


def test_before_anything_was_trained_all_may_change(begun: TrainOptions) -> None:
    plan = make_plan(replace(begun, seed=5), CPU)
    (plan.out / "checkpoint.pt").unlink()
    assert RunFolder(plan.out).check(plan.settings, plan.files) == []


def test_a_precision_that_auto_chose_is_named() -> None:
    found = {"preset.precision": ("bf16", "fp32")}
    said = described(found, {"precision": "auto", "device": "cpu"})
    assert said == "precision was bf16, now fp32 (chosen by auto for cpu; give --precision bf16)"
    assert described(found, {"precision": "fp32", "device": "cpu"}) == "precision was bf16, now fp32"


def test_what_may_differ_is_no_more_than_that() -> None:
    assert differences({"preset": {"steps": [30]}, "data": "a"}, {"preset": {"steps": [40]}, "data": "b"}) == {
        "preset.steps": ([30], [40])
    }
    assert extends({"preset.steps": ([30], [40])})
    assert extends({"preset.epochs": ([175, 60], [175, 80]), "patience": (3, 5)})
    assert not extends({"preset.epochs": ([175, 60], [170, 80])})
    assert not extends({"preset.steps": ([], [40])})
    assert not extends({"preset.steps": ([30], [40]), "seed": (0, 1)})
    assert not extends({"patience": (1, 2)})
    assert remedies({"preset.lr": (0.1, 0.01), "preset.finetune_lr": (0.1, 0.0)})
    assert not remedies({"preset.lr": (0.1, 0.2)})
    assert not remedies({"preset.lr": (0.1, 0.01), "seed": (0, 1)})
    many = {"training": {str(n): [1] for n in range(9)}}
    assert file_differences({}, many) == "9 training images added: 0, 1, 2, 3, ..."


def test_the_crop_is_of_the_median_image() -> None:
    assert default_crop([(32, 40), (360, 480), (360, 480)]) == (288, 384)
    assert default_crop([(2000, 3000)]) == (512, 512)
    assert default_crop([(20, 30), (20, 30), (3000, 3000)]) == (32, 32)
    assert default_crop([(100, 200), (200, 100)]) == (96, 96)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"overrides": {"epochs": float("inf")}}, "epochs is inf"),
        ({"overrides": {"epochs": float("nan")}}, "epochs is nan"),
        ({"overrides": {"epochs": 0}}, "epochs is 0"),
        ({"overrides": {"epochs": -1}}, "epochs is -1"),
        ({"overrides": {"epochs": 1e30}}, "e+29 steps over 3 images; give fewer"),
        ({"overrides": {"steps": 10**12}}, "1e+12 steps over 3 images"),
        ({"overrides": {"lr": float("inf")}}, "lr is inf"),
        ({"overrides": {"weight_decay": float("nan")}}, "weight_decay is nan"),
        ({"overrides": {"class_weights": [1.0, 2.0]}}, "2 class weights for the"),
        ({"overrides": {"rotation": 5.0, "crop": [0, 0]}}, "whole images are trained on"),
        ({"validate_every": float("inf"), "seed": -1}, "--seed is -1; use 0 or more; --validate-every is inf"),
        (
            {"save_every": float("nan"), "log_every": 0},
            "--save-every is nan; use a number of seconds; --log-every is 0",
        ),
        ({"best_by": "f1"}, "--best-by is 'f1'; use mean_iu, pixel_accuracy or loss"),
    ],
    ids=str,
)
def test_numbers_that_cannot_be_are_refused(begun: TrainOptions, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_plan(replace(begun, **changes), CPU)
    assert says in str(caught.value)
