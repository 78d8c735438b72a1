"""Whole trainings: stages, stops at any moment, what they leave behind, and what they refuse."""

from __future__ import annotations

import copy
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from fcnseg.errors import LabelsError, SettingsError, TrainingError
from fcnseg.io.atomic import PART
from fcnseg.models import network_spec
from fcnseg.recipes import load_recipe
from fcnseg.training.initial_weights import InitialWeights, find_initial_weights
from fcnseg.training.plan import TrainHooks, TrainPlan, TrainResult
from fcnseg.training.stages import run_plan
from fcnseg.training.weight_surgery import (
    new_network,
)
from fcnseg.weights.loading import load_whole_model
from tests.training.memory import CPU, blocks, plan, preset, tiny_recipe


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class StopAfter:
    """Asks to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def hooks(self) -> TrainHooks:
        return TrainHooks(on_step=self._count, stop=lambda: self.left <= 0)

    def _count(self, _: object) -> None:
        self.left -= 1


def run_to_the_end(make: Any, stops: list[int]) -> TrainResult:
    """Train, stopping after each so many steps, until done."""
    for stop in [*stops, 10**9]:
        trained = run_plan(make(), CPU, StopAfter(stop).hooks())
        if not trained.stopped_at:
            return trained
    raise AssertionError("it never ended")


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(1, 5), min_size=1, max_size=4), name=st.sampled_from(["paper", "modern", "staged"]))
def test_stopped_anywhere_it_ends_with_the_same_weights_and_curve(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int], name: str
) -> None:
    staged = name != "modern"
    folder = tmp_path_factory.mktemp("stops")
    recipe = tiny_recipe(folder, stride=8)
    samples = blocks(recipe, [(40, 48), (40, 56), (64, 40)])
    how = preset(
        "paper" if name == "paper" else "modern", recipe, batch_size=2, steps=(4,), ema_decay=0.9, precision="fp32"
    )
    how = replace(how, staged=staged)

    def make(name: str) -> Any:
        return lambda: plan(recipe, how, samples, folder / name, validate_every=2.0, log_every=3)

    whole = run_to_the_end(make("whole"), [])
    parts = run_to_the_end(make("parts"), stops)
    assert whole.figures == parts.figures
    assert curve(folder / "whole") == curve(folder / "parts")
    for file in ("model.safetensors", "best.safetensors"):
        ours, theirs = (load_file(folder / name / file) for name in ("whole", "parts"))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert {row["stage"] for row in curve(folder / "whole")} == ({"0", "1", "2"} if staged else {"0"})


def test_one_training_at_a_time_holds_a_folder(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=16)
    samples, how = blocks(recipe, [(40, 40)]), preset("modern", recipe, batch_size=2, steps=(2,))

    def make() -> TrainPlan:
        return plan(recipe, how, samples, tmp_path / "r")

    def again(_: object) -> None:
        with pytest.raises(SettingsError, match="another training is at work"):
            run_plan(make(), CPU)

    run_plan(make(), CPU, TrainHooks(on_step=again))
    assert run_plan(make(), CPU).figures  # and gives it back
    assert not list((tmp_path / "r").glob(".*"))


def test_what_a_killed_or_full_machine_left_does_not_matter(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=16)
    samples, run = blocks(recipe, [(40, 40)] * 2), tmp_path / "run"
    how = preset("modern", recipe, batch_size=2, steps=(4,))
    moved = {"data": ["/old"], "seed": 0}
    assert run_plan(plan(recipe, how, samples, run, settings=moved), CPU, StopAfter(2).hooks()).stopped_at
    with (run / "log.csv").open("a") as file:
        file.write("0,1")  # a row that was cut
    (run / f"{PART}of-a-killed-one").write_bytes(b"half a checkpoint")
    assert not run_plan(plan(recipe, how, samples, run, settings={**moved, "data": ["/new"]}), CPU).stopped_at
    assert [row["step"] for row in curve(run) if row["loss"]] == ["1", "2", "3", "4"]
    assert not list(run.glob(f"{PART}*"))
    assert csv.DictReader((run / "log.csv").open()).fieldnames[-1].startswith("iu/")  # type: ignore[index]
    (run / "train.json").write_text("{")
    with pytest.raises(SettingsError, match=r"train\.json is damaged .*--overwrite"):
        run_plan(plan(recipe, how, samples, run, settings=moved), CPU)


def no_memory(*_: object) -> None:
    raise MemoryError


def test_an_error_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipe(tmp_path, stride=16)
    samples = blocks(recipe, [(40, 40)] * 2)
    how = preset("modern", recipe, batch_size=2, steps=(4,))
    assert run_plan(plan(recipe, how, samples, tmp_path / "run"), CPU, StopAfter(2).hooks()).stopped_at
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    with monkeypatch.context() as patch:
        patch.setattr("fcnseg.training.step.pixel_loss", no_memory)
        with pytest.raises(TrainingError, match=r"out of memory at step 3 .*\(image .*checkpoint\.pt is of before"):
            run_plan(plan(recipe, how, samples, tmp_path / "run"), CPU)
    for part, name in (("network", "score_fr.bias"), ("network", "conv1_1_bn.running_var"), ("ema", "module.fc6.bias")):
        state = copy.deepcopy(kept)
        state["trainer"][part][name].fill_(float("nan"))
        torch.save(state, tmp_path / "run" / "checkpoint.pt")
        with pytest.raises(TrainingError, match=rf"holds numbers that are not finite \(trainer {part} {name}\); begin"):
            run_plan(plan(recipe, how, samples, tmp_path / "run"), CPU)
    kept["trainer"]["optimizer"]["state"][0]["exp_avg_sq"].fill_(float("inf"))
    torch.save(kept, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(TrainingError, match="optimizer state 0 exp_avg_sq"):
        run_plan(plan(recipe, how, samples, tmp_path / "run"), CPU)


def test_what_it_leaves_is_a_model(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=16)
    samples = blocks(recipe, [(40, 40)] * 3)
    out = tmp_path / "mine"
    done = plan(replace(recipe, name="mine"), preset("modern", recipe, batch_size=3, steps=(3,)), samples, out)
    trained = run_plan(done, CPU)
    assert load_recipe(out / "best.toml").architecture == recipe.architecture
    assert load_whole_model(load_recipe(out / "best.toml"))
    found = load_recipe(out / "model.toml")
    assert found.name == "mine"
    assert found.heads == recipe.heads
    assert found.streams == recipe.streams
    assert found.architecture == recipe.architecture
    network = load_whole_model(found).network()  # normalisation is folded in
    kept = torch.load(out / "checkpoint.pt", weights_only=True)["network"]
    trained_net = new_network(replace(network_spec(recipe), batch_norm=True)).eval()
    trained_net.load_state_dict(kept)
    x = 50 * torch.randn(1, 3, 40, 56)
    with torch.inference_mode():
        ours, theirs = network(x)[0], trained_net(x)[0]
    assert float((ours - theirs).abs().max()) <= 1e-4 * float(theirs.abs().max())
    assert 0 <= trained.figures["labels"]["mean_iu"] <= 1
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))
    # another run begins from where this one ended, normalisation and all
    start = find_initial_weights(recipe, [out / "checkpoint.pt"])
    assert start.state is not None
    assert any("_bn." in name for name in start.state)
    assert start.keep_scores


@pytest.mark.parametrize(
    "what",
    [
        {"heads": 2},
        {"streams": "hha", "stride": 32},
        {"streams": "depth", "stride": 32},
        {"backbone": "alexnet", "stride": 32},
        {"backbone": "googlenet", "stride": 32},
        {"geometry": "caffe"},
    ],
    ids=str,
)
def test_every_kind_of_network_is_trained_and_loads(tmp_path: Path, what: dict[str, Any]) -> None:
    recipe = tiny_recipe(tmp_path, **what)
    samples = blocks(recipe, [(40, 48), (48, 40)])
    trained = run_plan(plan(recipe, preset("modern", recipe, batch_size=2, steps=(2,)), samples, tmp_path / "run"), CPU)
    assert list(trained.figures) == [head.name for head in recipe.heads]
    found = load_recipe(tmp_path / "run" / "model.toml")
    assert (found.heads, found.streams, found.architecture) == (recipe.heads, recipe.streams, recipe.architecture)
    ours, kept = load_whole_model(found).network().state_dict(), load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(ours[name], kept[name]) for name in kept if name.startswith("score_"))


def test_a_finished_run_is_not_trained_again_and_another_is_refused(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=16)
    samples = blocks(recipe, [(16, 16)] * 2)
    how = preset("modern", recipe, batch_size=2, steps=(2,))
    first = run_plan(plan(recipe, how, samples, tmp_path / "run", settings={"seed": 0}), CPU)

    def never(_: object) -> None:
        raise AssertionError("it trained again")

    again = run_plan(plan(recipe, how, samples, tmp_path / "run", settings={"seed": 0}), CPU, TrainHooks(on_step=never))
    assert again.figures == first.figures
    with pytest.raises(SettingsError, match=r"seed was 0, now 1"):
        run_plan(plan(recipe, how, samples, tmp_path / "run", settings={"seed": 1}), CPU)
    run_plan(plan(recipe, how, samples, tmp_path / "run", seed=1, settings={"seed": 1}), CPU, overwrite=True)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.txt").write_text("mine")
    with pytest.raises(SettingsError, match="holds something else"):
        run_plan(plan(recipe, how, samples, tmp_path / "else"), CPU)


def test_stages_follow_from_the_start(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=8)
    samples = blocks(recipe, [(16, 16)])
    how = preset("paper", recipe, steps=(1,))

    def strides(initial: InitialWeights) -> tuple[int, ...]:
        return plan(recipe, how, samples, tmp_path, initial=initial).strides

    assert strides(InitialWeights()) == (32, 16, 8)
    assert strides(InitialWeights({}, None)) == (32, 16, 8)
    assert strides(InitialWeights({}, 32)) == (16, 8)
    assert strides(InitialWeights({}, 16)) == (8,)
    assert strides(InitialWeights({}, 8)) == (8,)


def test_the_best_is_that_of_all_stages_and_patience_ends_each(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=8)
    samples = blocks(recipe, [(40, 48), (40, 56)])
    how = replace(preset("modern", recipe, batch_size=2, steps=(30,), precision="fp32", lr=1e-9), staged=True)
    seen: list[tuple[float, bool]] = []
    notes: list[str] = []
    hooks = TrainHooks(
        on_figures=lambda figures, best: seen.append((figures["labels"]["loss"], best)), on_note=notes.append
    )
    done = plan(recipe, how, samples, tmp_path / "run", validate_every=1.0, patience=2, best_by="loss")
    result = run_plan(done, CPU, hooks)
    losses = [loss for loss, _ in seen]
    assert [best for _, best in seen] == [loss < min([9e9, *losses[:i]]) for i, loss in enumerate(losses)]
    assert (result.best_by, result.best) == ("loss", min(losses))
    step = next(iter(load_recipe(tmp_path / "run/best.toml").score.partition("after ")[2:]))
    assert step == result.best_at
    assert f"loss {min(losses):.4g}" in load_recipe(tmp_path / "run/best.toml").score
    assert len([note for note in notes if "2 validations without a better one: the stage ends" in note]) >= 1
    assert len({row["stage"] for row in curve(tmp_path / "run")}) == 3
    assert {float(row["validation_loss"]) for row in curve(tmp_path / "run") if row["validation_loss"]} == set(losses)
    again = run_plan(done, CPU, TrainHooks(on_step=lambda _: pytest.fail("it trained again")))
    assert (again.best, again.best_at) == (result.best, result.best_at)


def test_extended_it_goes_on_as_one_that_was_longer_from_there(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=16)
    samples = blocks(recipe, [(40, 40)] * 2)

    def of(steps: int, **values: Any) -> TrainPlan:
        how = preset("modern", recipe, batch_size=2, steps=(steps,), precision="fp32", lr_schedule="constant")
        settings = {"preset": {"steps": [steps]}}
        return plan(recipe, how, samples, tmp_path / values.pop("out", "run"), settings=settings, **values)

    with pytest.raises(SettingsError, match=r"no training in .* to extend"):
        run_plan(of(2, extend=True), CPU)
    run_plan(of(2), CPU)
    with pytest.raises(SettingsError, match=r"steps was 2, now 4\); .* or --extend"):
        run_plan(of(4), CPU)
    with pytest.raises(SettingsError, match=r"steps was 2, now 1\); give the same, or --overwrite$"):
        run_plan(of(1, extend=True), CPU)
    notes: list[str] = []
    run_plan(of(4, extend=True), CPU, TrainHooks(on_note=notes.append))
    assert notes[0] == "steps was 2, now 4"
    assert "extended: the constant schedule is over 4 steps now; step 3 has lr 0.003" in notes
    run_plan(of(4, out="whole"), CPU)
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_stopped_in_a_validation_it_makes_it_up(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=16)
    samples, how = blocks(recipe, [(40, 40)] * 3), preset("modern", recipe, batch_size=3, steps=(2,), precision="fp32")
    asked = {"stop": False}

    def on_pass(what: str, done: int, _: int) -> None:
        asked["stop"] = what == "validating" and done == 1

    hooks = TrainHooks(on_pass=on_pass, stop=lambda: asked["stop"])
    assert run_plan(plan(recipe, how, samples, tmp_path / "run", validate_every=1.0), CPU, hooks).stopped_at
    run_plan(plan(recipe, how, samples, tmp_path / "run", validate_every=1.0), CPU)
    run_plan(plan(recipe, how, samples, tmp_path / "whole", validate_every=1.0), CPU)
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")


@pytest.mark.parametrize("what", ["training", "validation"])
def test_images_without_any_label_are_refused_before_the_first_step(tmp_path: Path, what: str) -> None:
    recipe = tiny_recipe(tmp_path, stride=16, heads=2)
    samples, void = blocks(recipe, [(40, 40)] * 2), blocks(recipe, [(40, 40)] * 2, void=1.1)
    whole = plan(recipe, preset("modern", recipe, steps=(1,)), samples, tmp_path / "run")
    faulty = replace(whole, **{"train" if what == "training" else "validation": void})
    with pytest.raises(LabelsError, match=f"no pixel of .* is labelled in the 2 {what} images: all are void"):
        run_plan(faulty, CPU)
