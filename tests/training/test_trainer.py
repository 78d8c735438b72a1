"""One step: the gradient and the update are those that the papers define, written out here again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fcnseg.errors import TrainingError
from fcnseg.models import network_spec
from fcnseg.models.fcn import FCN
from fcnseg.models.label_network import prepare
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.training.augmentation import AugmentedSamples
from fcnseg.training.batches import VisitSampler, collate
from fcnseg.training.distributed import Ranks
from fcnseg.training.optimizer import in_trunk, make_optimizer
from fcnseg.training.trainer import Trainer
from fcnseg.training.weight_surgery import new_network
from tests.training.memory import CPU, InMemory, blocks, network_of, preset, tiny_recipe, without_dropout

SIZES = [(24, 40), (24, 40), (33, 17), (24, 40), (9, 11), (16, 16)]


def caffe_step(
    network: FCN, recipe: Recipe, samples: InMemory, name: str, step: int, history: dict[str, torch.Tensor]
) -> None:
    """Take one step by Caffe's rule, V = mu V + rate (gradient + decay W), W = W - V, in place.

    The gradient is that of the loss written out, in float64; augmentation, dropout and mean are the trainer's.
    `history` holds V by parameter.
    """
    rate, momentum, size = {"paper": (1e-4, 0.9, 4), "heavy": (1e-10, 0.99, 1)}[name]
    how = preset(name, recipe, batch_size=size)
    (visits,) = VisitSampler(len(samples), size, (0, 0), step, step + 1, Ranks())
    views = AugmentedSamples(samples, how, (0, 0))
    learn = {n: p for n, p in network.named_parameters() if p.requires_grad}
    torch.manual_seed(int(np.random.SeedSequence((0, 0, step, 0)).generate_state(1)[0]))
    loss, pixels = torch.zeros((), dtype=torch.float64), 0
    for batch in collate([views[v] for v in visits], CPU.micro_batch):
        source = recipe.streams[0].inputs[0]
        x = prepare(source, batch.inputs["color"], torch.tensor(source.mean)[:, None, None])
        (scores,) = network(x)
        labels = batch.labels["labels"]
        kept = labels != 255
        chances = scores.double().movedim(1, -1)[kept].log_softmax(-1)
        loss = loss - chances[torch.arange(len(chances)), labels[kept]].sum()
        pixels += int(kept.sum())
    if name == "paper":
        loss = loss / pixels
    gradients = torch.autograd.grad(loss, list(learn.values()))
    with torch.no_grad():
        for (key, p), gradient in zip(learn.items(), gradients, strict=True):
            bias = p.ndim == 1
            decay = 0.0 if bias and name == "heavy" else 5e-4
            change = rate * (2 if bias else 1) * (gradient.double() + decay * p.double())
            history[key] = momentum * history.get(key, torch.zeros_like(change)) + change
            p.copy_(p.double() - history[key])


@pytest.mark.parametrize("name", ["paper", "heavy"])
@pytest.mark.parametrize("geometry", ["caffe", "same"])
def test_steps_of_the_published_presets_are_caffes(tmp_path: Path, name: str, geometry: str) -> None:
    """Each step starts from the trainer's weights, on the same kernels: a rounding that turns a ReLU or picks another
    of two equal maxima would otherwise grow from step to step, on some processors and not on others."""
    recipe = tiny_recipe(tmp_path, stride=8, geometry=geometry)
    samples = blocks(recipe, SIZES)
    ours = network_of(recipe)
    theirs = network_of(recipe).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    theirs.train()
    begun = {key: p.clone() for key, p in ours.named_parameters()}
    how = preset(name, recipe, batch_size=4 if name == "paper" else 1, steps=(3,))
    trainer = Trainer(ours, recipe, how, samples, execution=CPU)
    history: dict[str, torch.Tensor] = {}
    losses = []
    for step, progress in enumerate(trainer.run()):
        losses.append(progress.loss)
        before = {key: p.clone() for key, p in theirs.named_parameters()}
        caffe_step(theirs, recipe, samples, name, step, history)
        for key, p in ours.named_parameters():
            reference = dict(theirs.named_parameters())[key]
            if not p.requires_grad:
                assert torch.equal(p, begun[key])
                continue
            rate = how.lr * (2 if p.ndim == 1 else 1)
            momentum = trainer.optimizer.state[p]["momentum_buffer"].double() * rate  # torch keeps it before the rate
            scale = float(history[key].abs().max())
            assert scale > 0
            assert float((momentum - history[key]).abs().max()) <= 1e-5 * scale, key
            change = (reference - before[key]).abs().max().item()
            assert float((p - reference).abs().max()) <= 1e-6 * float(begun[key].abs().max()) + 1e-5 * change, key
            history[key] = momentum
        theirs.load_state_dict(ours.state_dict())
    assert len(losses) == 3
    assert min(losses) > 0


@pytest.mark.parametrize("size", [(32, 64), (40, 20), (65, 70)])
def test_small_images_have_the_same_gradients_every_time(size: tuple[int, int]) -> None:
    recipe = find_recipe("street-fcn8s")  # narrower ones take other kernels
    how = preset("modern", recipe, batch_size=2, steps=(1,), precision="bf16")
    found = []
    for _ in range(4):
        junk = [torch.full((n,), float("nan")) for n in (256 * 128 * 49, 256 * 128 * 49 + 10)]
        del junk  # its memory is what is left unset elsewhere
        trainer = Trainer(network_of(recipe), recipe, how, blocks(recipe, [size, size]), execution=CPU)
        assert len(list(trainer.run())) == 1
        found.append({name: p.grad for name, p in trainer.network.named_parameters() if p.grad is not None})
    for name, gradient in found[0].items():
        assert torch.isfinite(gradient).all(), name
        assert all(torch.equal(gradient, other[name]) for other in found[1:]), name


@pytest.mark.parametrize("losses", [{}, {"dice_weight": 0.5, "focal_gamma": 2.0}], ids=str)
@pytest.mark.parametrize(("name", "heads"), [("paper", 1), ("modern", 1), ("modern", 2)])
def test_how_many_images_go_through_at_once_changes_no_gradient(
    tmp_path: Path, name: str, heads: int, losses: dict[str, float]
) -> None:
    recipe = tiny_recipe(tmp_path, heads=heads)
    samples = blocks(recipe, [(24, 24)] * 5 + [(30, 24)] * 3)
    how = preset(name, recipe, batch_size=8, steps=(1,), batch_norm=False, precision="fp32", clip_grad_norm=0.0)
    how = replace(how, **losses)
    found, values = [], []
    for most in (8, 1, 2):
        network = network_of(recipe).eval()
        trainer = Trainer(network, recipe, how, samples, execution=replace(CPU, micro_batch=most))
        without_dropout(trainer)
        (progress,) = trainer.run()
        values.append(progress.loss)
        found.append({key: p.grad for key, p in network.named_parameters() if p.grad is not None})
    assert values[1:] == pytest.approx([values[0]] * 2, rel=1e-6)
    for key, gradient in found[0].items():
        scale = float(gradient.abs().max())
        assert all(float((gradient - other[key]).abs().max()) <= 1e-5 * scale for other in found[1:]), key


def test_the_pass_before_sees_the_dropout_of_the_step_and_leaves_statistics(tmp_path: Path) -> None:
    """The sums of all batches but the last come from another pass: were its masks others, the losses would differ."""
    recipe = tiny_recipe(tmp_path)
    how = preset("modern", recipe, batch_size=2, steps=(1,), precision="fp32", ema_decay=0.0)
    network = new_network(replace(network_spec(recipe), batch_norm=True), random_scores=True)
    trainer = Trainer(network, recipe, how, blocks(recipe, [(40, 40)] * 2), execution=replace(CPU, micro_batch=1))
    sums: list[torch.Tensor] = []
    original = trainer.gradient._class_sums

    def kept(*of: Any) -> dict[str, torch.Tensor]:
        sums.append(original(*of)["labels"].detach())
        return {"labels": original(*of)["labels"]}

    trainer.gradient._class_sums = kept  # type: ignore[method-assign]
    assert len(list(trainer.run())) == 1
    assert torch.equal(sums[0], sums[2])  # the first batch, before and in the step
    assert not torch.equal(sums[0], sums[1])
    assert {int(m.num_batches_tracked) for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {2}


def test_a_frozen_trunk_stays_as_it_is(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    how = preset("modern", recipe, batch_size=2, steps=(2,), trunk_lr_multiplier=0.0, ema_decay=0.0)
    network = new_network(replace(network_spec(recipe), batch_norm=True), random_scores=True)
    begun = {key: value.clone() for key, value in network.state_dict().items()}
    trainer = Trainer(network, recipe, how, blocks(recipe, [(40, 40)] * 2), execution=CPU)
    trainer.validate(blocks(recipe, [(20, 20)]))
    assert len(list(trainer.run())) == 2
    changed = [key for key, value in network.state_dict().items() if not torch.equal(value, begun[key])]
    assert changed
    assert not any(map(in_trunk, changed))
    slower = preset("modern", recipe, batch_size=2, steps=(1,), trunk_lr_multiplier=0.1, lr_schedule="constant")
    groups = make_optimizer(network_of(recipe), slower).param_groups
    assert sorted(group["lr_multiplier"] for group in groups) == [0.1, 0.1, 1.0, 1.0]


@pytest.mark.parametrize(("streams", "heads"), [("depth", 1), ("hha", 1), ("color", 2)])
def test_several_inputs_and_several_heads_are_trained(tmp_path: Path, streams: str, heads: int) -> None:
    recipe = tiny_recipe(tmp_path, streams=streams, heads=heads, stride=16)
    network = network_of(recipe)
    begun = {key: p.clone() for key, p in network.named_parameters()}
    how = preset("modern", recipe, batch_size=2, steps=(2,), batch_norm=False)
    trainer = Trainer(network, recipe, how, blocks(recipe, [(32, 40)] * 3), execution=CPU)
    assert all(np.isfinite(progress.loss) for progress in trainer.run())
    still = [key for key, p in network.named_parameters() if p.requires_grad and torch.equal(p, begun[key])]
    assert not [key for key in still if not key.startswith(("conv", "fc"))]  # narrow trunks hold dead channels
    assert set(trainer.validate(blocks(recipe, [(20, 30)]))) == {head.name for head in recipe.heads}


def test_a_loss_that_is_no_number_stops_with_the_step_and_its_images(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    network = network_of(recipe)
    with torch.no_grad():
        network.score_fr.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    how = preset("modern", recipe, batch_size=2, steps=(2,), batch_norm=False)
    trainer = Trainer(network, recipe, how, blocks(recipe, [(20, 20)] * 2), execution=CPU)
    with pytest.raises(TrainingError, match=r"loss is nan at step 1 of stage 8s \(image"):
        list(trainer.run())
