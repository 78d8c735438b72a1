"""The PyTorch engine: the reference, on any device torch knows."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil
import torch
from torch import Tensor

import fcnseg
from fcnseg.engine.graph import LabelGraph, labels_of
from fcnseg.errors import EngineError, ImageError, SettingsError
from fcnseg.models.fcn import FCN
from fcnseg.recipes import MODALITIES, Recipe
from fcnseg.types import EngineInfo, Labels, Pixels, Probabilities
from fcnseg.weights.loading import load_network

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class TorchEngine:
    """A recipe's network on a torch device.

    `precision` is that of the trunk; scores, sums, deconvolutions and the softmax are always float32. Images of a
    batch run one at a time: libraries choose other kernels for other batch sizes, and the last bits of a score (so
    now and then a label) would depend on the image's company.
    """

    def __init__(
        self, recipe: Recipe, weights: Path | None = None, device: str = "auto", precision: str = "fp32"
    ) -> None:
        if precision not in PRECISIONS:
            raise SettingsError(f"precision {precision!r} is unknown to the torch backend; use fp32 or bf16")
        self.recipe, self.weights, self.precision = recipe, weights, precision
        self.device = find_device(device)
        self._graph: LabelGraph | None = None

    def __enter__(self) -> Self:
        loaded = load_network(self.recipe, self.weights)
        if loaded.training_start:
            raise SettingsError(
                f"{loaded.source} is a start for training (its score layers are untrained); train it, "
                "or give weights of a whole model with --weights"
            )
        network = loaded.network.to(self.device).to(memory_format=torch.channels_last)
        lower_trunk(network, PRECISIONS[self.precision])
        if self.device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False
        self._graph = LabelGraph(network, self.recipe).to(self.device).eval()
        self._info = EngineInfo(
            backend="torch",
            device=str(self.device),
            precision=self.precision,
            model=self.recipe.name,
            weights_sha256=loaded.weights_sha256,
            heads={head.name: head.labels for head in self.recipe.heads},
            modalities=self.recipe.modalities,
            versions={"fcnseg": fcnseg.__version__, "torch": torch.__version__, "python": platform.python_version()},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the network."""
        self._graph = None

    @property
    def info(self) -> EngineInfo:
        """What this engine is; known once entered."""
        return self._info

    def infer(
        self, inputs: Mapping[str, Pixels], probabilities: bool = False
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        """Labels N x H x W of each head and, if asked, float32 probabilities N x K x H x W. See `types.Engine`."""
        rows = check_inputs(self.recipe, inputs)
        self._check_memory(*next(iter(inputs.values())).shape[1:3])
        images = [torch.from_numpy(np.ascontiguousarray(inputs[m])) for m in self.recipe.modalities]
        results = [self._infer_one([image[i : i + 1] for image in images], probabilities) for i in range(rows)]
        names = [head.name for head in self.recipe.heads]
        labels = {name: np.stack([r[0][h] for r in results]) for h, name in enumerate(names)}
        if not probabilities:
            return labels, None
        return labels, {name: np.stack([r[1][h] for r in results]) for h, name in enumerate(names)}

    @torch.inference_mode()
    def _infer_one(self, images: list[Tensor], probabilities: bool) -> tuple[list[Labels], list[Probabilities]]:
        if self._graph is None:
            raise EngineError("the engine is closed; use it inside its `with` block")
        try:
            scores = self._graph.scores(*(image.to(self.device) for image in images))
            labels = [labels_of(s)[0].cpu().numpy() for s in scores]
            found = [s[0].softmax(0).cpu().numpy() for s in scores] if probabilities else []
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise ImageError(self._too_large(*images[0].shape[1:3]), "predict") from error
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            raise ImageError(self._too_large(*images[0].shape[1:3]), "predict") from error
        return labels, found

    def _check_memory(self, height: int, width: int) -> None:
        """Refuse what would not fit before the system's out-of-memory killer ends the whole run."""
        if self.device.type != "cpu" or self._graph is None:
            return
        needed, free = working_bytes(self._graph.network, height, width), psutil.virtual_memory().available
        if needed > free:
            raise ImageError(
                f"{self._too_large(height, width)} (about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free)",
                "predict",
            )

    def _too_large(self, height: int, width: int) -> str:
        return f"{width} x {height} pixels need more memory than there is; cut the image into parts"


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" takes CUDA, else MPS, else the CPU. Raises EngineError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"device {name!r} is unknown; use auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineError(f"device {name}: torch finds {torch.cuda.device_count()} CUDA devices; use --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise EngineError("device mps: torch finds none here; use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise SettingsError(f"device {name!r} is not supported; use auto, cpu, cuda, cuda:N or mps")
    return device


def lower_trunk(network: FCN, dtype: torch.dtype) -> None:
    """Put the trunk in `dtype`; score layers, skip scales and deconvolutions stay float32."""
    for name, module in network.named_children():
        if not name.startswith(("score_", "upscore", "scale_")):
            module.to(dtype)


def working_bytes(network: FCN, height: int, width: int) -> int:
    """An estimate of the memory one image takes: the first block's two widest maps, and the scores with their
    arg-max."""
    spec, first = network.spec, network.layers[0]
    stem = next(network.parameters())  # the first convolution's weight
    pad = 2 * first.window.pad  # type: ignore[union-attr]
    stride = first.window.stride  # type: ignore[union-attr]
    area = (height + pad) * (width + pad)
    maps = 2 * stem.shape[0] * stem.element_size() * area // stride**2
    scores = max(head.classes for head in spec.heads) * 4 * 2 * area
    return int(maps + scores + 32 * height * width)


def check_inputs(recipe: Recipe, inputs: Mapping[str, Pixels]) -> int:
    """The number of images N, of inputs N x H x W x C; raises ImageError where they are not what the recipe takes."""
    sizes = {modality: pixels.shape[:-1] for modality, pixels in inputs.items()}
    if set(inputs) != set(recipe.modalities) or len(set(sizes.values())) != 1:
        raise ImageError(f"{recipe.name} takes {', '.join(recipe.modalities)} of one size; got {sizes}", "predict")
    for modality, pixels in inputs.items():
        dtype = np.float32 if modality == "depth" else np.uint8
        if pixels.dtype != dtype or pixels.ndim != 4 or pixels.shape[-1] != MODALITIES[modality]:
            raise ImageError(
                f"{modality} must be {np.dtype(dtype)} N x H x W x {MODALITIES[modality]}; "
                f"got {pixels.dtype} {' x '.join(map(str, pixels.shape))}",
                "predict",
            )
    return int(next(iter(inputs.values())).shape[0])
