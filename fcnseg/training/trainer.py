"""The training of one stage: forward and backward passes, optimizer steps, validation.

All that is random in a step follows from the seed, the stage and the step's number. A stage can therefore be resumed
after any step with the same result: its state is the weights, the optimizer's state and that number.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from fcnseg.errors import TrainingError, is_out_of_memory
from fcnseg.models.fcn import FCN
from fcnseg.models.label_network import LabelNetwork
from fcnseg.recipes import Recipe
from fcnseg.scoring.confusion import Counts, confusion
from fcnseg.training.augmentation import AugmentedSamples
from fcnseg.training.batches import LabelledBatch, MicroBatches, StepReader, VisitSampler, named
from fcnseg.training.distributed import SINGLE, Ranks
from fcnseg.training.losses import jaccard_loss, labelled_weight, pixel_loss
from fcnseg.training.optimizer import ema_update, make_optimizer, scheduled_lr
from fcnseg.training.presets import Preset
from fcnseg.training.readers import Readers, ReadingStoppedError
from fcnseg.training.samples import Samples

SMALL_PX = 64
"""Images of at most this height or width are 2 px high or wide at stride 32."""


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


class ScoreModel(nn.Module):
    """The network behind its preprocessing: images by modality in, scores of every head out."""

    def __init__(self, network: FCN, recipe: Recipe) -> None:
        super().__init__()
        self.graph = LabelNetwork(network, recipe)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """See `LabelNetwork.scores`."""
        return self.graph.scores(*images)


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
        self.steps = preset.steps_of(stage, len(samples))
        self.bf16 = preset.in_precision(self.device).precision == "bf16"
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.ranks.world_size > 1 and self.device.type == "cuda" and any(preset.crop):
            # Only with crops do all ranks see as many batches; otherwise they would wait for each other forever.
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]
        self.ignore = {head.name: head.labels.ignore for head in recipe.heads}
        self.class_weights = {k: v.to(self.device) for k, v in (class_weights or {}).items()}
        model = ScoreModel(self.network, recipe).to(self.device)
        self.model = DistributedDataParallel(model) if self.ranks.world_size > 1 else model
        self.ema = None
        if preset.ema_decay:
            self.ema = AveragedModel(self.network, multi_avg_fn=ema_update(preset.ema_decay), use_buffers=True)
        self.optimizer = make_optimizer(self.network, preset)

    # ------------------------------------------------------------------ training

    def run(self) -> Iterator[StepResult]:
        """Train to the end of the stage, one step each time the next value is asked for.

        Ends before if the user asks to stop while images are read. Raises TrainingError where the loss is not finite
        or memory runs out, naming the step and its images.
        """
        self.model.train()
        seed, images, micro_batch = (self.seed, self.stage), len(self.samples), self.execution.micro_batch
        visits = VisitSampler(images, self.preset.batch_size, seed, self.step, self.steps, self.ranks)
        read = StepReader(AugmentedSamples(self.samples, self.preset, seed), micro_batch)
        remedy = "--micro-batch 1" if micro_batch > 1 else "a smaller --crop"
        try:
            for batches in self.readers.map(read, visits, read.names):
                with self._explained(self._description(batches), remedy):
                    loss = self._step(batches)
                if not math.isfinite(loss):
                    raise TrainingError(f"the loss is {loss} at {self._description(batches)}; try a lower --lr")
                lr = self._lr()
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
            group["lr"] = self._lr() * group["lr_multiplier"]
        pixel_weight = self._pixel_weight(batches)
        images = sum(len(batch.names) for batch in batches)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for number, batch in enumerate(batches, 1):
            with self._gradient_exchange(number == len(batches)):
                loss = self._loss(batch, pixel_weight, len(batch.names) / images)
                # DistributedDataParallel averages gradients over ranks; the loss is already a share of the whole step.
                (loss * self.ranks.world_size).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if self.preset.clip_grad_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.preset.clip_grad_norm)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(self.network)
        return float(self.ranks.total(total))

    def _pixel_weight(self, batches: MicroBatches) -> dict[str, float]:
        """Return the weight of one labelled pixel of each head in the loss of the whole step, over all ranks."""
        if not self.preset.normalize_loss:
            return dict.fromkeys(self.ignore, 1.0)
        sums = torch.stack(
            [
                torch.stack([labelled_weight(b.labels[h], i, self.class_weights.get(h)) for b in batches]).sum()
                for h, i in self.ignore.items()
            ]
        )
        sums = self.ranks.total(sums)
        return {head: 1 / max(float(n), 1e-9) for head, n in zip(self.ignore, sums, strict=True)}

    def _loss(self, batch: LabelledBatch, pixel_weight: Mapping[str, float], image_share: float) -> Tensor:
        """Return a batch's part of the step's loss; `image_share` is its share of this rank's images."""
        images = [batch.inputs[name].to(self.device, non_blocking=True) for name in self.recipe.modalities]
        with self._autocast(images[0]):
            scores_by_head = self.model(*images)
        loss = torch.zeros((), device=self.device)
        for (head, ignore), scores in zip(self.ignore.items(), scores_by_head, strict=True):
            labels = batch.labels[head].to(self.device, non_blocking=True)
            loss = loss + pixel_loss(scores, labels, ignore, self.class_weights.get(head)) * pixel_weight[head]
            if self.preset.jaccard_weight:
                overlap = jaccard_loss(scores, labels, ignore)
                loss = loss + overlap * (self.preset.jaccard_weight * image_share / self.ranks.world_size)
        return loss

    def _lr(self) -> float:
        return scheduled_lr(self.preset.lr_schedule, self.preset.stage_lr(self.stage), self.step / self.steps)

    def _autocast(self, images: Tensor) -> AbstractContextManager[Any]:
        """Compute in bfloat16 where the preset says so, except on CPUs for small images N x H x W x C.

        There oneDNN leaves fc6's gradient unset where a 7 x 7 kernel sees only the padding around 2 px (PyTorch 2.15).
        """
        if self.bf16 and (self.device.type != "cpu" or min(images.shape[1:3]) > SMALL_PX):
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _gradient_exchange(self, last: bool) -> AbstractContextManager[Any]:
        """Exchange gradients between ranks once a step, with its last batch."""
        return nullcontext() if last or not isinstance(self.model, DistributedDataParallel) else self.model.no_sync()

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

    # ------------------------------------------------------------------ results

    @property
    def result(self) -> FCN:
        """The trained network: with averaged weights if the preset has an exponential moving average."""
        return self.ema.module if self.ema is not None else self.network  # type: ignore[return-value]

    @torch.inference_mode()
    def validate(self, samples: Samples, on_progress: Callable[[int], None] = lambda done: None) -> dict[str, Counts]:
        """Return the confusion matrices of the result over whole images, K x K by head; the ranks share the images.

        `on_progress` is called with the number of images done. Raises TrainingError where memory runs out.
        """
        network = self.result.eval()
        graph = LabelNetwork(network, self.recipe).to(self.device)
        counts = {h.name: np.zeros((h.labels.classes,) * 2, np.int64) for h in self.recipe.heads}
        indices = range(self.ranks.rank, len(samples), self.ranks.world_size)
        read = self.readers.map(samples.__getitem__, indices, samples.names.__getitem__)
        for index, sample in zip(indices, read, strict=True):
            images = [torch.from_numpy(sample.inputs[m])[None].to(self.device) for m in self.recipe.modalities]
            where = f"the validation of {sample.name}"
            with self._explained(where, "smaller images in --val"), self._autocast(images[0]):
                label_maps = graph(*images)
            for head, label_map in zip(self.recipe.heads, label_maps, strict=True):
                truth, predicted = sample.labels[head.name], label_map[0].cpu().numpy()
                counts[head.name] += confusion(truth, predicted, head.labels.classes, head.labels.ignore)
            on_progress(min(index + self.ranks.world_size, len(samples)))
        network.train(self.ema is None)
        return {head: self.ranks.total(torch.from_numpy(table)).cpu().numpy() for head, table in counts.items()}

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
