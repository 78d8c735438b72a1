"""One step: the loss, the gradient and the update are those that the papers define, written out here again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fcnseg.engine.graph import prepare
from fcnseg.errors import TrainingError
from fcnseg.models import network_spec
from fcnseg.models.fcn import FCN
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.training.augmentation import AugmentedSamples
from fcnseg.training.batches import VisitSampler, collate
from fcnseg.training.distributed import Ranks
from fcnseg.training.losses import jaccard_loss, labelled_weight, pixel_loss
from fcnseg.training.trainer import Trainer
from fcnseg.training.weight_surgery import new_network, set_trainable
from tests.training.memory import CPU, InMemory, blocks, preset, tiny_recipe

SIZES = [(24, 40), (24, 40), (33, 17), (24, 40), (9, 11), (16, 16)]


def network_of(recipe: Recipe, seed: int = 3) -> FCN:
    torch.manual_seed(seed)
    network = new_network(network_spec(recipe), random_scores=True)
    set_trainable(network, "last-fixed")
    return network


def without_dropout(trainer: Trainer) -> None:
    """Leave the network in evaluation mode: masks differ with how images are put together."""
    model = trainer.model
    model.train = lambda mode=True: model  # type: ignore[method-assign, assignment, misc]


# ---------------------------------------------------------------------- the loss


def written_out(scores: Any, labels: Any, ignore: int) -> tuple[float, int]:
    """The sum of -log(softmax) over labelled pixels, and how many those are, in float64, pixel by pixel."""
    total, pixels = 0.0, 0
    for n, row, column in np.ndindex(labels.shape):
        label = int(labels[n, row, column])
        if label != ignore:
            x = scores[n, :, row, column].astype(np.float64)
            total += float(np.log(np.exp(x - x.max()).sum()) + x.max() - x[label])
            pixels += 1
    return total, pixels


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_the_loss_is_the_sum_over_labelled_pixels(seed: int, void: float) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (2, 4, 3, 5)).astype(np.float32)
    labels = rng.integers(0, 4, (2, 3, 5))
    labels[rng.random(labels.shape) < void] = 255
    total, pixels = written_out(scores, labels, 255)
    found = pixel_loss(torch.from_numpy(scores), torch.from_numpy(labels), 255)
    assert float(found) == pytest.approx(total, rel=1e-6, abs=1e-6)
    assert int(labelled_weight(torch.from_numpy(labels), 255)) == pixels


def test_weights_of_classes_count_in_the_loss_and_in_what_divides_it() -> None:
    labels = torch.tensor([[[0, 1, 255, 1]]])
    weights = torch.tensor([2.0, 0.5])
    assert float(labelled_weight(labels, 255, weights)) == 3.0
    assert float(pixel_loss(torch.zeros(1, 2, 1, 4), labels, 255, weights)) == pytest.approx(3 * np.log(2))


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


def test_an_image_that_is_all_void_weighs_nothing() -> None:
    scores = torch.randn(1, 3, 4, 4, requires_grad=True)
    labels = torch.full((1, 4, 4), 255)
    for loss in (pixel_loss(scores, labels, 255), jaccard_loss(scores, labels, 255)):
        (gradient,) = torch.autograd.grad(loss, scores)
        assert loss.item() == 0
        assert not gradient.any()


def test_the_jaccard_loss_of_certain_scores_is_one_minus_the_mean_iu() -> None:
    labels = torch.tensor([[[0, 0, 1, 1], [255, 2, 2, 1]]])
    predicted = torch.tensor([[[0, 1, 1, 1], [0, 2, 0, 1]]])
    scores = 1e4 * torch.nn.functional.one_hot(predicted, 4).movedim(-1, 1).float()
    # of the seven labelled pixels: class 0 has 1 of 3, class 1 3 of 4, class 2 1 of 2; class 3 does not occur
    assert float(jaccard_loss(scores, labels, 255)) == pytest.approx(1 - (1 / 3 + 3 / 4 + 1 / 2) / 3)


# ---------------------------------------------------------------------- a step


def caffe_steps(network: FCN, recipe: Recipe, samples: InMemory, name: str, count: int) -> dict[str, torch.Tensor]:
    """The parameters after so many steps by Caffe's rule, V = mu V + rate (gradient + decay W), W = W - V, with the
    gradient of the loss written out, in float64; views, dropout and mean as the trainer has them."""
    rate, momentum, size = {"paper": (1e-4, 0.9, 4), "heavy": (1e-10, 0.99, 1)}[name]
    how = preset(name, recipe, batch_size=size)
    visits = list(VisitSampler(len(samples), size, (0, 0), 0, count, Ranks()))
    views = AugmentedSamples(samples, how, (0, 0))
    history: dict[str, torch.Tensor] = {}
    learn = {n: p for n, p in network.named_parameters() if p.requires_grad}
    for step, seen in enumerate(visits):
        torch.manual_seed(int(np.random.SeedSequence((0, 0, step, 0)).generate_state(1)[0]))
        loss, pixels = torch.zeros((), dtype=torch.float64), 0
        for batch in collate([views[v] for v in seen], CPU.micro_batch):
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
    return history


@pytest.mark.parametrize("name", ["paper", "heavy"])
@pytest.mark.parametrize("geometry", ["caffe", "same"])
def test_steps_of_the_published_presets_are_caffes(tmp_path: Path, name: str, geometry: str) -> None:
    recipe = tiny_recipe(tmp_path, stride=8, geometry=geometry)
    samples = blocks(recipe, SIZES)
    ours, theirs = network_of(recipe), network_of(recipe)
    begun = {key: p.clone() for key, p in ours.named_parameters()}
    how = preset(name, recipe, batch_size=4 if name == "paper" else 1, steps=(3,))
    trainer = Trainer(ours, recipe, how, samples, execution=CPU)
    losses = [progress.loss for progress in trainer.run()]
    theirs.train()
    history = caffe_steps(theirs, recipe, samples, name, 3)
    assert len(losses) == 3
    assert min(losses) > 0
    state = trainer.optimizer.state
    for key, p in ours.named_parameters():
        reference = dict(theirs.named_parameters())[key]
        if not p.requires_grad:
            assert torch.equal(p, begun[key])
            continue
        rate = how.lr * (2 if p.ndim == 1 else 1)
        momentum = state[p]["momentum_buffer"].double() * rate  # torch keeps it before the rate
        scale = float(history[key].abs().max())
        assert scale > 0
        assert float((momentum - history[key]).abs().max()) <= 1e-5 * scale, key
        change = (reference - begun[key]).abs().max().item()
        assert float((p - reference).abs().max()) <= 1e-6 * float(begun[key].abs().max()) + 1e-5 * change, key


@pytest.mark.parametrize("name", ["paper", "modern"])
def test_how_many_images_go_through_at_once_changes_no_gradient(tmp_path: Path, name: str) -> None:
    recipe = tiny_recipe(tmp_path)
    samples = blocks(recipe, [(24, 24)] * 4)
    how = preset(name, recipe, batch_size=4, steps=(1,), batch_norm=False, jaccard_weight=0.0, precision="fp32")
    found = []
    for most in (1, 4):
        network = network_of(recipe).eval()
        trainer = Trainer(network, recipe, how, samples, execution=replace(CPU, micro_batch=most))
        without_dropout(trainer)
        assert len(list(trainer.run())) == 1
        found.append({key: p.grad for key, p in network.named_parameters() if p.grad is not None})
    for key, gradient in found[0].items():
        scale = float(gradient.abs().max())
        assert float((gradient - found[1][key]).abs().max()) <= 1e-5 * scale, key


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


# ---------------------------------------------------------------------- what a step sees


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 40))
def test_every_image_is_seen_once_an_epoch_from_wherever_one_begins(images: int, batch: int, start: int) -> None:
    whole = [v for step in VisitSampler(images, batch, (7, 0), 0, start + images, Ranks()) for v in step]
    for epoch in range(len(whole) // images):
        assert sorted(i for i, _ in whole[epoch * images : (epoch + 1) * images]) == list(range(images))
    later = [v for step in VisitSampler(images, batch, (7, 0), start, start + images, Ranks()) for v in step]
    assert later == whole[start * batch :]


def test_processes_share_every_batch() -> None:
    alone = list(VisitSampler(7, 6, (0, 1), 0, 5, Ranks()))
    shared = [list(VisitSampler(7, 6, (0, 1), 0, 5, Ranks(rank, 3))) for rank in range(3)]
    for step, visits in enumerate(alone):
        assert sorted(visits) == sorted(v for rank in shared for v in rank[step])


def test_views_are_of_the_cropped_size_and_keep_labels_with_their_pixels(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    samples = blocks(recipe, [(50, 70)], void=0.0)
    how = replace(preset("modern", recipe, color_jitter=0.0), crop=(32, 40))
    views = AugmentedSamples(samples, how, (0, 0))
    for visit in range(20):
        view = views[0, visit]
        pixels, labels = view.inputs["color"], view.labels["labels"]
        assert pixels.shape == (32, 40, 3)
        assert labels.shape == (32, 40)
        told = (pixels[..., 0] / 250 * 5).long().clamp(0, 4)
        assert float((told == labels).float().mean()) > 0.75  # all but at the borders of blocks, which are blurred
        assert torch.equal(views[0, visit].inputs["color"], pixels)
    assert len({views[0, visit].inputs["color"].sum().item() for visit in range(20)}) > 10


def test_a_loss_that_is_no_number_stops_with_the_step_and_its_images(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    network = network_of(recipe)
    with torch.no_grad():
        network.score_fr.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    how = preset("modern", recipe, batch_size=2, steps=(2,), batch_norm=False)
    trainer = Trainer(network, recipe, how, blocks(recipe, [(20, 20)] * 2), execution=CPU)
    with pytest.raises(TrainingError, match=r"loss is nan at step 1 of stage 8s \(image"):
        list(trainer.run())
