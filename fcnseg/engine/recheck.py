"""Verify a built engine again, as `fcnseg engines verify` does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fcnseg.engine.cache import writing
from fcnseg.engine.calibration import sample_images
from fcnseg.engine.identity import runs_here
from fcnseg.engine.load import load_engine, model_of
from fcnseg.engine.options import PRECISIONS, BuildHooks
from fcnseg.engine.record import EngineRecord, read_trusted_record, write_record
from fcnseg.engine.reference import ReferenceLabels
from fcnseg.engine.runtimes import RUNTIMES
from fcnseg.engine.runtimes.onnx_runtime import reference_engine
from fcnseg.engine.verify import verify
from fcnseg.errors import EngineError
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.types import Engine
from fcnseg.weights.hashing import weights_sha256


def verify_engine(file: Path, hooks: BuildHooks | None = None) -> EngineRecord:
    """Check an engine's file, compare it again with the network it was built from, and record the result.

    Returns the new record, whose `verification` is None (and `note` says why) where no device here runs the engine.

    Raises EngineError if anything is wrong, and the errors of reading the recipe and the weights.

    >>> import fcnseg
    >>> engine = fcnseg.build_engine("street-fcn8s", precision="fp32", min_shape="64x64", max_shape="500x375")
    >>> fcnseg.verify_engine(engine.path).verification.passed
    True
    """
    hooks = hooks or BuildHooks()
    record = read_trusted_record(file)
    identity, before = record.identity, record.verification
    if not runs_here(identity.backend):
        return replace(record, verification=None, note=f"not verifiable here: {identity.backend} needs an NVIDIA GPU")
    recipe, weights = find_recipe(model_of(file)), Path(record.weights_source)
    if weights_sha256(weights) != identity.weights:
        raise EngineError(f"the weights it was built from have changed since ({weights}); build it again")
    images = sample_images(recipe)
    runtime = RUNTIMES[identity.backend]
    ranges = {"fixed_sizes": runtime.fixed_sizes, "probabilities": identity.probabilities}
    reference = ReferenceLabels(recipe, images.inputs)
    with _network(recipe, weights, runtime.device) as network:
        reference.compute(network, identity.shapes, on_progress=hooks.on_progress, **ranges)
    with load_engine(recipe, file, require_verified=False) as engine:
        verification = verify(
            engine,
            reference,
            identity.shapes,
            min_agreement=before.min_agreement if before else PRECISIONS[identity.precision].min_agreement,
            images=images.name,
            on_progress=hooks.on_progress,
            **ranges,
        )
    record = replace(record, verification=verification)
    with writing(file):
        write_record(file, record)
    if not verification.passed:
        raise EngineError(
            f"it does not give the network's labels on {verification.min_agreement:.2%} of the pixels: "
            f"{verification.worst}"
        )
    return record


def _network(recipe: Recipe, weights: Path, device: str) -> Engine:
    if device == "cpu":
        return reference_engine(recipe, weights)
    from fcnseg.engine.runtimes.pytorch import TorchEngine

    return TorchEngine(recipe, weights, device)
