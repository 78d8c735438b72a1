"""Building an engine: network, graph, compiled file, loaded again from disk, compared with the network, published."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

import fcnseg
from fcnseg.engine.cache import REJECTED, engine_path, remove, writing
from fcnseg.engine.export import export_onnx
from fcnseg.engine.graph import LabelGraph
from fcnseg.engine.load import open_built, runtime
from fcnseg.engine.precision import half, measure_ranges, quantize
from fcnseg.engine.record import Identity, Sidecar, file_sha256, sidecar_path, write_sidecar
from fcnseg.engine.runtimes.common import output_names
from fcnseg.engine.runtimes.openvino import compile_graph
from fcnseg.engine.runtimes.pytorch import TorchEngine
from fcnseg.engine.runtimes.tensorrt.plan import build_plan
from fcnseg.engine.verify import FLOORS, OnProgress, Reference, verify
from fcnseg.errors import EngineError
from fcnseg.models.fcn import FCN
from fcnseg.recipes import Recipe
from fcnseg.types import Pixels, Verification
from fcnseg.weights.loading import load_whole_network
from fcnseg.weights.store import find_weights


@dataclass(frozen=True)
class Images:
    """Real images, inputs H x W x C by modality; `name` says whose."""

    inputs: Sequence[Mapping[str, Pixels]]
    name: str


class Builder:
    """Builds engines of one recipe and its weights; what several of them need is made once.

    Engines are compared with the network on some of the `images`, int8 is calibrated on all of them. `work` is a
    folder for unfinished files, on the file system that the engines go to; the caller removes it.
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: Path | None,
        images: Images,
        work: Path,
        on_progress: OnProgress = lambda phase, part: None,
    ) -> None:
        self.recipe, self.weights, self.images, self.work, self.on_progress = recipe, weights, images, work, on_progress
        self._left = ExitStack()
        self._reference: Reference | None = None
        self._exported: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.close()

    def build(
        self,
        identity: Identity,
        target: Path | None = None,
        floor: float | None = None,
        *,
        keep_rejected: bool = False,
    ) -> Sidecar:
        """Build the engine of that identity into the cache, or as `target`; returns its record.

        Raises EngineError, and publishes nothing, if it cannot be built or does not agree with the network on `floor`
        of the pixels (default: `verify.FLOORS`); a rejection from the cache is remembered, and `keep_rejected` keeps
        the engine with its record, where only measurements look for it.
        """
        start = time.monotonic()
        target = target or engine_path(identity)
        with writing(target):
            engine = self.work / identity.key
            labels, everything = output_names(self.recipe), output_names(self.recipe, True)
            outputs = {engine: everything if identity.probabilities else labels}
            if runs_here(identity):
                outputs[_twin(engine)] = everything
            graph = COMPILERS[identity.backend](self, identity, outputs)
            sidecar = self._record(identity, graph, engine)
            if runs_here(identity):
                floor = FLOORS[identity.precision] if floor is None else floor
                sidecar = replace(sidecar, verification=self._verify(identity, engine, sidecar, floor))
            sidecar = replace(sidecar, build_seconds=round(time.monotonic() - start, 1), file=target.name)
            _publish(engine, target, sidecar, keep_rejected)
            _twin(engine).unlink(missing_ok=True)
        return sidecar

    def graph_file(self, identity: Identity) -> Path:
        """The exported fp32 graph with probabilities; exported once."""
        if self._exported is None:
            self._exported = self.export(load_whole_network(self.recipe, self.weights).network, "graph", identity)
        return self._exported

    def export(self, network: FCN, name: str, identity: Identity, *, skip_margins: bool = True) -> Path:
        """A network's graph with probabilities, as a file in the folder for unfinished ones."""
        self.on_progress("exporting the graph", 0.05)
        file = self.work / f"{name}.onnx"
        graph = LabelGraph(network, self.recipe, "float32", skip_margins=skip_margins).eval()
        export_onnx(graph, file, weights_sha256=identity.weights, separate_weights=True)
        return file

    def calibration(self) -> list[Mapping[str, Pixels]]:
        """The images as batches of one, N x H x W x C by modality."""
        return [{m: pixels[None] for m, pixels in inputs.items()} for inputs in self.images.inputs]

    def _record(self, identity: Identity, graph: Path, engine: Path) -> Sidecar:
        sidecar = Sidecar(
            identity,
            file=engine.name,
            file_sha256=file_sha256(engine),
            file_bytes=engine.stat().st_size,
            graph_sha256=file_sha256(graph),
            verification=None,
            versions={"fcnseg": fcnseg.__version__, "torch": torch.__version__, "library": identity.library},
            built=datetime.now(UTC).isoformat(),
            build_seconds=0.0,
            model_source=str(self.recipe.path.resolve()),
            weights_source=str(find_weights(self.recipe, self.weights).resolve()),
            note="" if runs_here(identity) else f"not verified: no GPU here runs what {identity.library} built",
        )
        write_sidecar(engine, sidecar)
        return sidecar

    def _verify(self, identity: Identity, engine: Path, sidecar: Sidecar, floor: float) -> Verification:
        """Load the file from disk and compare it with the network."""
        if self._reference is None:
            self.on_progress("loading the network", 0.4)
            device = "cpu" if identity.backend == "openvino" else "cuda"
            network = self._left.enter_context(TorchEngine(self.recipe, self.weights, device))
            self._reference = Reference(network, self.recipe, self.images.inputs)
        with_probabilities = replace(sidecar, identity=replace(identity, probabilities=True))
        with (
            open_built(self.recipe, engine) as built,
            runtime(self.recipe, _twin(engine), with_probabilities) as twin,
        ):
            return verify(
                built,
                self._reference,
                identity.shapes,
                floor=floor,
                images=self.images.name,
                probabilities=twin,
                on_progress=lambda phase, part: self.on_progress(phase, 0.45 + 0.55 * part),
            )


# ---------------------------------------------------------------------- backends


def _compile_openvino(builder: Builder, identity: Identity, outputs: Mapping[Path, Sequence[str]]) -> Path:
    graph = builder.graph_file(identity)
    builder.on_progress("calibrating" if identity.precision == "int8" else "compiling", 0.3)
    compile_graph(graph, outputs, identity.precision, builder.calibration())
    return graph


def _compile_tensorrt(builder: Builder, identity: Identity, outputs: Mapping[Path, Sequence[str]]) -> Path:
    """Precision lives in the graph, so each has its own."""
    graph = _typed_graph(builder, identity)
    for number, (file, names) in enumerate(outputs.items()):
        begin, share = 0.15 + 0.25 * number / len(outputs), 0.25 / len(outputs)
        plan = build_plan(
            graph,
            identity.backend,
            identity.shapes,
            outputs=names,
            on_progress=lambda phase, part: builder.on_progress(phase.lower(), begin + share * part),  # noqa: B023
        )
        file.write_bytes(plan)
    return graph


def _typed_graph(builder: Builder, identity: Identity) -> Path:
    if identity.precision == "fp32":
        return builder.graph_file(identity)
    if identity.precision == "int8":
        return _quantized_graph(builder, identity)
    network = load_whole_network(builder.recipe, builder.weights).network
    half(network, identity.precision)
    return builder.export(network, identity.precision, identity)


def _quantized_graph(builder: Builder, identity: Identity) -> Path:
    import onnx

    network = load_whole_network(builder.recipe, builder.weights).network
    builder.on_progress("calibrating", 0.1)
    ranges = measure_ranges(LabelGraph(network, builder.recipe).eval(), builder.calibration())
    file = builder.work / "int8.onnx"
    plain = builder.export(network, "plain", identity, skip_margins=False)  # whose layers the ranges were measured at
    onnx.save(quantize(onnx.load(plain), ranges), file, save_as_external_data=True)
    return file


COMPILERS: dict[str, Callable[[Builder, Identity, Mapping[Path, Sequence[str]]], Path]] = {
    "openvino": _compile_openvino,
    "tensorrt": _compile_tensorrt,
    "tensorrt-rtx": _compile_tensorrt,
}
"""Each backend's compiler: writes files with the outputs named for each, and returns the graph they were made of."""


def runs_here(identity: Identity) -> bool:
    """Whether an engine can be run where it was built; TensorRT-RTX builds without a GPU too."""
    return identity.backend == "openvino" or torch.cuda.is_available()


def _twin(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}-twin")


def _publish(engine: Path, target: Path, sidecar: Sidecar, keep_rejected: bool) -> None:
    """Move engine and record to their place, or raise EngineError if the verification did not hold."""
    found = sidecar.verification
    if found is not None and not found.held:
        if target == engine_path(sidecar.identity):
            aside = engine_path(sidecar.identity, REJECTED)
            remove(aside)
            if keep_rejected:
                os.replace(engine, aside)
            write_sidecar(aside, sidecar)
        raise EngineError(
            f"this {sidecar.identity.precision} engine does not give the network's labels on {found.floor:.2%} of the "
            f"pixels, worst at {found.worst}; use a higher precision"
        )
    sidecar_path(target).unlink(missing_ok=True)  # an engine without a record is not trusted: never a wrong pair
    os.replace(engine, target)
    write_sidecar(target, sidecar)
    if target == engine_path(sidecar.identity):
        remove(engine_path(sidecar.identity, REJECTED))
