"""Numbers that are not finite: no model, no checkpoint, and a way out that works."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fcnseg.errors import DivergedError, SettingsError
from fcnseg.models import network_spec
from fcnseg.training.export import write_weights
from fcnseg.training.finite import not_finite
from fcnseg.training.plan import TrainHooks, TrainPlan
from fcnseg.training.stages import run_plan
from fcnseg.training.trainer import Trainer
from fcnseg.training.weight_surgery import new_network
from tests.training.memory import CPU, blocks, plan, preset, tiny_recipe

Make = Callable[..., TrainPlan]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    recipe = tiny_recipe(tmp_path, stride=16)
    samples = blocks(recipe, [(40, 40)] * 2)

    def with_lr(lr: float, **values: Any) -> TrainPlan:
        how = preset("modern", recipe, batch_size=2, steps=(4,), precision="fp32", lr=lr, lr_schedule="constant")
        settings = {"preset": {"lr": lr}, "seed": 0}
        return plan(recipe, how, samples, tmp_path / "run", settings=settings, **values)

    return with_lr


@pytest.mark.parametrize("lr", [1e30, 1e39, 1e12])
def test_no_rate_writes_numbers_that_are_not_finite(make: Make, tmp_path: Path, lr: float) -> None:
    said = rf"of stage 16s \(image .*give a lower --lr than {re.escape(f'{lr:g}')}: with it the same command"
    with pytest.raises(DivergedError, match=rf"{said} begins the stage anew"):
        run_plan(make(lr, validate_every=100.0), CPU)
    assert not (tmp_path / "run" / "model.toml").exists()
    for file in (tmp_path / "run").glob("*.safetensors"):
        assert all(np.isfinite(value).all() for value in load_file(file).values())
    if (tmp_path / "run" / "checkpoint.pt").exists():
        assert not not_finite(torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True))


def test_a_lower_rate_goes_on_where_the_training_was_sound(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("fcnseg.training.trainer.scheduled_lr", lambda *of: 1e-3 if of[2] < 0.5 else 1e12)
        with pytest.raises(DivergedError, match=r"step 4 of stage 16s .*goes on from step 2"):
            run_plan(make(1e-3, validate_every=2.0), CPU)
    assert torch.load(run / "checkpoint.pt", weights_only=True)["trainer"]["step"] == 2
    with pytest.raises(SettingsError, match=r"lr was 0\.001, now 0\.1"):
        run_plan(make(0.1, validate_every=2.0), CPU)
    steps: list[int] = []
    hooks = TrainHooks(on_step=lambda result: steps.append(result.step))
    assert not run_plan(make(1e-4, validate_every=2.0), CPU, hooks).stopped_at
    assert steps == [3, 4]
    assert not (run / "diverged.json").exists()
    with pytest.raises(SettingsError, match=r"lr was 0\.0001, now 1e-05"):  # only after it diverged
        run_plan(make(1e-5, validate_every=2.0), CPU)


def test_a_checkpoint_of_weights_that_are_of_no_use_is_not_gone_on_from(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("fcnseg.training.trainer.scheduled_lr", lambda *of: 1e-3 if of[2] < 0.5 else 1e12)
        patch.setattr(Trainer, "check", lambda trainer: None)  # as if it had gone unseen
        with pytest.raises(DivergedError, match="begins the stage anew"):
            run_plan(make(1e-3, validate_every=100.0, save_every=0.0), CPU)
    steps: list[int] = []
    hooks = TrainHooks(on_step=lambda result: steps.append(result.step))
    run_plan(make(1e-4, validate_every=100.0, save_every=0.0), CPU, hooks)
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize("part", ["conv1_1_bn.running_mean", "conv1_1_bn.running_var", "score_fr.weight"])
@pytest.mark.parametrize("averaged", [True, False])
def test_one_number_anywhere_is_enough_to_write_nothing(tmp_path: Path, part: str, averaged: bool) -> None:
    recipe = tiny_recipe(tmp_path)
    how = preset("modern", recipe, batch_size=1, steps=(1,), ema_decay=0.9 if averaged else 0.0)
    network = new_network(replace(network_spec(recipe), batch_norm=True))
    trainer = Trainer(network, recipe, how, blocks(recipe, [(40, 40)]), execution=CPU)
    trainer.result.state_dict()[part].view(-1)[0] = float("nan")
    (tmp_path / "run").mkdir()
    with pytest.raises(DivergedError, match="is not finite"):
        write_weights(plan(recipe, how, blocks(recipe, [(40, 40)]), tmp_path / "run"), trainer, "model")
    assert not list((tmp_path / "run").iterdir())
    with pytest.raises(DivergedError, match="is not finite"):
        trainer.check()
