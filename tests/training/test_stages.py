"""Whole trainings: stages, stops at any moment, what they leave behind, and what they refuse."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from fcnseg.errors import SettingsError, TrainingError, WeightsMismatchError
from fcnseg.io.atomic import PART
from fcnseg.models import network_spec
from fcnseg.models.fcn import FCN
from fcnseg.recipes import load_recipe
from fcnseg.training.initial_weights import Start, find_start
from fcnseg.training.presets import REGIMES, changed, find_regime
from fcnseg.training.stages import Plan, Trained, TrainHooks, carry_out
from fcnseg.training.weight_surgery import at_stride, begin, expanded, late_fusion, new_network, refined, with_depth
from fcnseg.weights.loading import load_whole_network
from tests.training.memory import CPU, blocks, plan, regime, tiny_recipe, with_classes


def fused(network: FCN, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The fused score maps by stride, coarse to fine, before each is interpolated on."""
    found = {}
    with torch.no_grad():
        taps = network.trunk(network.spec.streams[0], x)
        score = network.score_fr(taps["fr"])
        found["fr"] = score
        for step in network.fusion[:-1]:
            score = getattr(network, step.name)(score)
            skip = getattr(network, f"score_{step.target}")(taps[step.target])
            score = _window(score, step.offset, skip) + _window(skip, -step.offset, score)
            found[str(step.target)] = score
    return found


def _window(x: torch.Tensor, offset: int, like: torch.Tensor) -> torch.Tensor:
    """x cropped at `offset` to the size of another map, or whole where that one is to be cropped."""
    height, width = like.shape[-2:]
    return x if offset < 0 else x[..., offset : offset + height, offset : offset + width]


@pytest.mark.parametrize("geometry", ["caffe", "same"])
def test_an_added_skip_changes_nothing_until_it_is_trained(tmp_path: Path, geometry: str) -> None:
    recipe = tiny_recipe(tmp_path, stride=8, geometry=geometry)
    torch.manual_seed(0)
    network = new_network(network_spec(at_stride(recipe, 32)), random_scores=True).eval()
    x = 60 * torch.randn(1, 3, 64, 96)
    for stride, skip in ((16, "pool4"), (8, "pool3")):
        finer = refined(network, network_spec(at_stride(recipe, stride))).eval()
        for name, value in fused(network, x).items():
            assert torch.equal(fused(finer, x)[name], value)
        assert not getattr(finer, f"score_{skip}").weight.any()
        # and the new map is the coarse one, interpolated: nothing else
        coarse = list(fused(network, x).values())[-1]
        step = finer.fusion[len(finer.fusion) - 2]
        with torch.no_grad():
            up = getattr(finer, step.name)(coarse)
        new = fused(finer, x)[skip]
        assert torch.equal(new, _window(up, step.offset, new))
        with torch.no_grad():
            torch.nn.init.normal_(getattr(finer, f"score_{skip}").weight, std=0.1)
        network = finer


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


def run_to_the_end(make: Any, stops: list[int]) -> Trained:
    """Train, stopping after each so many steps, until done."""
    for stop in [*stops, 10**9]:
        trained = carry_out(make(), CPU, StopAfter(stop).hooks())
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
    how = regime("paper" if name == "paper" else "modern", recipe, batch=2, steps=(4,), average=0.9, precision="fp32")
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
    samples, how = blocks(recipe, [(40, 40)]), regime("modern", recipe, batch=2, steps=(2,))

    def make() -> Plan:
        return plan(recipe, how, samples, tmp_path / "r")

    def again(_: object) -> None:
        with pytest.raises(SettingsError, match="another training is at work"):
            carry_out(make(), CPU)

    carry_out(make(), CPU, TrainHooks(on_step=again))
    assert carry_out(make(), CPU).figures  # and gives it back
    assert not list((tmp_path / "r").glob(".*"))


def test_what_a_killed_or_full_machine_left_does_not_matter(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=16)
    samples, run = blocks(recipe, [(40, 40)] * 2), tmp_path / "run"
    how = regime("modern", recipe, batch=2, steps=(4,))
    moved = {"data": ["/old"], "seed": 0}
    assert carry_out(plan(recipe, how, samples, run, settings=moved), CPU, StopAfter(2).hooks()).stopped_at
    with (run / "log.csv").open("a") as file:
        file.write("0,1")  # a row that was cut
    (run / f"{PART}of-a-killed-one").write_bytes(b"half a checkpoint")
    assert not carry_out(plan(recipe, how, samples, run, settings={**moved, "data": ["/new"]}), CPU).stopped_at
    assert [row["step"] for row in curve(run) if row["loss"]] == ["1", "2", "3", "4"]
    assert not list(run.glob(f"{PART}*"))
    (run / "train.json").write_text("{")
    with pytest.raises(SettingsError, match=r"train\.json is damaged .*--overwrite"):
        carry_out(plan(recipe, how, samples, run, settings=moved), CPU)


def test_an_error_says_what_is_kept(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=16)
    samples = blocks(recipe, [(40, 40)] * 2)
    how = regime("modern", recipe, batch=2, steps=(4,))
    assert carry_out(plan(recipe, how, samples, tmp_path / "run"), CPU, StopAfter(2).hooks()).stopped_at
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    kept["trainer"]["network"]["score_fr.bias"].fill_(float("nan"))
    torch.save(kept, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(TrainingError, match=r"loss is nan at step 3 .*\(image .*checkpoint\.pt is of before"):
        carry_out(plan(recipe, how, samples, tmp_path / "run"), CPU)


def test_what_it_leaves_is_a_model(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=16)
    samples = blocks(recipe, [(40, 40)] * 3)
    out = tmp_path / "mine"
    done = plan(replace(recipe, name="mine"), regime("modern", recipe, batch=3, steps=(3,)), samples, out)
    trained = carry_out(done, CPU)
    assert load_recipe(out / "best.toml").architecture == recipe.architecture
    assert load_whole_network(load_recipe(out / "best.toml"))
    found = load_recipe(out / "model.toml")
    assert found.name == "mine"
    assert found.heads == recipe.heads
    assert found.streams == recipe.streams
    assert found.architecture == recipe.architecture
    network = load_whole_network(found).network  # normalisation is folded in
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
    start = find_start(recipe, [out / "checkpoint.pt"])
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
    trained = carry_out(plan(recipe, regime("modern", recipe, batch=2, steps=(2,)), samples, tmp_path / "run"), CPU)
    assert list(trained.figures) == [head.name for head in recipe.heads]
    found = load_recipe(tmp_path / "run" / "model.toml")
    assert (found.heads, found.streams, found.architecture) == (recipe.heads, recipe.streams, recipe.architecture)
    ours, kept = load_whole_network(found).network.state_dict(), load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(ours[name], kept[name]) for name in kept if name.startswith("score_"))


def test_a_finished_run_is_not_trained_again_and_another_is_refused(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=16)
    samples = blocks(recipe, [(16, 16)] * 2)
    how = regime("modern", recipe, batch=2, steps=(2,))
    first = carry_out(plan(recipe, how, samples, tmp_path / "run", settings={"seed": 0}), CPU)

    def never(_: object) -> None:
        raise AssertionError("it trained again")

    again = carry_out(
        plan(recipe, how, samples, tmp_path / "run", settings={"seed": 0}), CPU, TrainHooks(on_step=never)
    )
    assert again.figures == first.figures
    with pytest.raises(SettingsError, match=r"seed was 0, now 1"):
        carry_out(plan(recipe, how, samples, tmp_path / "run", settings={"seed": 1}), CPU)
    carry_out(plan(recipe, how, samples, tmp_path / "run", seed=1, settings={"seed": 1}), CPU, overwrite=True)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.txt").write_text("mine")
    with pytest.raises(SettingsError, match="holds something else"):
        carry_out(plan(recipe, how, samples, tmp_path / "else"), CPU)


# ---------------------------------------------------------------------- starts


def test_a_start_of_other_classes_keeps_the_trunk_and_expands_only_when_told(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=8)
    path = next(tmp_path.glob("*.safetensors"))
    fewer = with_classes(recipe, 3)
    assert find_start(recipe, [path]).keep_scores
    assert find_start(recipe, [path]).stride == 8
    assert not find_start(fewer, [path]).keep_scores
    with pytest.raises(WeightsMismatchError, match="5 classes, more than the 3"):
        find_start(fewer, [path], expand=True)
    score = torch.randn(3, 4, 1, 1)
    assert torch.equal(expanded(score, 5)[:3], score)
    assert not expanded(score, 5)[3:].any()


def test_early_and_late_fusion_begin_with_single_nets(tmp_path: Path) -> None:
    color = tiny_recipe(tmp_path, stride=32)
    path = next(tmp_path.glob("tiny-vgg16-32-color*.safetensors"))
    state = load_file(path)
    early = tiny_recipe(tmp_path, stride=32, streams="depth")
    start = find_start(early, [path])
    assert start.state is not None
    weight = start.state["conv1_1_bgrd.weight"]
    assert torch.equal(weight[:, :3], state["conv1_1.weight"])
    assert torch.allclose(weight[:, 3], state["conv1_1.weight"].mean(1))
    begin(new_network(network_spec(early)), start.state)
    trunk = {name: value for name, value in state.items() if name.startswith(("conv", "fc"))}
    torch.save(trunk, tmp_path / "classifier.pth")
    transplanted = find_start(early, [tmp_path / "classifier.pth"])
    assert transplanted.stride is None
    assert transplanted.state is not None
    assert torch.equal(transplanted.state["conv1_1_bgrd.weight"], weight)
    assert not any(name.startswith("score_") for name in transplanted.state)

    late = tiny_recipe(tmp_path, stride=32, streams="hha")
    both = find_start(late, [path, path])
    assert both.state is not None
    network = new_network(network_spec(late)).eval()
    begin(network, both.state)
    alone = new_network(network_spec(color)).eval()
    begin(alone, {k: v for k, v in state.items() if not k.startswith("upscore")})
    x = 50 * torch.randn(1, 3, 32, 40)
    with torch.inference_mode():
        assert torch.allclose(network(x, x)[0], alone(x)[0], atol=1e-4)  # the mean of twice the same scores
    with pytest.raises(SettingsError, match="once, or once for each"):
        find_start(color, [path, path])
    assert set(late_fusion({"a": {"fc6.bias": weight}})) == {"fc6a.bias"}
    assert "conv1_1.weight" not in with_depth(state, "conv1_1", "first")


def test_a_foreign_trunk_is_refused_by_name(tmp_path: Path) -> None:
    network = new_network(network_spec(tiny_recipe(tmp_path)))
    with pytest.raises(WeightsMismatchError, match=r"missing: conv1_1\.weight"):
        begin(network, {"fc6.bias": torch.zeros(8)})


# ---------------------------------------------------------------------- regimes


def test_the_published_regimes_are_the_published_numbers(tmp_path: Path) -> None:
    from fcnseg.recipes import find_recipe

    voc, alexnet = find_recipe("voc-fcn8s"), find_recipe("voc-fcn-alexnet")
    paper, heavy = find_regime("paper", voc), find_regime("heavy", voc)
    assert (paper.batch, paper.momentum, paper.rate, paper.weight_decay, paper.bias_rate) == (20, 0.9, 1e-4, 5e-4, 2)
    assert find_regime("paper", alexnet).rate == 1e-3
    assert (heavy.batch, heavy.momentum, heavy.normalise, heavy.steps) == (1, 0.99, False, (100_000,))
    assert [heavy.rate_of(stage) for stage in range(3)] == pytest.approx([1e-10, 1e-12, 1e-14])
    assert [paper.rate_of(stage) for stage in range(3)] == pytest.approx([1e-4, 1e-6, 1e-8])
    at_once = find_regime("heavy", find_recipe("voc-fcn8s-atonce"))
    assert (at_once.staged, at_once.rate, at_once.steps) == (False, 1e-10, (300_000,))
    light = find_regime("heavy", alexnet)
    assert (light.batch, light.momentum, light.rate, light.normalise, light.steps) == (20, 0.9, 1e-4, True, (100_000,))
    assert find_regime("heavy", find_recipe("nyud-fcn32s-color-hha")).rate == 1e-12
    assert find_regime("heavy", find_recipe("nyud-fcn32s-color")).steps == (300_000,)
    file = tmp_path / "mine.toml"
    file.write_text('base = "paper"\nrate = 1\nsteps = [10, 20]\n')
    mine = find_regime(file, voc)
    assert (mine.name, mine.rate, mine.momentum) == ("mine", 1.0, 0.9)
    assert [mine.steps_of(stage, 100) for stage in range(3)] == [10, 20, 20]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"rat": 1}, "rat is nothing"),
        ({"rate": "fast"}, "give a number"),
        ({"batch": 0}, "batch is 0"),
        ({"schedule": "step"}, "use fixed, poly or cycle"),
        ({"crop": [1]}, "a height and a width"),
    ],
)
def test_a_regime_that_cannot_be_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        changed(REGIMES["modern"], values, "mine.toml")


def test_stages_follow_from_the_start(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=8)
    samples = blocks(recipe, [(16, 16)])
    how = regime("paper", recipe, steps=(1,))

    def strides(start: Start) -> tuple[int, ...]:
        return plan(recipe, how, samples, tmp_path, start=start).strides

    assert strides(Start()) == (32, 16, 8)
    assert strides(Start({}, None)) == (32, 16, 8)
    assert strides(Start({}, 32)) == (16, 8)
    assert strides(Start({}, 16)) == (8,)
    assert strides(Start({}, 8)) == (8,)


def test_the_averaged_weights_forget_the_start() -> None:
    from fcnseg.training.loop import running_average

    average, steps = [torch.zeros(3)], 0
    for steps in range(200):
        running_average(0.99)(average, [torch.ones(3)], steps)
    assert float(average[0].min()) > 0.99
    assert np.isfinite(steps)
