"""The contract of `Sink` and `Storage`, held by every kind of output."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcnseg.errors import ImageError, OutputError
from fcnseg.io.atomic import checksum
from fcnseg.io.storage import LocalFolder
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.running.picture_sinks import ColorPngSink, CutoutSink, MaskSink, OverlaySink
from fcnseg.running.sinks import LabelPngSink, NpyProbabilitySink
from fcnseg.running.volumes import LabelVolume, ProbabilityVolume
from fcnseg.running.writing import write
from fcnseg.testing import check_sink
from fcnseg.types import EngineInfo, Frame, Output, Prediction, Sink, Storage
from tests.fakes import RawSink

SPACE = LabelSpace(tuple("abcde"), tuple(voc_color(i) for i in range(5)))
INFO = EngineInfo("fake", "cpu", "fp32", "net", "abc", {"labels": SPACE}, ("color",), {"fcnseg": "1"})
TWO_HEADS = replace(INFO, heads={"labels": SPACE, "parts": SPACE})

ENCODERS: dict[str, Callable[[Storage, EngineInfo], Sink]] = {
    "label maps": LabelPngSink,
    "probabilities": NpyProbabilitySink,
    "most probable": lambda storage, info: NpyProbabilitySink(storage, info, "float32", top_k=2),
    "overlay": OverlaySink,
    "colours": ColorPngSink,
    "a mask": lambda storage, info: MaskSink(storage, info, "b"),
    "cut-outs": lambda storage, info: CutoutSink(storage, info, "b,d"),
}

KINDS: dict[str, Callable[[Path, EngineInfo], Sink]] = {
    **{
        name: lambda folder, info, encoder=encoder: encoder(LocalFolder(folder), info)  # type: ignore[misc]
        for name, encoder in ENCODERS.items()
    },
    "staged label maps": lambda folder, info: LabelVolume(folder / "m.h5", info).sink,
    "staged probabilities": lambda folder, info: ProbabilityVolume(folder / "p.h5", info, top_k=2).sink,
}


@pytest.fixture(params=[*KINDS, "fake"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Sink:
    return RawSink(tmp_path) if request.param == "fake" else KINDS[request.param](tmp_path, INFO)


def frame(stem: str = "a/b.c") -> Frame:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Frame(f"{stem}.jpg", stem, {"color": pixels})


def prediction(info: EngineInfo = INFO) -> Prediction:
    values = np.random.default_rng(1).dirichlet(np.ones(5), (20, 30)).transpose(2, 0, 1).astype(np.float32)
    labels = values.argmax(0).astype(np.uint8)
    return Prediction(dict.fromkeys(info.heads, labels), dict.fromkeys(info.heads, values))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def paths(outputs: tuple[Output, ...]) -> list[Path]:
    return sorted(Path(output.location) for output in outputs)


@pytest.mark.parametrize("kind", ENCODERS)
def test_it_keeps_to_the_contract(kind: str) -> None:
    check_sink(lambda storage, heads, argument: ENCODERS[kind](storage, replace(INFO, heads=heads)))


def test_names_are_those_of_what_is_written(sink: Sink, tmp_path: Path) -> None:
    outputs = write([sink], frame(), prediction())
    assert paths(outputs) == files(tmp_path)
    assert paths(outputs) == sorted(Path(sink.storage.root, name.of("a/b.c")) for name in sink.names)


@pytest.mark.parametrize("kind", KINDS)
def test_several_heads_have_a_file_each(kind: str, tmp_path: Path) -> None:
    sink = KINDS[kind](tmp_path, TWO_HEADS)
    outputs = write([sink], frame(), prediction(TWO_HEADS))
    assert len(outputs) == len(sink.names) == 2
    assert paths(outputs) == sorted(Path(sink.storage.root, name.of("a/b.c")) for name in sink.names)


def test_outputs_say_what_was_written(sink: Sink) -> None:
    for output in write([sink], frame(), prediction()):
        path = Path(output.location)
        assert (output.size, output.checksum) == (path.stat().st_size, checksum(path))


def test_several_threads_may_write(sink: Sink) -> None:
    with ThreadPoolExecutor(8) as threads:
        written = list(threads.map(lambda i: write([sink], frame(str(i)), prediction()), range(32)))
    assert len({output.location for outputs in written for output in outputs}) == 32 * len(sink.names)
    assert len({output.checksum for outputs in written for output in outputs}) == len(sink.names)


def test_a_name_that_is_too_long_fails_the_image(sink: Sink, tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        write([sink], frame("x" * 300), prediction())
    assert caught.value.stage == "write"
    assert files(tmp_path) == []


def test_a_storage_that_is_full_ends_the_run(sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write([sink], frame(), prediction())
    assert files(tmp_path) == []


def test_a_storage_holds_a_file_whole_or_not_at_all(tmp_path: Path) -> None:
    storage = LocalFolder(tmp_path / "made")

    def breaking() -> Iterator[bytes]:
        yield b"half"
        raise ImageError("cannot be encoded", "write")

    storage.place("a/b", [b"before"])
    with pytest.raises(ImageError):
        storage.place("a/b", breaking())
    assert [path.read_bytes() for path in files(tmp_path)] == [b"before"]
