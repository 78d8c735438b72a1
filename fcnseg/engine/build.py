"""Building an engine: network, graph, compiled file, loaded again from disk, compared with the network, published."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

import fcnseg
from fcnseg.engine.cache import REJECTED, engine_path
from fcnseg.engine.export import export_onnx
from fcnseg.engine.graph import LabelGraph
from fcnseg.engine.opening import open_built, runtime
from fcnseg.engine.openvino import compile_graph
from fcnseg.engine.pytorch import TorchEngine
from fcnseg.engine.sidecar import Identity, Sidecar, file_sha256, sidecar_path, write_sidecar
from fcnseg.engine.signature import output_names
from fcnseg.engine.verify import FLOORS, OnProgress, Reference, verify
from fcnseg.errors import EngineError, OutputError
from fcnseg.recipes import Recipe
from fcnseg.types import Pixels, Verification
from fcnseg.weights.loading import load_whole_network
from fcnseg.weights.store import find_weights

COMPARED = 8
"""How many of the images an engine is compared with the network on."""


@dataclass(frozen=True)
class Images:
    """Real images, inputs H x W x C by modality; `name` says whose."""

    inputs: Sequence[Mapping[str, Pixels]]
    name: str


class Builder:
    """Builds engines of one recipe and its weights; what several of them need is made once.

    Engines are compared with the network on the first `images`, int8 is calibrated on all of them. `work` is a folder
    for unfinished files, on the file system that the engines go to; the caller removes it.
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

    def build(self, identity: Identity, target: Path | None = None, floor: float | None = None) -> Sidecar:
        """Build the engine of that identity into the cache, or as `target`; returns its record.

        Raises EngineError, and publishes nothing, if it cannot be built or does not agree with the network on `floor`
        of the pixels (default: `verify.FLOORS`); a rejection from the cache is remembered.
        """
        start = time.monotonic()
        target = target or engine_path(identity)
        with _writing(target):
            engine = self.work / identity.key
            graph = self._graph_file(identity)
            self._compile(identity, graph, engine)
            sidecar = self._record(identity, graph, engine)
            floor = FLOORS[identity.precision] if floor is None else floor
            verification = self._verify(identity, engine, sidecar, floor)
            sidecar = replace(
                sidecar, verification=verification, build_seconds=round(time.monotonic() - start, 1), file=target.name
            )
            _publish(engine, target, sidecar)
            _twin(engine).unlink()
        return sidecar

    def _graph_file(self, identity: Identity) -> Path:
        """The exported fp32 graph with probabilities; exported once."""
        if self._exported is None:
            self.on_progress("exporting the graph", 0.05)
            network = load_whole_network(self.recipe, self.weights).network
            self._exported = self.work / "graph.onnx"
            graph = LabelGraph(network, self.recipe, "float32").eval()
            export_onnx(graph, self._exported, weights_sha256=identity.weights, separate_weights=True)
        return self._exported

    def _compile(self, identity: Identity, graph: Path, engine: Path) -> None:
        """Write the engine, and its twin, the same with probabilities."""
        self.on_progress("calibrating" if identity.precision == "int8" else "compiling", 0.3)
        labels, everything = output_names(self.recipe), output_names(self.recipe, True)
        compile_graph(
            graph,
            {engine: everything if identity.probabilities else labels, _twin(engine): everything},
            identity.precision,
            [{m: pixels[None] for m, pixels in inputs.items()} for inputs in self.images.inputs],
        )

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
        )
        write_sidecar(engine, sidecar)
        return sidecar

    def _verify(self, identity: Identity, engine: Path, sidecar: Sidecar, floor: float) -> Verification:
        """Load the file from disk and compare it with the network."""
        if self._reference is None:
            self.on_progress("loading the network", 0.4)
            network = self._left.enter_context(TorchEngine(self.recipe, self.weights, "cpu"))
            self._reference = Reference(network, self.recipe, self.images.inputs[:COMPARED])
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


def _twin(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}-twin")


def _publish(engine: Path, target: Path, sidecar: Sidecar) -> None:
    """Move engine and record to their place, or raise EngineError if the verification did not hold."""
    found = sidecar.verification
    if found is not None and not found.held:
        if target == engine_path(sidecar.identity):
            write_sidecar(engine_path(sidecar.identity, REJECTED), sidecar)
        raise EngineError(
            f"this {sidecar.identity.precision} engine does not give the network's labels on {found.floor:.2%} of the "
            f"pixels, worst at {found.worst}; use a higher precision"
        )
    sidecar_path(target).unlink(missing_ok=True)  # an engine without a record is not trusted: never a wrong pair
    os.replace(engine, target)
    write_sidecar(target, sidecar)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """The folder of an engine, made as needed; what the system refuses is an OutputError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror}; free space there, or set FCNSEG_HOME to another folder"
        ) from error
