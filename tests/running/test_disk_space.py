from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnseg.io.storage import LocalFolder
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.running import disk_space
from fcnseg.running.disk_space import SAMPLE, EvenSample, bytes_text, least_bytes, shortages
from fcnseg.running.options import RunOptions
from fcnseg.running.output_kinds import KINDS
from fcnseg.running.outputs import OutputPlace
from fcnseg.running.writing import write
from fcnseg.types import EngineInfo, Frame, Prediction, Reference

SPACE = LabelSpace(tuple("abcde"), tuple(voc_color(i) for i in range(5)))
INFO = EngineInfo("fake", "cpu", "fp32", "net", "", {"labels": SPACE}, ("color",), {})


@given(st.integers(1, 5000))
def test_a_sample_is_evenly_spaced_and_small(count: int) -> None:
    sample = EvenSample()
    for i in range(count):
        sample.add(Reference(str(i), str(i), "", None))
    places = [int(reference.key) for reference in sample.references]
    step = places[1] - places[0] if len(places) > 1 else 1
    assert places == list(range(0, count, step))
    assert min(count, SAMPLE) <= len(places) < 2 * SAMPLE


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("kind", [*KINDS, "float32", "best"])
def test_no_outputs_are_smaller_than_the_least(tmp_path: Path, kind: str, heads: int) -> None:
    info = replace(INFO, heads={f"head{i}": SPACE for i in range(heads)})
    options = RunOptions("photos", tmp_path, mask=("a,b", tmp_path), cutout=("a", tmp_path))
    if kind in ("float32", "best"):
        options = replace(options, probabilities_dtype="float32", top_k=2 if kind == "best" else None)
        kind = "probabilities"
    height, width = 500, 700
    frame = Frame("a.jpg", "a", {"color": np.zeros((height, width, 3), np.uint8)})
    labels = np.zeros((height, width), np.uint8)
    values = np.zeros((5, height, width), np.float32)
    prediction = Prediction(dict.fromkeys(info.heads, labels), dict.fromkeys(info.heads, values))
    sink = KINDS[kind].sink(LocalFolder(tmp_path), info, options)
    size = sum(output.size for output in write([sink], frame, prediction))
    assert 0.1 * size < least_bytes(OutputPlace(kind, tmp_path, options), info.heads, (height, width)) <= size


def test_what_shares_a_file_system_is_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    places = [
        OutputPlace("probabilities", tmp_path / "a/b", RunOptions("photos", "out")),
        OutputPlace("probabilities", tmp_path / "c", RunOptions("photos", "out", probabilities_dtype="float32")),
    ]
    sizes = [(10, 10), (10, 30)]  # 5 classes of 2 and 4 bytes: 3 kB and 9 kB, 6 kB on average
    found = {}
    for free in (59_999, 29_999, 60_000):
        monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda path, free=free: usage(10**9, 0, free))
        found[free] = shortages(places, INFO.heads, sizes, 10)
    (likely,), (sure,) = found[59_999], found[29_999]
    assert (likely.sure, sure.sure, found[60_000]) == (False, True, [])
    assert str(likely) == f"10 images will take about 60 kB in {tmp_path}/a/b and {tmp_path}/c, where 60 kB are free"
    assert "at least 30 kB" in str(sure)


def test_bytes_are_written_with_their_unit() -> None:
    assert [bytes_text(size) for size in (7, 999.9, 2.5e9, 7e12, 7e15)] == ["7 B", "1 kB", "2.5 GB", "7 TB", "7,000 TB"]
