import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import OutputError
from fcnseg.stream.pipeline import process
from fcnseg.stream.sources import FileSource, open_source
from fcnseg.types import Failure
from tests.fakes import MemorySink, RedEngine


@pytest.fixture
def photos(tmp_path: Path) -> FileSource:
    """20 images of several sizes, every fifth broken."""
    rng = np.random.default_rng(0)
    for i in range(20):
        path = tmp_path / f"{i:02d}.png"
        Image.fromarray(rng.integers(0, 256, (3 + i % 4, 5 + i % 3, 3), dtype=np.uint8)).save(path)
        if i % 5 == 4:
            path.write_bytes(path.read_bytes()[:40])
    return open_source(tmp_path)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_every_input_ends_done_or_as_a_record(photos: FileSource, workers: int) -> None:
    sink, heard = MemorySink(), []
    summary = process(photos, RedEngine(), [sink], workers=workers, on_result=lambda k, f: heard.append((k, f)))
    broken = [f"{i:02d}.png" for i in (4, 9, 14, 19)]
    assert summary.total == 20
    assert summary.done == 16
    assert [f.key for f in summary.failures] == broken
    assert all(f.stage == "load" and f.reason for f in summary.failures)
    assert summary.exit_code == 3
    assert sorted(k for k, _ in heard) == sorted(photos.keys)
    assert set(sink.found) == set(photos.keys) - set(broken)
    for key, prediction in sink.found.items():
        assert np.array_equal(prediction.labels["labels"], np.asarray(Image.open(photos.keys[key]))[..., 0] >> 6)
    assert sink.closed


def test_a_folder_that_could_not_be_listed_fails_the_run(photos: FileSource) -> None:
    source = FileSource({"00.png": photos.keys["00.png"]}, unlisted={"lost+found/": "why"})
    summary = process(source, RedEngine(), [MemorySink()])
    assert (summary.done, summary.failures) == (1, [Failure("lost+found/", "list", "why")])
    assert summary.exit_code == 3


def test_probabilities_come_only_when_asked_for(photos: FileSource) -> None:
    sink = MemorySink()
    process(photos, RedEngine(), [sink])
    assert sink.found["00.png"].probabilities is None
    process(photos, RedEngine(), [sink], probabilities=True)
    prediction = sink.found["00.png"]
    assert prediction.probabilities is not None
    assert np.array_equal(prediction.probabilities["labels"].argmax(0), prediction.labels["labels"])


def test_an_image_the_engine_refuses_is_a_record(photos: FileSource) -> None:
    summary = process(photos, RedEngine(widest_px=6), [MemorySink()])
    refused = [f for f in summary.failures if f.stage == "predict"]
    assert refused
    assert all(f.reason == "too wide" for f in refused)
    assert summary.done + len(summary.failures) == 20


def test_a_name_that_cannot_be_written_is_a_record(photos: FileSource) -> None:
    sink = MemorySink({"03.png": OSError(errno.ENAMETOOLONG, "File name too long")})
    summary = process(photos, RedEngine(), [sink])
    assert Failure("03.png", "write", "File name too long") in summary.failures
    assert summary.done == 15


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_an_output_that_is_at_fault_ends_the_run_with_one_line(photos: FileSource, number: int) -> None:
    engine = RedEngine()
    with pytest.raises(OutputError, match=r"run the same command again") as caught:
        process(photos, engine, [MemorySink({"02.png": OSError(number, "no more")})])
    assert "\n" not in str(caught.value)
    assert len(engine.seen) < 16


def test_ctrl_c_keeps_what_is_whole(photos: FileSource) -> None:
    class Interrupted(RedEngine):
        def infer(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def, override]
            if len(self.seen) == 3:
                raise KeyboardInterrupt
            return super().infer(*args, **kwargs)  # type: ignore[arg-type]

    sink = MemorySink()
    summary = process(photos, Interrupted(), [sink])
    assert summary.interrupted
    assert summary.exit_code == 130
    assert summary.done == len(sink.found) == 3


def test_an_engine_that_breaks_is_not_swallowed(photos: FileSource) -> None:
    class Broken(RedEngine):
        def infer(self, inputs: object, probabilities: bool = False):  # type: ignore[no-untyped-def, override]
            raise RuntimeError(f"lost the device: {type(inputs)} {probabilities}")

    with pytest.raises(RuntimeError, match="lost the device"):
        process(photos, Broken(), [MemorySink()])
