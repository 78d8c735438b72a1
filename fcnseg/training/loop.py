"""A plain training loop: whole batches of random views, AdamW, one cycle of the learning rate, averaged weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fcnseg.files import whole_file
from fcnseg.models.fcn import FCN
from fcnseg.scoring.confusion import Counts, confusion, mean_iu
from fcnseg.training.pairs import VOID, Pair, Views


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: the learning rate warms up to `peak_rate` and falls to zero over the run."""

    epochs: int
    batch: int = 8
    peak_rate: float = 3e-3
    weight_decay: float = 2e-2
    average_decay: float = 0.998
    seed: int = 0
    validate_every: int = 10


@dataclass(frozen=True)
class Progress:
    """What the loop reports after each epoch; `mean_iu` (0..1) only where it validated."""

    epoch: int
    loss: float
    seconds: float
    mean_iu: float | None


class Trainer:
    """Trains `network` on `pairs`. Mean is B, G, R (0..255), subtracted from the B, G, R image."""

    def __init__(
        self, network: FCN, mean_bgr: tuple[float, ...], weights: Tensor, views: Views, plan: Schedule
    ) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        averaging = get_ema_multi_avg_fn(plan.average_decay)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(network, multi_avg_fn=averaging, use_buffers=True)
        self.mean = torch.tensor(mean_bgr)[:, None, None]
        self.class_weights, self.views, self.plan = weights, views, plan
        decayed = [p for n, p in network.named_parameters() if p.requires_grad and p.ndim > 1]
        plain = [p for n, p in network.named_parameters() if p.requires_grad and p.ndim == 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=plan.peak_rate, weight_decay=plan.weight_decay)
        self.epoch = 0

    def prepare(self, pixels: Tensor) -> Tensor:
        """The network's input from RGB pixels ... x 3 x H x W in 0..255."""
        return pixels.float().flip(-3) - self.mean

    def run(
        self, pairs: list[Pair], validation: list[Pair], checkpoint: Path, report: Callable[[Progress], None]
    ) -> None:
        """Train to the end of the schedule, from `checkpoint` if it exists; saves there after each epoch."""
        if checkpoint.exists():
            self._restore(torch.load(checkpoint, weights_only=True))
        while self.epoch < self.plan.epochs:
            start = time.monotonic()
            loss = self._train_epoch(pairs)
            self.epoch += 1
            last = self.epoch == self.plan.epochs
            iu = mean_iu(self.validate(validation)) if last or self.epoch % self.plan.validate_every == 0 else None
            self._save(checkpoint)
            report(Progress(self.epoch, loss, time.monotonic() - start, iu))

    def _train_epoch(self, pairs: list[Pair]) -> float:
        self.network.train()
        generator = torch.Generator().manual_seed(self.plan.seed * 100_003 + self.epoch)
        torch.manual_seed(self.plan.seed * 100_003 + self.epoch)
        order = torch.randperm(len(pairs), generator=generator).tolist()
        batches = [order[i : i + self.plan.batch] for i in range(0, len(order), self.plan.batch)]
        total = 0.0
        for index, batch in enumerate(batches):
            for group in self.optimiser.param_groups:
                group["lr"] = self._rate((self.epoch + index / len(batches)) / self.plan.epochs)
            total += self._step([pairs[i] for i in batch], generator)
        return total / len(batches)

    def _rate(self, done: float) -> float:
        """One cycle: a tenth of the run up to the peak, then down a cosine."""
        rise = 0.1
        if done < rise:
            return self.plan.peak_rate * (0.04 + 0.96 * done / rise)
        return self.plan.peak_rate * 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))

    def _step(self, pairs: list[Pair], generator: torch.Generator) -> float:
        views = [self.views(pair, generator) for pair in pairs]
        x = self.prepare(torch.stack([v[0] for v in views])).contiguous(memory_format=torch.channels_last)
        y = torch.stack([v[1] for v in views])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            (scores,) = self.network(x)
        loss = F.cross_entropy(scores.float(), y, self.class_weights, ignore_index=VOID)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        return loss.item()

    @torch.inference_mode()
    def validate(self, pairs: list[Pair]) -> Counts:
        """The confusion matrix of the averaged weights over whole images, K x K."""
        self.average.eval()
        classes = self.network.spec.heads[0].classes
        counts = torch.zeros(classes, classes, dtype=torch.int64).numpy()
        for pair in pairs:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                (scores,) = self.average(self.prepare(pair.pixels[None]))
            counts += confusion(pair.labels.numpy(), scores[0].argmax(0).byte().numpy(), classes)
        return counts

    def _save(self, path: Path) -> None:
        state = {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        with whole_file(path) as file:
            torch.save(state, file)

    def _restore(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
