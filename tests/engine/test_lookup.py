"""Cached engines that answer a request, and those that do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fcnseg.engine import cache, lookup
from fcnseg.engine.build import ensure_engine
from fcnseg.engine.lookup import find_recorded
from fcnseg.engine.options import BuildHooks
from tests.conftest import TinyModel
from tests.engine.tiny_engines import keep, request_for


@pytest.mark.usefixtures("own_home")
def test_an_engine_that_was_held_to_less_is_not_taken(coarse: TinyModel) -> None:
    request = request_for(coarse, "bf16")
    path = keep(request.identity, 0.1, min_agreement=0.0, agreement=0.95)
    assert find_recorded(request) is None
    assert lookup.reason_to_build(request.identity) == "the kept one was only verified on 0.00% of the pixels"
    assert ensure_engine(replace(request, min_agreement=0.0), BuildHooks()) == path
    assert ensure_engine(request, BuildHooks(), require_verified=False) == path
    keep(request.identity, 0.1, min_agreement=0.0)
    assert find_recorded(request) == path, "no pixel differed"
    keep(request.identity, 0.1, min_agreement=0.995, agreement=0.996)
    assert find_recorded(request) == path


@pytest.mark.usefixtures("own_home")
def test_a_rejection_counts_for_its_floor_and_higher_ones(coarse: TinyModel) -> None:
    request = request_for(coarse, "bf16")
    keep(request.identity, 0.1, passed=False, min_agreement=0.99)
    for min_agreement in (None, 0.99, 0.999):
        assert lookup.rejection(replace(request, min_agreement=min_agreement))
    for min_agreement in (0.0, 0.98):
        assert not lookup.rejection(replace(request, min_agreement=min_agreement))


@pytest.mark.usefixtures("own_home")
def test_a_damaged_engine_in_the_cache_is_built_again_and_says_so(coarse: TinyModel) -> None:
    identity = request_for(coarse).identity
    keep(identity, 0.1).write_bytes(b"1234")
    assert "4 bytes instead of the recorded 8" in lookup.reason_to_build(identity)
    cache.engine_path(replace(identity, library="openvino 8"), ".engine").mkdir()
    other = replace(identity, weights="f" * 64, library="openvino 9")
    assert lookup.reason_to_build(other) == (
        f"changed: weights ({identity.weights[:8]} -> ffffffff), library ({identity.library} -> openvino 9)"
    )
