"""The gradient of one step: forward and backward passes over its micro-batches, on all processes.

Whatever the losses, it is that of all images of the step at once, to float rounding; dropout and normalisation see
micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fcnseg.models.fcn import FCN
from fcnseg.models.label_network import LabelNetwork
from fcnseg.recipes import Recipe
from fcnseg.training.batches import LabelledBatch, MicroBatches
from fcnseg.training.distributed import Ranks
from fcnseg.training.losses import class_sums, labelled_weight, overlap_slopes, pixel_loss
from fcnseg.training.presets import Preset

SMALL_PX = 64
"""Images of at most this height or width are 2 px high or wide at stride 32."""

SumsByHead = dict[str, Tensor]


class ScoreModel(nn.Module):
    """The network behind its preprocessing: images by modality in, scores of every head out."""

    def __init__(self, network: FCN, recipe: Recipe) -> None:
        super().__init__()
        self.graph = LabelNetwork(network, recipe)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """See `LabelNetwork.scores`."""
        return self.graph.scores(*images)


class StepGradient:
    """Gradients of a network's parameters by the losses of a preset; `class_weights` by head, K each."""

    def __init__(
        self,
        network: FCN,
        recipe: Recipe,
        preset: Preset,
        device: torch.device,
        ranks: Ranks,
        class_weights: Mapping[str, Tensor],
    ) -> None:
        self.recipe, self.preset, self.device, self.ranks = recipe, preset, device, ranks
        self.ignore = {head.name: head.labels.ignore for head in recipe.heads}
        self.class_weights = {k: v.to(device) for k, v in class_weights.items()}
        self.bf16 = preset.in_precision(device).precision == "bf16"
        self.plain = ScoreModel(network, recipe).to(device)
        self.model = DistributedDataParallel(self.plain) if ranks.world_size > 1 else self.plain
        self._overlap = preset.jaccard_weight, preset.dice_weight

    def __call__(self, batches: MicroBatches) -> float:
        """Add the gradient of a step to the parameters' and return its loss, over all ranks.

        A loss of overlap needs the sums of all batches before the first backward pass: those of all but one come from
        a forward pass of their own, which sees the same dropout.
        """
        pixel_weight = self._pixel_weight(batches)
        total = torch.zeros((), device=self.device)
        order, random_states, slopes = batches, list[Tensor](), SumsByHead()
        if any(self._overlap):
            others = [self._sums_of(batch, random_states) for batch in batches[:-1]]
            order = [batches[-1], *batches[:-1]]
        for number, batch in enumerate(order):
            if number and random_states:
                set_random_state(random_states[number - 1], self.device)
            with self._gradient_exchange(last=number == len(order) - 1):
                scores = self._scores(batch, self.model)
                loss = self._pixel_part(scores, batch, pixel_weight)
                total += loss.detach()
                if any(self._overlap):
                    sums = self._class_sums(scores, batch)
                    if not number:
                        slopes, value = self._slopes(sums, others)
                        total += value / self.ranks.world_size
                    loss = loss + sum((slopes[head] * of).sum() for head, of in sums.items())
                # DistributedDataParallel averages gradients over ranks; the loss is already a share of the whole step.
                (loss * self.ranks.world_size).backward()  # type: ignore[no-untyped-call]
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

    def _scores(self, batch: LabelledBatch, model: nn.Module) -> dict[str, Tensor]:
        images = [batch.inputs[name].to(self.device, non_blocking=True) for name in self.recipe.modalities]
        with self.autocast(images[0]):
            return dict(zip(self.ignore, model(*images), strict=True))

    def _labels(self, batch: LabelledBatch, head: str) -> Tensor:
        return batch.labels[head].to(self.device, non_blocking=True)

    def _pixel_part(
        self, scores: Mapping[str, Tensor], batch: LabelledBatch, pixel_weight: Mapping[str, float]
    ) -> Tensor:
        """Return a batch's part of the step's loss over pixels."""
        loss = torch.zeros((), device=self.device)
        for head, of in scores.items():
            weights = self.class_weights.get(head)
            own = pixel_loss(of, self._labels(batch, head), self.ignore[head], weights, self.preset.focal_gamma)
            loss = loss + own * pixel_weight[head]
        return loss

    # ------------------------------------------------------------------ overlap

    def _class_sums(self, scores: Mapping[str, Tensor], batch: LabelledBatch) -> SumsByHead:
        return {head: class_sums(of, self._labels(batch, head), self.ignore[head]) for head, of in scores.items()}

    @torch.no_grad()
    def _sums_of(self, batch: LabelledBatch, random_states: list[Tensor]) -> SumsByHead:
        """Return the sums of a batch, and append the state of the random numbers that its dropout begins with."""
        random_states.append(random_state(self.device))
        with statistics_kept(self.plain):
            return self._class_sums(self._scores(batch, self.plain), batch)

    def _slopes(self, sums: SumsByHead, others: list[SumsByHead]) -> tuple[SumsByHead, float]:
        """Return the slopes of the overlap losses at the sums of the whole step over all ranks, and their value."""
        slopes, total = {}, 0.0
        for head, own in sums.items():
            whole = self.ranks.total(torch.stack([own.detach(), *(of[head] for of in others)]).sum(0))
            slopes[head], value = overlap_slopes(whole, *self._overlap)
            total += value
        return slopes, total

    # ------------------------------------------------------------------ contexts

    def autocast(self, images: Tensor) -> AbstractContextManager[Any]:
        """Compute in bfloat16 where the preset says so, except on CPUs for small images N x H x W x C.

        There oneDNN leaves fc6's gradient unset where a 7 x 7 kernel sees only the padding around 2 px (PyTorch 2.15).
        """
        if self.bf16 and (self.device.type != "cpu" or min(images.shape[1:3]) > SMALL_PX):
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _gradient_exchange(self, last: bool) -> AbstractContextManager[Any]:
        """Exchange gradients between ranks once a step, with its last batch."""
        return nullcontext() if last or not isinstance(self.model, DistributedDataParallel) else self.model.no_sync()


def random_state(device: torch.device) -> Tensor:
    """Return the state of the random numbers that dropout on a device takes."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def set_random_state(state: Tensor, device: torch.device) -> None:
    """Go back to a `random_state`."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch normalisation as they are, while it uses those of the batch."""
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, batches) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, batches
