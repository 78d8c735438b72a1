"""The cache of engines and its locks."""

from __future__ import annotations

import os
import threading

import pytest

from fcnseg.engine import cache
from tests.conftest import TinyModel
from tests.engine.tiny_engines import request_for, wait_for


@pytest.mark.usefixtures("own_home")
def test_who_waits_for_another_process_is_told(coarse: TinyModel) -> None:
    identity = request_for(coarse).identity
    notes: list[str] = []
    waiting = threading.Thread(target=lambda: cache.building([identity], notes.append).__enter__())
    with cache.building([identity], notes.append):
        waiting.start()
        wait_for(lambda: notes)
    waiting.join()
    assert len(notes) == 1
    assert f"waiting for process {os.getpid()} on this host since " in notes[0]
    assert f"it builds this engine; `kill {os.getpid()}` ends it" in notes[0]
