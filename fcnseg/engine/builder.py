"""Build engines: network, graph, compiled file, loaded again from disk, verified, published. Runs in a subprocess."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fcnseg
from fcnseg import errors
from fcnseg.engine.cache import REJECTED, engine_path, remove, writing
from fcnseg.engine.calibration import SampleImages, sample_images
from fcnseg.engine.graph import PLAIN, write_graph
from fcnseg.engine.identity import EngineIdentity, runs_here
from fcnseg.engine.load import load_engine
from fcnseg.engine.record import EngineRecord, kernel_file, record_path, write_record
from fcnseg.engine.reference import OnProgress, ReferenceLabels
from fcnseg.engine.request import EngineRequest
from fcnseg.engine.runtimes import RUNTIMES
from fcnseg.engine.runtimes.common import Compiled, output_names
from fcnseg.engine.runtimes.onnx_runtime import ReferenceEngine
from fcnseg.engine.verify import verify
from fcnseg.errors import DeviceError, EngineError, FcnsegError, is_out_of_memory
from fcnseg.io.hashing import file_sha256
from fcnseg.recipes import Recipe
from fcnseg.types import Engine, Pixels, Verification
from fcnseg.weights.loading import LoadedWeights, load_whole_model
from fcnseg.weights.store import find_weights
from fcnseg.weights.tensors import Array
from fcnseg.workers.json_job import Tell, begin_job


def main() -> None:
    """Do one job of `build`: tell progress, the outcome of each precision, or an error that concerns all of them."""
    job, tell = begin_job()
    try:
        _build_all(job, tell)
    except FcnsegError as error:
        name = next(c.__name__ for c in type(error).__mro__ if c.__module__ == errors.__name__)
        tell({"error": name, "message": str(error)})


def _build_all(job: dict[str, Any], tell: Tell) -> None:
    requests = [EngineRequest.from_json(entry) for entry in job["requests"]]
    out, first = job["out"] and Path(job["out"]), requests[0]
    number = 0

    def on_progress(phase: str, fraction: float) -> None:
        name = f"{phase} {requests[number].precision}" if len(requests) > 1 else phase
        tell({"phase": name, "fraction": (number + fraction) / len(requests)})

    RUNTIMES[first.backend].check_machine()
    images = sample_images(first.recipe, first.calibration)
    builder = Builder(first.recipe, first.weights, images, Path(job["work"]), on_progress)
    for number, request in enumerate(requests):  # noqa: B007 - `on_progress` reads it
        outcome, lasting = "", False
        try:
            builder.build(request, out, keep_rejected=job["keep_rejected"])
        except EngineError as error:
            outcome, lasting = str(error), not (isinstance(error, DeviceError) or is_out_of_memory(error))
        tell({"precision": request.precision, "outcome": outcome, "lasting": lasting})


class Builder:
    """Builds engines of one recipe and its weights; whatever several of them need is made once.

    Engines are verified on some of the `images`, int8 is calibrated on all of them. `work` is a folder for unfinished
    files, on the file system that the engines go to; the caller removes it.
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: Path | None,
        images: SampleImages,
        work: Path,
        on_progress: OnProgress = lambda phase, fraction: None,
    ) -> None:
        self.recipe, self.images, self.work, self.on_progress = recipe, images, work, on_progress
        self._weights_file = weights
        self._weights: LoadedWeights | None = None
        self._reference: ReferenceLabels | None = None

    def build(self, request: EngineRequest, out: Path | None = None, *, keep_rejected: bool = False) -> EngineRecord:
        """Build the engine of a request into the cache, or as `out`; returns its record.

        Raises EngineError, and publishes nothing, if it cannot be built or does not agree with the network on the
        required share of the pixels; a rejection from the cache is remembered, and `keep_rejected` keeps the engine
        with its record, where only measurements look for it.
        """
        start = time.monotonic()
        identity = request.identity
        target = out or engine_path(identity)
        with writing(target):
            engine = self.work / identity.key
            outputs = {engine: output_names(self.recipe, identity.probabilities)}
            compiled = RUNTIMES[identity.backend].load_compiler()(self, identity, outputs)
            record = self._record(identity, compiled, engine)
            if runs_here(identity.backend):
                record = replace(record, verification=self._verify(engine, identity, request.required_agreement))
            record = replace(record, build_seconds=round(time.monotonic() - start, 1), file=target.name)
            _publish(engine, target, record, keep_rejected)
        return record

    def weights(self) -> Mapping[str, Array]:
        """Return the float32 tensors of the network by name."""
        return self._loaded().tensors

    def plain_graph_file(self) -> Path:
        """Return the plain fp32 graph with probabilities, which engines are held against."""
        return self.write("plain", form=PLAIN)

    def write(self, name: str, **options: Any) -> Path:
        """Write a graph with probabilities to a file in the folder for unfinished ones, once for each name."""
        file = self.work / f"{name}.onnx"
        if not file.exists():
            self.on_progress("writing the graph", 0.05)
            loaded = self._loaded()
            settings = {
                "weights": loaded.tensors,
                "probabilities": "float32",
                "weights_sha256": loaded.sha256,
                **options,
            }
            write_graph(file, self.recipe, separate_weights=True, **settings)
        return file

    def calibration(self) -> list[Mapping[str, Pixels]]:
        """Return the images as batches of one, N x H x W x C by modality."""
        return [{m: pixels[None] for m, pixels in inputs.items()} for inputs in self.images.inputs]

    def _loaded(self) -> LoadedWeights:
        if self._weights is None:
            self._weights = load_whole_model(self.recipe, self._weights_file)
        return self._weights

    def _record(self, identity: EngineIdentity, compiled: Compiled, engine: Path) -> EngineRecord:
        record = EngineRecord(
            identity,
            file=engine.name,
            file_sha256=file_sha256(engine),
            file_bytes=engine.stat().st_size,
            graph_sha256=file_sha256(compiled.graph),
            verification=None,
            versions={"fcnseg": fcnseg.__version__, "library": identity.library, **compiled.choices},
            built=datetime.now(UTC).isoformat(),
            build_seconds=0.0,
            model_source=str(self.recipe.path.resolve()),
            weights_source=str(find_weights(self.recipe, self._weights_file).resolve()),
            note="" if runs_here(identity.backend) else f"not verified: no GPU here runs what {identity.library} built",
        )
        write_record(engine, record)
        return record

    def _network(self, device: str) -> Engine:
        """Return the fp32 network that engines are compared with: on GPUs torch's, which is there to run them."""
        if device == "cpu":
            return ReferenceEngine(self.recipe, self.plain_graph_file())
        from fcnseg.engine.runtimes.pytorch import TorchEngine

        return TorchEngine(self.recipe, self._weights_file, device)

    def _verify(self, engine: Path, identity: EngineIdentity, min_agreement: float) -> Verification:
        """Load the engine from disk and compare it with the network."""
        runtime = RUNTIMES[identity.backend]
        begin = 0.45
        if self._reference is None:
            self.on_progress("loading the network", 0.4)
            begin = 0.7
            with self._network(runtime.device) as network:
                self._reference = ReferenceLabels(self.recipe, self.images.inputs).compute(
                    network,
                    identity.shapes,
                    fixed_sizes=runtime.fixed_sizes,
                    probabilities=identity.probabilities,
                    on_progress=lambda phase, fraction: self.on_progress(phase, 0.45 + 0.25 * fraction),
                )
        with load_engine(self.recipe, engine) as built:
            return verify(
                built,
                self._reference,
                identity.shapes,
                min_agreement=min_agreement,
                images=self.images.name,
                fixed_sizes=runtime.fixed_sizes,
                probabilities=identity.probabilities,
                on_progress=lambda phase, fraction: self.on_progress(phase, begin + (1 - begin) * fraction),
            )


def _publish(engine: Path, target: Path, record: EngineRecord, keep_rejected: bool) -> None:
    """Move engine and record to their place, or raise EngineError if the verification did not pass."""
    verification = record.verification
    rejected = engine_path(record.identity, REJECTED) if target == engine_path(record.identity) else None
    if verification is not None and not verification.passed:
        if rejected:
            remove(rejected)
            if keep_rejected:
                os.replace(engine, rejected)
            write_record(rejected, record)
        raise EngineError(
            f"this {record.identity.precision} engine does not give the network's labels on "
            f"{verification.min_agreement:.2%} of the pixels, worst at {verification.worst}; use a higher precision"
        )
    record_path(target).unlink(missing_ok=True)  # an engine without a record is not trusted: never a wrong pair
    os.replace(engine, target)
    kernel_file(target).unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        os.replace(kernel_file(engine), kernel_file(target))
    write_record(target, record)
    if rejected:
        remove(rejected)
