"""The PyTorch engine: the reference for all others, on any device that torch knows; see `batched` for GPUs."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

import fcnseg
from fcnseg.engine.options import PRECISIONS, check_precision
from fcnseg.engine.precision import EXACT, is_homogeneous, with_headroom
from fcnseg.engine.runtimes.common import ClosesOnExit, check_inputs, check_memory, engine_info, too_large
from fcnseg.errors import EngineError, SettingsError, TooLargeError, is_out_of_memory
from fcnseg.models import FCN, network_spec
from fcnseg.models.label_network import LabelNetwork, labels_of
from fcnseg.recipes import Recipe
from fcnseg.types import EngineInfo, Labels, Pixels, Probabilities
from fcnseg.weights.loading import load_whole_model
from fcnseg.workers.limits import numeric_threads


class TorchEngine(ClosesOnExit):
    """A recipe's network on a torch device.

    `precision` is that of the trunk; scores, sums, deconvolutions and the softmax are always float32. Images of a
    batch run one at a time: libraries choose other kernels for other batch sizes, and the last bits of a score (so
    now and then a label) would depend on batch composition.
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: Path | None = None,
        device: str = "auto",
        precision: str = "fp32",
        choice: str = "as asked",
    ) -> None:
        check_precision(precision, "torch")
        self.recipe, self.weights, self.precision, self.choice = recipe, weights, precision, choice
        self.device = find_device(device)
        check_precision(precision, "torch", on_processor=self.device.type == "cpu")
        self._network: LabelNetwork | None = None

    def __enter__(self) -> Self:
        network, sha256 = open_network(self.recipe, self.weights, self.device, self.precision)
        self._network = LabelNetwork(network, self.recipe).to(self.device).eval()
        self.info = torch_info(self.recipe, self.device, self.precision, sha256, self.choice)
        return self

    def close(self) -> None:
        """Release the network, and on a GPU the memory that torch keeps for the next."""
        self._network = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def infer(
        self, inputs: Mapping[str, Pixels], probabilities: bool = False
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        """Labels N x H x W of each head and, if asked, float32 probabilities N x K x H x W. See `types.Engine`."""
        rows = check_inputs(self.recipe, inputs)
        if self.device.type == "cpu":
            height, width = next(iter(inputs.values())).shape[1:3]
            check_memory(self.recipe, height, width, torch_dtype(self.precision).itemsize)
        images = [torch.from_numpy(np.require(inputs[m], requirements=("C", "W"))) for m in self.recipe.modalities]
        results = [self._infer_one([image[i : i + 1] for image in images], probabilities) for i in range(rows)]
        names = [head.name for head in self.recipe.heads]
        labels = {name: np.stack([r[0][h] for r in results]) for h, name in enumerate(names)}
        if not probabilities:
            return labels, None
        return labels, {name: np.stack([r[1][h] for r in results]) for h, name in enumerate(names)}

    @torch.inference_mode()
    def _infer_one(self, images: list[Tensor], probabilities: bool) -> tuple[list[Labels], list[Probabilities]]:
        if self._network is None:
            raise EngineError("the engine is closed; use it inside its `with` block")
        try:
            with exact_arithmetic(self.device):
                scores = self._network.scores(*(image.to(self.device) for image in images))
                labels = [labels_of(s)[0].cpu().numpy() for s in scores]
                probable = [s[0].softmax(0).cpu().numpy() for s in scores] if probabilities else []
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TooLargeError(too_large(*images[0].shape[1:3])) from error
        return labels, probable


def open_network(
    recipe: Recipe,
    weights: Path | None,
    device: torch.device,
    precision: str,
    form: Callable[[FCN], FCN] = lambda network: network,
) -> tuple[FCN, str]:
    """Return a recipe's network in a form on a device, its trunk in `precision`, and the SHA-256 of its weights.

    Raises EngineError if the device does not hold it.
    """
    limit_threads()
    loaded, spec = load_whole_model(recipe, weights), network_spec(recipe)
    if precision == "fp16" and is_homogeneous(spec):
        loaded = replace(loaded, tensors=with_headroom(loaded.tensors, spec))
    try:
        network = form(loaded.network()).to(device).to(memory_format=torch.channels_last)
        lower_trunk(network, torch_dtype(precision))
    except RuntimeError as error:
        reason = " ".join(str(error).partition("\n")[0].split())
        raise EngineError(
            f"torch cannot put {recipe.name} on {device}: {reason}; free its memory or use --device cpu"
        ) from error
    return network, loaded.sha256


def torch_info(recipe: Recipe, device: torch.device, precision: str, sha256: str, choice: str) -> EngineInfo:
    """Return the information of an engine of torch."""
    return engine_info(
        recipe,
        backend="torch",
        device=str(device),
        precision=precision,
        weights_sha256=sha256,
        versions={"fcnseg": fcnseg.__version__, "torch": torch.__version__, "python": platform.python_version()},
        choice=choice,
    )


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Have a CUDA device compute float32 in float32, and by the same kernels each time.

    No TF32; no kernels chosen by timing, which may be others in the next process; none whose sums depend on chance.
    The settings are the process's, and are put back afterwards.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    exact: list[tuple[Any, str, Any]] = [(cudnn, "benchmark", False), (cudnn, "deterministic", True)]
    if hasattr(cudnn, "conv"):  # torch 2.9: what is "ieee" does not follow a general permission
        exact += [(cudnn.conv, "fp32_precision", "ieee"), (products, "fp32_precision", "ieee")]
    else:
        exact += [(cudnn, "allow_tf32", False), (products, "allow_tf32", False)]
    before = [(where, name, getattr(where, name)) for where, name, _ in exact]
    try:
        for where, name, value in exact:
            setattr(where, name, value)
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)


def torch_dtype(precision: str) -> torch.dtype:
    """Return torch's type of a precision that is not quantised."""
    dtype: torch.dtype = getattr(torch, PRECISIONS[precision].torch_dtype or "")
    return dtype


def lower_trunk(network: FCN, dtype: torch.dtype) -> None:
    """Put the trunk in `dtype`, in place; score layers, skip scales and deconvolutions stay float32."""
    for name, module in network.named_children():
        if not name.startswith(EXACT):
            module.to(dtype)


def limit_threads() -> None:
    """Have torch use no more threads than there are cores and threads for this process: it does not know of shares."""
    if torch.get_num_threads() > (threads := numeric_threads()):
        torch.set_num_threads(threads)


def find_device(name: str) -> torch.device:
    """Return the device of that name ("auto": CUDA, else MPS, else the CPU). Raises EngineError if it is not there."""
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
