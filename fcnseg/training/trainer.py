"""The training of one stage: forward and backward passes, optimizer steps, validation.

All that is random in a step follows from the seed, the stage and the step's number. A stage can therefore be resumed
after any step with the same result: its state is the weights, the optimizer's state and that number.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fcnseg.errors import DivergedError, TrainingError, is_out_of_memory
from fcnseg.models.fcn import FCN
from fcnseg.models.label_network import LabelNetwork
from fcnseg.recipes import Recipe
from fcnseg.training.augmentation import AugmentedSamples
from fcnseg.training.batches import LabelledBatch, MicroBatches, StepReader, VisitSampler, named
from fcnseg.training.distributed import SINGLE, Ranks
from fcnseg.training.finite import not_finite
from fcnseg.training.losses import pixel_loss
from fcnseg.training.optimizer import ema_update, hold_frozen_statistics, make_optimizer, scheduled_lr
from fcnseg.training.presets import Preset
from fcnseg.training.readers import Readers, ReadingStoppedError
from fcnseg.training.samples import Samples
from fcnseg.training.step import StepGradient
from fcnseg.training.validation import HeadTally, TiledPrediction, Validation, totals


@dataclass(frozen=True)
class Execution:
    """Device, ranks and reading processes of a training; they change its result by float rounding only.

    At most `micro_batch` images go through the network at once (fewer take less memory; gradients are summed).
    """

    device: torch.device
    ranks: Ranks = SINGLE
    workers: int = 0
    micro_batch: int = 8


@dataclass(frozen=True)
class StepResult:
    """A finished step: its number from 1 and of how many, the epoch, its learning rate, the loss over its images."""

    step: int
    steps: int
    epoch: float
    lr: float
    loss: float


class Trainer:
    """Train the recipe's `network` by `preset` on `samples`; `class_weights` by head, K each, or none for all 1."""

    def __init__(
        self,
        network: FCN,
        recipe: Recipe,
        preset: Preset,
        samples: Samples,
        *,
        stage: int = 0,
        seed: int = 0,
        execution: Execution,
        class_weights: Mapping[str, Tensor] | None = None,
        readers: Readers | None = None,
    ) -> None:
        self.recipe, self.preset, self.samples, self.execution = recipe, preset, samples, execution
        self.device, self.ranks = execution.device, execution.ranks
        self.readers = readers or Readers()
        self.stage, self.seed, self.step = stage, seed, 0
        self.last_step = "no step"
        self.last_batch: LabelledBatch | None = None
        self.steps = preset.steps_of(stage, len(samples))
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.ranks.world_size > 1 and self.device.type == "cuda" and any(preset.crop):
            # Only with crops do all ranks see as many batches; otherwise they would wait for each other forever.
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]
        self.spaces = {head.name: head.labels for head in recipe.heads}
        self.optimizer = make_optimizer(self.network, preset)
        self.gradient = StepGradient(self.network, recipe, preset, self.device, self.ranks, class_weights or {})
        self.ema = None
        if preset.ema_decay:
            self.ema = AveragedModel(self.network, multi_avg_fn=ema_update(preset.ema_decay), use_buffers=True)

    # ------------------------------------------------------------------ training

    def run(self) -> Iterator[StepResult]:
        """Train to the end of the stage, one step each time the next value is asked for.

        Ends before if the user asks to stop while images are read. Raises TrainingError where memory runs out,
        DivergedError where the loss, the gradient or the weights are not finite, naming the step and its images.
        """
        self.gradient.model.train()
        hold_frozen_statistics(self.network, self.preset)
        seed, images, micro_batch = (self.seed, self.stage), len(self.samples), self.execution.micro_batch
        visits = VisitSampler(images, self.preset.batch_size, seed, self.step, self.steps, self.ranks)
        read = StepReader(AugmentedSamples(self.samples, self.preset, seed, self.gradient.ignore), micro_batch)
        remedy = "--micro-batch 1" if micro_batch > 1 else "a smaller --crop"
        try:
            for batches in self.readers.map(read, visits, read.names):
                self.last_step, self.last_batch = self._description(batches), batches[0]
                with self._explained(self.last_step, remedy):
                    loss = self._step(batches)
                lr = self.lr
                self.step += 1
                yield StepResult(self.step, self.steps, self.epoch, lr, loss)
        except ReadingStoppedError:
            if self.ranks.world_size > 1:  # the others are in this step already
                raise

    @property
    def epoch(self) -> float:
        """Passes over the data that the steps so far make up."""
        return self.step * self.preset.batch_size / len(self.samples)

    def _step(self, batches: MicroBatches) -> float:
        entropy = self.seed, self.stage, self.step, self.ranks.rank
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group["lr_multiplier"]
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.gradient(batches)
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss} at {self.last_step}")
        self._clip_gradient()
        self._update()
        if self.ema is not None:
            self.ema.update_parameters(self.network)
        if fault := not_finite(self.network.state_dict()):
            raise DivergedError(f"{fault} is not finite after {self.last_step}")
        return loss

    def _update(self) -> None:
        """Take the optimizer's step. Raises DivergedError if its numbers are beyond float32."""
        try:
            self.optimizer.step()
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            raise DivergedError(f"the update of the weights is not finite at {self.last_step}") from error

    def _clip_gradient(self) -> None:
        """Clip the gradient's norm as the preset says. Raises DivergedError if it is not finite."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if not math.isfinite(norm):
            raise DivergedError(f"the gradient's norm is {float(norm)} at {self.last_step}")
        if self.preset.clip_grad_norm:
            nn.utils.clip_grads_with_norm_(self.network.parameters(), self.preset.clip_grad_norm, norm)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return scheduled_lr(self.preset.lr_schedule, self.preset.stage_lr(self.stage), self.step / self.steps)

    @contextmanager
    def _explained(self, where: str, remedy: str) -> Iterator[None]:
        """Turn out-of-memory errors, and too few values for batch normalisation, into a TrainingError with a remedy."""
        try:
            yield
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            advice = "is too small for batch normalisation; use a larger --crop, or a preset with batch_norm = false"
            raise TrainingError(f"{where} {advice}") from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(f"out of memory at {where}; try {remedy}, or --precision bf16") from error

    def _description(self, batches: MicroBatches) -> str:
        images = named([name for batch in batches for name in batch.names])
        return f"step {self.step + 1} of stage {self.recipe.architecture.stride}s ({images})"

    @torch.inference_mode()
    def check(self) -> float:
        """Return the mean cross-entropy of the weights as they are on images of the last step, 0 before any.

        Raises DivergedError if it or the state is not finite: weights may be finite and of no use.
        """
        fault, loss = not_finite(self.state()), 0.0
        if self.last_batch is not None and not fault:
            images = [self.last_batch.inputs[name].to(self.device) for name in self.recipe.modalities]
            with self.gradient.autocast(images[0]):
                scores_by_head = LabelNetwork(self.network.eval(), self.recipe).to(self.device).scores(*images)
            self.network.train()
            hold_frozen_statistics(self.network, self.preset)
            for (head, ignore), scores in zip(self.gradient.ignore.items(), scores_by_head, strict=True):
                labels = self.last_batch.labels[head]
                pixels = max(1, int((labels != ignore).sum()))
                loss += float(pixel_loss(scores, labels.to(self.device), ignore)) / pixels
                fault = fault or not_finite({"a score": scores})
        if fault or not math.isfinite(loss):
            raise DivergedError(f"{fault or 'a score'} is not finite after {self.last_step}")
        return loss

    # ------------------------------------------------------------------ results

    @property
    def result(self) -> FCN:
        """The trained network: with averaged weights if the preset has an exponential moving average."""
        return self.ema.module if self.ema is not None else self.network  # type: ignore[return-value]

    @torch.inference_mode()
    def validate(
        self, samples: Samples, on_progress: Callable[[int], None] = lambda done: None
    ) -> dict[str, Validation]:
        """Return by head how the result does on whole images; the ranks share them.

        `on_progress` is called with the number of images done. Raises TrainingError where memory runs out,
        DivergedError where scores are not finite.
        """
        network = self.result.eval()
        graph = LabelNetwork(network, self.recipe).to(self.device)
        predict = TiledPrediction(graph, self.device, self.gradient.autocast, self.last_step)
        tallies = {head: HeadTally(space) for head, space in self.spaces.items()}
        indices = range(self.ranks.rank, len(samples), self.ranks.world_size)
        read = self.readers.map(samples.__getitem__, indices, samples.names.__getitem__)
        for index, sample in zip(indices, read, strict=True):
            with self._explained(f"the validation of {sample.name}", "smaller images in --val"):
                for head, (predicted, loss) in predict(sample).items():
                    tallies[head].add(index, sample.labels[head], predicted, loss)
            on_progress(min(index + self.ranks.world_size, len(samples)))
        network.train(self.ema is None)
        hold_frozen_statistics(self.network, self.preset)
        return totals(tallies, self.ranks.total)

    # ------------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """Return all that resuming after this step takes."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a `state`."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
