"""Speed of `fcnseg train` beside a plain loop: `python -m benchmarks.training DATA [STEPS]`.

The plain loop is what one writes first: Pillow, random crops, flips and colour jitter of the same sizes, cross-entropy
with class weights, AdamW, bfloat16 where the machine has it; the same network, batch and crop. Both take turns of so
many steps, three times, in one process, after a first turn that is not counted. Prints images/s of each turn's sum and
their ratio, by the clock and by the processor time, which a busy machine disturbs less.

Claim: 0.85 of the plain loop without the Jaccard loss.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance

from fcnseg.engine.hardware import cpu_name
from fcnseg.engine.runtimes.pytorch import limit_threads
from fcnseg.models import network_spec
from fcnseg.models.label_network import LabelNetwork
from fcnseg.training.class_weights import balanced_weights, count_class_pixels
from fcnseg.training.datasets.images import LabelledImages
from fcnseg.training.plan import TrainPlan
from fcnseg.training.preparation import TrainOptions, make_plan
from fcnseg.training.readers import Readers
from fcnseg.training.samples import KEPT_BYTES, KeptSamples
from fcnseg.training.trainer import Execution, Trainer
from fcnseg.training.weight_surgery import load_initial, new_network, set_trainable

ROUNDS = 3


def network_of(plan: TrainPlan) -> torch.nn.Module:
    """The network of a plan with its initial weights."""
    network = new_network(network_spec(plan.recipe), random_scores=True)
    if plan.initial.state is not None:
        load_initial(network, plan.initial.state, keep_scores=plan.initial.keep_scores)
    set_trainable(network, plan.preset.deconvolutions)
    return network


def plain_loop(plan: TrainPlan, data: LabelledImages, weights: torch.Tensor, device: torch.device) -> Iterator[None]:
    """Take a step each time the next value is asked for."""
    preset, (head,) = plan.preset, plan.recipe.heads
    network = network_of(plan).to(device, memory_format=torch.channels_last)
    model = LabelNetwork(network, plan.recipe).to(device).train()
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=preset.lr, weight_decay=preset.weight_decay)
    rng, weights = np.random.default_rng(0), weights.to(device)
    while True:
        for start in range(0, len(data) - preset.batch_size + 1, preset.batch_size):
            batch = [cropped(data, i, preset.crop, preset.scale, rng) for i in range(start, start + preset.batch_size)]
            images = torch.from_numpy(np.stack([image for image, _ in batch])).to(device)
            labels = torch.from_numpy(np.stack([labels for _, labels in batch])).long().to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=preset.precision == "bf16"):
                (scores,) = model.scores(images)
            loss = F.cross_entropy(scores.float(), labels, weights, ignore_index=head.labels.ignore)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            loss.item()
            yield


def cropped(
    data: LabelledImages, index: int, crop: tuple[int, ...], scale: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random crop of an image and its label map, read from their files by Pillow."""
    location = data.locations[index]
    image = Image.open(next(iter(location.inputs.values())).file).convert("RGB")
    labels = Image.open(next(iter(location.labels.values())).file)
    factor = float(np.exp(rng.uniform(*np.log(scale))))
    width, height = (max(c, round(n * factor)) for c, n in zip(crop[::-1], image.size, strict=True))
    left, top = int(rng.integers(width - crop[1] + 1)), int(rng.integers(height - crop[0] + 1))
    box = left, top, left + crop[1], top + crop[0]
    image = image.resize((width, height), Image.Resampling.BILINEAR).crop(box)
    values = np.asarray(labels.resize((width, height), Image.Resampling.NEAREST).crop(box))
    for enhance in (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness):
        image = enhance(image).enhance(1 + rng.uniform(-0.25, 0.25))
    pixels = np.asarray(image)
    values = np.where(values < 11, values, 255)
    return (pixels[:, ::-1].copy(), values[:, ::-1].copy()) if rng.random() < 0.5 else (pixels, values)


def our_loop(plan: TrainPlan, weights: torch.Tensor, device: torch.device) -> Iterator[object]:
    """Take a step each time the next value is asked for."""
    execution = Execution(device)
    readers = Readers(0)
    trainer = Trainer(
        network_of(plan),  # type: ignore[arg-type]
        plan.recipe,
        plan.preset,
        KeptSamples(plan.train, KEPT_BYTES),
        execution=execution,
        class_weights={plan.recipe.heads[0].name: weights},
        readers=readers,
    )
    yield from trainer.run()


def seconds(loop: Iterator[object], steps: int) -> tuple[float, float]:
    """The time of so many steps: by the clock, and of the processors."""
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(steps):
        next(loop)
    return time.perf_counter() - clock, time.process_time() - processor


def compare(name: str, ours: Iterator[object], plain: Iterator[object], steps: int, batch_size: int) -> None:
    """Let both loops take turns, and print what they took."""
    loops = (ours, plain)
    for loop in loops:
        seconds(loop, 2)
    sums = np.zeros((2, 2))
    for _ in range(ROUNDS):
        sums += [seconds(loop, steps) for loop in loops]
    rates = ROUNDS * steps * batch_size / sums
    for row, who in enumerate((f"fcnseg, {name}", "plain loop")):
        print(f"{who}: {rates[row, 0]:.1f} images/s by the clock, {rates[row, 1]:.1f} a processor second")
    print(f"ratio {rates[0, 0] / rates[1, 0]:.2f} by the clock, {rates[0, 1] / rates[1, 1]:.2f} by processor time\n")


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("steps", type=int, nargs="?", default=10)
    arguments = parser.parse_args()
    limit_threads()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{date.today()}, {platform.platform()}, {cpu_name()}, torch {torch.__version__}, {device}")
    with tempfile.TemporaryDirectory() as folder:
        options = TrainOptions(arguments.data, Path(folder) / "run", overrides={"steps": 100_000})
        plan = make_plan(options, device)
    pixels = count_class_pixels(plan.train, plan.recipe, Execution(device).ranks, Readers())
    weights = balanced_weights(next(iter(pixels.values())), plan.preset.class_balance_power)
    assert isinstance(plan.train, LabelledImages)
    make_plain: Callable[[], Iterator[None]] = lambda: plain_loop(plan, plan.train, weights, device)  # type: ignore[arg-type]  # noqa: E731
    for jaccard in (0.0, 1.0):
        ours = replace(plan, preset=replace(plan.preset, jaccard_weight=jaccard))
        name = "with the Jaccard loss" if jaccard else "without the Jaccard loss"
        compare(name, our_loop(ours, weights, device), make_plain(), arguments.steps, plan.preset.batch_size)


if __name__ == "__main__":
    main()
