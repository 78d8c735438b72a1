"""Cached engines that answer a request, and the reasons why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fcnseg.engine.cache import FAILED, REJECTED, engine_path, usable_engines
from fcnseg.engine.identity import EngineIdentity
from fcnseg.engine.record import EngineRecord, read_record, read_trusted_record
from fcnseg.engine.request import EngineRequest
from fcnseg.engine.verify import meets
from fcnseg.errors import EngineError
from fcnseg.io.atomic import whole_file
from fcnseg.types import Verification


def find_recorded(request: EngineRequest, *, require_verified: bool = True) -> Path | None:
    """Find an engine whose record says that it may be used; its bytes are not checked."""
    return next((p for p, r in _fitting(request) if not require_verified or _is_verified(r, request)), None)


def find_engine(request: EngineRequest, *, require_verified: bool = True) -> Path | None:
    """Find an engine whose bytes are those that were built; unless `require_verified`, also one that was rejected."""
    path = find_recorded(request, require_verified=require_verified)
    rejected = None if require_verified else engine_path(request.identity, REJECTED)
    return next((p for p in (path, rejected) if p and _is_intact(p)), None)


def rejection(request: EngineRequest) -> str:
    """Say how an earlier build failed its verification, if that counts at the required agreement too; else ""."""
    verification = rejected(request.identity)
    if verification is None or verification.min_agreement > request.required_agreement:
        return ""
    return (
        f"an earlier build of {request.recipe.name} in {request.precision} did not give the network's labels, "
        f"worst at {verification.worst}"
    )


def failure(request: EngineRequest) -> str:
    """Say why an earlier build gave no engine; "" if there was none, or if it might now."""
    if reason := rejection(request):
        return reason
    return "" if rejected(request.identity) else recorded_failure(request.identity)


def rejected(identity: EngineIdentity) -> Verification | None:
    """Return the verification that an earlier build of that identity failed."""
    with suppress(EngineError):
        return read_record(engine_path(identity, REJECTED)).verification
    return None


def recorded_failure(identity: EngineIdentity) -> str:
    """Return the reason why that engine could not be built; "" if none is recorded."""
    with suppress(OSError):
        return engine_path(identity, FAILED).read_text(encoding="utf-8", errors="replace")
    return ""


def record_failure(identity: EngineIdentity, reason: str) -> None:
    """Record why an engine could not be built, until one is; a cache that cannot be written keeps none."""
    with suppress(OSError), whole_file(engine_path(identity, FAILED)) as file:
        file.write(reason.encode("utf-8", "replace"))


def reason_to_build(identity: EngineIdentity) -> str:
    """Say why no cached engine can be used, in terms of the nearest one."""
    path = engine_path(identity)
    if path.is_file():
        try:
            verification = read_trusted_record(path).verification
        except EngineError as error:
            return str(error).partition(";")[0]
        if verification is None:
            return "asked for"
        if not verification.passed:
            return "the kept one did not give the network's labels when it was last compared"
        return f"the kept one was only verified on {verification.min_agreement:.2%} of the pixels"
    variants = [
        record.identity
        for _, record in usable_engines(identity.model)
        if (record.identity.backend, record.identity.precision) == (identity.backend, identity.precision)
        and record.identity.probabilities == identity.probabilities
    ]
    if not variants:
        return "first use"
    nearest = min(reversed(variants), key=lambda other: len(identity.differences(other)))
    return "changed: " + ", ".join(identity.differences(nearest))


def _fitting(request: EngineRequest) -> Iterator[tuple[Path, EngineRecord]]:
    """List the engine of that identity, then those for other sizes or calibrations where any will do, newest first."""
    identity = request.identity
    exact = engine_path(identity)
    with suppress(EngineError):
        record = read_record(exact)
        if exact.is_file():
            yield exact, record
    if request.shapes and request.calibration:
        return
    for path, record in reversed(usable_engines(identity.model)):
        alike = replace(
            record.identity,
            shapes=record.identity.shapes if request.shapes else identity.shapes,
            calibration=record.identity.calibration if request.calibration else identity.calibration,
        )
        if alike == identity and path != exact:
            yield path, record


def _is_verified(record: EngineRecord, request: EngineRequest) -> bool:
    return meets(record.verification, request.required_agreement)


def _is_intact(path: Path) -> bool:
    with suppress(EngineError):
        read_trusted_record(path)
        return True
    return False
