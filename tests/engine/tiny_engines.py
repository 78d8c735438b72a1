"""Small engines for tests: requests, builds in this process, and records without an engine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fcnseg.engine import cache
from fcnseg.engine.builder import Builder
from fcnseg.engine.calibration import calibration_files, sample_images
from fcnseg.engine.identity import EngineIdentity
from fcnseg.engine.load import load_engine
from fcnseg.engine.record import EngineRecord, write_record
from fcnseg.engine.request import EngineRequest
from fcnseg.errors import EngineError
from fcnseg.io.atomic import PART
from fcnseg.io.hashing import file_sha256
from fcnseg.recipes import Shapes, load_recipe
from fcnseg.types import Verification
from tests.conftest import TinyModel

SMALL = (Shapes((1, 1), (60, 80), (70, 90), 2),)
"""A range of sizes that is quickly compared."""


def request_for(
    tiny: TinyModel, precision: str = "fp32", calibrate: Mapping[str, Path] | None = None, **more: Any
) -> EngineRequest:
    """A request for a small OpenVINO engine of a small network."""
    images = calibration_files(load_recipe(tiny.recipe), calibrate or {})
    return EngineRequest(str(tiny.recipe), tiny.weights, "openvino", precision, SMALL, calibration=images, **more)


def build_here(
    tiny: TinyModel, precision: str, out: Path, *, images: Path | None = None, min_agreement: float = 0.5
) -> Path:
    """Build in this process, which has the exporter loaded."""
    calibrate = {"color": images} if images else None
    request = request_for(tiny, precision, calibrate, min_agreement=min_agreement)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.parent / f"{PART}work-{precision}"
    work.mkdir(exist_ok=True)
    Builder(request.recipe, tiny.weights, sample_images(request.recipe, request.calibration), work).build(request, out)
    return out


def keep(
    identity: EngineIdentity,
    seconds: float,
    *,
    passed: bool = True,
    min_agreement: float = 0.99,
    agreement: float = 1.0,
) -> Path:
    """A record in the cache, with an engine file of eight bytes."""
    path = cache.engine_path(identity, cache.SUFFIX if passed else cache.REJECTED)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345678")
    found = Verification(passed, min_agreement, agreement, "nowhere", None, ("1 x 1, batch 1",), "images", seconds)
    write_record(path, EngineRecord(identity, path.name, file_sha256(path), 8, "", found, {}, "2026", 1.0, "", ""))
    if not passed:
        path.unlink()
    return path


def unfinished(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if PART in p.name or p.suffix == ".lock"]


def refused(coarse: TinyModel, file: Path, says: str) -> None:
    with pytest.raises(EngineError, match=says) as caught:
        load_engine(load_recipe(coarse.recipe), file).__enter__()
    assert "\n" not in str(caught.value)
    assert "fcnseg build-engine" in str(caught.value)


def wait_for(what: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)
