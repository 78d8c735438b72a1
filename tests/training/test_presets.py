"""Presets: the published numbers, files of other values, and values that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcnseg.errors import SettingsError
from fcnseg.recipes import find_recipe
from fcnseg.training.preset_values import FORMER_KEYS
from fcnseg.training.presets import PRESETS, find_preset, override


def test_the_published_presets_are_the_published_numbers(tmp_path: Path) -> None:
    voc, alexnet = find_recipe("voc-fcn8s"), find_recipe("voc-fcn-alexnet")
    paper, heavy = find_preset("paper", voc), find_preset("heavy", voc)
    assert (paper.batch_size, paper.momentum, paper.lr, paper.weight_decay, paper.bias_lr_multiplier) == (
        20,
        0.9,
        1e-4,
        5e-4,
        2,
    )
    assert find_preset("paper", alexnet).lr == 1e-3
    assert (heavy.batch_size, heavy.momentum, heavy.normalize_loss, heavy.steps) == (1, 0.99, False, (100_000,))
    assert [heavy.stage_lr(stage) for stage in range(3)] == pytest.approx([1e-10, 1e-12, 1e-14])
    assert [paper.stage_lr(stage) for stage in range(3)] == pytest.approx([1e-4, 1e-6, 1e-8])
    at_once = find_preset("heavy", find_recipe("voc-fcn8s-atonce"))
    assert (at_once.staged, at_once.lr, at_once.steps) == (False, 1e-10, (300_000,))
    light = find_preset("heavy", alexnet)
    assert (light.batch_size, light.momentum, light.lr, light.normalize_loss, light.steps) == (
        20,
        0.9,
        1e-4,
        True,
        (100_000,),
    )
    assert find_preset("heavy", find_recipe("nyud-fcn32s-color-hha")).lr == 1e-12
    assert find_preset("heavy", find_recipe("nyud-fcn32s-color")).steps == (300_000,)
    file = tmp_path / "mine.toml"
    file.write_text('base = "paper"\nlr = 1\nsteps = [10, 20]\n')
    mine = find_preset(file, voc)
    assert (mine.name, mine.lr, mine.momentum) == ("mine", 1.0, 0.9)
    assert [mine.steps_of(stage, 100) for stage in range(3)] == [10, 20, 20]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"lr_schedul": 1}, r"lr_schedul: unknown key; did you mean lr_schedule\?"),
        ({"lr": "fast"}, "give a finite number"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr_schedule": "step"}, "use constant, poly or cosine"),
        ({"crop": [1]}, "a height and a width"),
    ],
)
def test_a_preset_that_cannot_be_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        override(PRESETS["modern"], values, "mine.toml")


def test_keys_of_earlier_versions_are_refused_with_their_new_names() -> None:
    for former, key in FORMER_KEYS.items():
        assert not hasattr(PRESETS["modern"], former)
        assert hasattr(PRESETS["modern"], key)
        with pytest.raises(SettingsError, match=rf"{former}: unknown key; did you mean {key}\?"):
            override(PRESETS["modern"], {former: 1}, "mine.toml")


def test_all_faults_are_reported_together() -> None:
    with pytest.raises(SettingsError) as caught:
        override(PRESETS["modern"], {"rate": 1, "hflip": 1, "momentum": 2}, "mine.toml")
    for fault in ("rate: unknown key", "hflip is 1; give true or false", "momentum is 2; use 0 to below 1"):
        assert fault in str(caught.value)


def test_the_schedule_follows_the_data_set_and_not_the_name() -> None:
    voc = find_recipe("voc-fcn8s")
    assert find_preset("heavy", replace(voc, name="mine")).steps == (100_000,)
    assert find_preset("heavy", replace(voc, dataset="")).steps == (300_000,)
