"""The training of one stage: steps, learning rates, the running average, validation.

All that is random in a step follows from the seed, the stage and the step's number, so a stage goes on from any step
as if it had never stopped: its state is the weights, the optimiser's and the number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from fcnseg.engine.graph import LabelGraph
from fcnseg.errors import TrainingError, is_out_of_memory
from fcnseg.models.fcn import FCN
from fcnseg.recipes import Recipe
from fcnseg.scoring.confusion import Counts, confusion
from fcnseg.training.batches import Batch, Step, steps
from fcnseg.training.distributed import ALONE, Processes
from fcnseg.training.losses import counted, jaccard_loss, pixel_loss
from fcnseg.training.presets import Regime
from fcnseg.training.samples import Samples

SMALL = 64
"""Images of at most so many pixels a side are 2 px at stride 32."""


@dataclass(frozen=True)
class Machine:
    """Where and how a training runs; none of it changes what is computed beyond float rounding.

    `most` is how many images go through the network at once (fewer take less memory; their gradients are summed).
    """

    device: torch.device
    processes: Processes = ALONE
    workers: int = 0
    most: int = 8


@dataclass(frozen=True)
class Progress:
    """One step done: its number from 1, of how many, the epoch it lies in, the rate, and the loss over its images."""

    step: int
    steps: int
    epoch: float
    rate: float
    loss: float


class ScoreModel(nn.Module):
    """The network behind its preprocessing: images by modality in, scores of every head out."""

    def __init__(self, network: FCN, recipe: Recipe) -> None:
        super().__init__()
        self.graph = LabelGraph(network, recipe)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """As `LabelGraph.scores`."""
        return self.graph.scores(*images)


class Trainer:
    """Trains the recipe's `network` by `regime` on `samples`; `class_weights` by head, K each, or none for all 1."""

    def __init__(
        self,
        network: FCN,
        recipe: Recipe,
        regime: Regime,
        samples: Samples,
        *,
        stage: int = 0,
        seed: int = 0,
        machine: Machine,
        class_weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.recipe, self.regime, self.samples, self.machine = recipe, regime, samples, machine
        self.stage, self.seed, self.step = stage, seed, 0
        self.steps = regime.steps_of(stage, len(samples))
        self.bf16 = regime.in_precision(machine.device).precision == "bf16"
        self.network = network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if machine.processes.count > 1 and machine.device.type == "cuda" and any(regime.crop):
            # all processes then see as many batches; they would wait for each other forever otherwise
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]
        self.ignore = {head.name: head.labels.ignore for head in recipe.heads}
        self.class_weights = {k: v.to(machine.device) for k, v in (class_weights or {}).items()}
        model = ScoreModel(self.network, recipe).to(machine.device)
        self.model = DistributedDataParallel(model) if machine.processes.count > 1 else model
        self.average = None
        if regime.average:
            self.average = AveragedModel(self.network, multi_avg_fn=running_average(regime.average), use_buffers=True)
        self.optimiser = optimiser_of(self.network, regime)

    # ------------------------------------------------------------------ training

    def run(self) -> Iterator[Progress]:
        """Train to the end of the stage, one step each time the next value is asked for.

        Raises TrainingError where the loss is no longer a number or memory runs out, naming the step and its images.
        """
        self.model.train()
        row = steps(
            self.samples,
            self.regime,
            (self.seed, self.stage),
            self.step,
            self.steps,
            self.machine.processes,
            self.machine.workers,
            self.machine.most,
        )
        for step in row:
            fewer = "--micro-batch 1" if self.machine.most > 1 else "a smaller --crop"
            with self._explained(self._where(step), fewer):
                loss = self._step(step)
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is {loss} at {self._where(step)}; try a lower --rate")
            rate = self._rate()
            self.step += 1
            epoch = self.step * self.regime.batch / len(self.samples)
            yield Progress(self.step, self.steps, epoch, rate, loss)

    def _step(self, step: Step) -> float:
        place = (self.seed, self.stage, self.step, self.machine.processes.rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate() * group["multiple"]
        share = self._shares(step)
        images = sum(len(batch.names) for batch in step)
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.machine.device)
        for number, batch in enumerate(step, 1):
            with self._gradients_shared(number == len(step)):
                loss = self._loss(batch, share, len(batch.names) / images)
                (loss * self.machine.processes.count).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if self.regime.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.regime.clip)
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return float(self.machine.processes.total(total))

    def _shares(self, step: Step) -> dict[str, float]:
        """What one counted pixel of each head weighs in the loss of the whole step, in all processes."""
        if not self.regime.normalise:
            return dict.fromkeys(self.ignore, 1.0)
        counts = torch.stack(
            [
                torch.stack([counted(b.labels[h], i, self.class_weights.get(h)) for b in step]).sum()
                for h, i in self.ignore.items()
            ]
        )
        counts = self.machine.processes.total(counts)
        return {head: 1 / max(float(n), 1e-9) for head, n in zip(self.ignore, counts, strict=True)}

    def _loss(self, batch: Batch, share: Mapping[str, float], part: float) -> Tensor:
        """A batch's part of the step's loss; `part` is its share of this process's images."""
        device = self.machine.device
        images = [batch.inputs[name].to(device, non_blocking=True) for name in self.recipe.modalities]
        with self._arithmetic(images[0]):
            scores = self.model(*images)
        loss = torch.zeros((), device=device)
        for (head, ignore), found in zip(self.ignore.items(), scores, strict=True):
            labels = batch.labels[head].to(device, non_blocking=True)
            loss = loss + pixel_loss(found, labels, ignore, self.class_weights.get(head)) * share[head]
            if self.regime.jaccard:
                overlap = jaccard_loss(found, labels, ignore)
                loss = loss + overlap * (self.regime.jaccard * part / self.machine.processes.count)
        return loss

    def _rate(self) -> float:
        rate, done = self.regime.rate_of(self.stage), self.step / self.steps
        if self.regime.schedule == "poly":
            return float(rate * (1 - min(done, 1.0)) ** 0.9)
        if self.regime.schedule == "cycle":
            rise = 0.1
            if done < rise:
                return rate * (0.04 + 0.96 * done / rise)
            return rate * 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))
        return rate

    def _arithmetic(self, images: Tensor) -> AbstractContextManager[Any]:
        """bfloat16 where the regime says so, but float32 on processors for images N x H x W x C so small that oneDNN
        leaves parts of fc6's gradient unset: those where a 7 x 7 kernel sees but the margins of 2 px (PyTorch 2.15)."""
        if self.bf16 and (self.machine.device.type != "cpu" or min(images.shape[1:3]) > SMALL):
            return torch.autocast(self.machine.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _gradients_shared(self, now: bool) -> AbstractContextManager[Any]:
        """Processes exchange their gradients once a step, with those of its last batch."""
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) and not now else nullcontext()

    @contextmanager
    def _explained(self, where: str, fewer: str) -> Iterator[None]:
        """Out of memory, or too little to normalise over, as an error that says what to change."""
        try:
            yield
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            small = "is too small to normalise over; use a larger --crop, or a regime with batch_norm = false"
            raise TrainingError(f"{where} {small}") from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(f"out of memory at {where}; try {fewer}, or --precision bf16") from error

    def _where(self, step: Step) -> str:
        names = [name for batch in step for name in batch.names]
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        return f"step {self.step + 1} of stage {self.recipe.architecture.stride}s ({', '.join(names[:4])}{more})"

    # ------------------------------------------------------------------ what it gives

    @property
    def result(self) -> FCN:
        """The network that counts: of averaged weights where the regime averages."""
        return self.average.module if self.average is not None else self.network  # type: ignore[return-value]

    @torch.inference_mode()
    def validate(self, samples: Samples, each: Callable[[int], None] = lambda done: None) -> dict[str, Counts]:
        """The confusion matrices of the result over whole images, K x K by head; processes share the images.

        `each` is told how many images are done. Raises TrainingError where an image takes more memory than there is.
        """
        network = self.result.eval()
        graph = LabelGraph(network, self.recipe).to(self.machine.device)
        counts = {h.name: np.zeros((h.labels.classes,) * 2, np.int64) for h in self.recipe.heads}
        mine = self.machine.processes
        for index in range(mine.rank, len(samples), mine.count):
            sample = samples[index]
            images = [torch.from_numpy(sample.inputs[m])[None].to(self.machine.device) for m in self.recipe.modalities]
            where = f"the validation of {sample.name}"
            with self._explained(where, "smaller images in --val"), self._arithmetic(images[0]):
                maps = graph(*images)
            for head, found in zip(self.recipe.heads, maps, strict=True):
                truth, predicted = sample.labels[head.name], found[0].cpu().numpy()
                counts[head.name] += confusion(truth, predicted, head.labels.classes, head.labels.ignore)
            each(min(index + mine.count, len(samples)))
        network.train(self.average is None)
        return {head: mine.total(torch.from_numpy(table)).cpu().numpy() for head, table in counts.items()}

    # ------------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """All that going on takes; see the module for what is random."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])


def running_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """How weights are averaged: with `decay` in the long run, and faster over the first steps, so that the start is
    forgotten in short trainings too."""

    @torch.no_grad()
    def update(average: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        n = float(steps)
        share = 1 - min(decay, (1 + n) / (10 + n))
        for kept, new in zip(average, current, strict=True):
            kept.lerp_(new.to(kept.dtype), share) if kept.is_floating_point() else kept.copy_(new)

    return update


def optimiser_of(network: FCN, regime: Regime) -> torch.optim.Optimizer:
    """The regime's optimiser of what may learn; each group says by how much its rate is multiplied."""
    learn = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    weights = [p for _, p in learn if p.ndim > 1]
    biases = [p for _, p in learn if p.ndim == 1]
    decay = regime.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": weights, "multiple": 1.0, "weight_decay": decay},
        {"params": biases, "multiple": regime.bias_rate, "weight_decay": decay if regime.bias_decay else 0.0},
    ]
    if regime.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=regime.rate, momentum=regime.momentum)
    return torch.optim.AdamW(groups, lr=regime.rate, betas=(regime.momentum, 0.999))
