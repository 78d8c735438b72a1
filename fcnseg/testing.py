"""Checks for tests of other packages: does a source, a sink or an engine keep to its protocol?

    def test_my_source(tmp_path):
        fcnseg.testing.check_source(lambda: TileSource(str(tmp_path)))

Each raises AssertionError that says what is not as it must be. The ones of fcnseg itself are held to the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace

import numpy as np

from fcnseg.errors import EngineError, ImageError
from fcnseg.io.plugin_source import FORMS, is_inside
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.plugins import MakeSink
from fcnseg.types import Engine, Failure, Frame, Output, Pixels, Prediction, Reference, Sink, Source

SPACE = LabelSpace(tuple("abcde"), tuple(voc_color(i) for i in range(5)))
THREADS = 8


def _expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


@contextmanager
def _raises(kind: type[Exception], otherwise: str) -> Iterator[None]:
    try:
        yield
    except kind:
        return
    raise AssertionError(otherwise)


# ---------------------------------------------------------------------- sources


def check_source(make: Callable[[], Source]) -> None:
    """Check what `make` opens, twice: a source of one image or more, none of them damaged."""
    with closing(make()) as source:
        _expect(isinstance(source, Source), f"{type(source).__name__} lacks a method of fcnseg.Source")
        listed = _references(source)
        _expect(listed == _references(source), "listing again gives something else")
        frames = [_loaded(source, reference) for reference in listed]
        before = [source.fingerprint(reference) for reference in listed]
        _expect(all(isinstance(text, str) and text for text in before), "a fingerprint is no text, or empty")
        _expect(before == [source.fingerprint(each) for each in listed], "a fingerprint changes though no image did")
        with ThreadPoolExecutor(THREADS) as threads:
            again = list(threads.map(source.load, listed * 4))
        _expect(all(map(_same_pixels, frames * 4, again)), "images loaded in several threads have other pixels")
    stored = [replace(each, location=json.loads(json.dumps(each.location))) for each in listed]
    with closing(make()) as fresh:
        loaded = [fresh.load(reference) for reference in stored]
    _expect(all(map(_same_pixels, frames, loaded)), "locations that went through JSON give other pixels")


def _references(source: Source) -> list[Reference]:
    listed = list(source)
    failures = [each for each in listed if isinstance(each, Failure)]
    _expect(not failures, f"it lists failures, the first of them {failures[:1]}")
    references = sorted((each for each in listed if isinstance(each, Reference)), key=lambda each: each.key)
    _expect(references and len(references) == len(listed), "it lists no images, or other things than references")
    _expect(len({each.key for each in references}) == len(references), "it lists one key twice")
    _expect(len({each.stem for each in references}) == len(references), "it lists one stem twice")
    for reference in references:
        _expect(is_inside(reference.stem), f"the stem {reference.stem!r} leads out of the output folder")
    return references


def _loaded(source: Source, reference: Reference) -> Frame:
    reserved: list[int] = []
    frame = source.load(reference, reserved.append)
    _expect(len(reserved) == 1, f"loading an image reserves memory {len(reserved)} times; it must once")
    _expect(reserved[0] >= frame.nbytes, "less memory is reserved than the pixels take")
    _expect((frame.key, frame.stem) == (reference.key, reference.stem), "a frame has not its reference's key and stem")
    for name, pixels in frame.inputs.items():
        dtype, channels = FORMS[name]
        right = pixels.dtype == dtype and pixels.ndim == 3 and pixels.shape[2] == channels
        _expect(right, f"{name} is {pixels.dtype} {pixels.shape}; it must be {dtype} H x W x {channels}")
        _expect(pixels.flags.c_contiguous, f"{name} does not lie in memory row by row (np.ascontiguousarray)")
    _expect(len({pixels.shape[:2] for pixels in frame.inputs.values()}) == 1, "modalities are of several sizes")
    return frame


def _same_pixels(one: Frame, other: Frame) -> bool:
    return one.inputs.keys() == other.inputs.keys() and all(
        np.array_equal(pixels, other.inputs[name]) for name, pixels in one.inputs.items()
    )


# ---------------------------------------------------------------------- sinks


class CountingStorage:
    """A storage that keeps nothing, and counts what is placed."""

    root = "nowhere"

    def __init__(self) -> None:
        self.placed = 0

    def place(self, name: str, content: Iterable[bytes | memoryview]) -> Output:
        """Count a file."""
        self.placed += 1
        return Output(name, sum(len(part) for part in content), "")

    def flush(self) -> None:
        """Have nothing to make durable."""


def check_sink(make: MakeSink, argument: str = "") -> None:
    """Check the sinks that `make` makes, of one head and of two, with images of several sizes and probabilities."""
    for heads in ({"labels": SPACE}, {"labels": SPACE, "parts": SPACE}):
        storage = CountingStorage()
        sink = make(storage, heads, argument)
        _expect(isinstance(sink, Sink), f"{type(sink).__name__} lacks a member of fcnseg.Sink")
        _expect(sink.storage is storage, "its storage is another than it was given")
        _expect(len(set(sink.names)) == len(sink.names), "two of its names are the same")
        for size in ((20, 30), (1, 1), (7, 300)):
            _check_encoding(sink, heads, size)
        _expect(not storage.placed, "it places files itself; only fcnseg does")


def _check_encoding(sink: Sink, heads: Mapping[str, LabelSpace], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.ones(SPACE.classes), size).transpose(2, 0, 1).astype(np.float32)
    labels = values.argmax(0).astype(np.uint8)
    prediction = Prediction(dict.fromkeys(heads, labels), dict.fromkeys(heads, values))
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    frames = [Frame(f"{stem}.jpg", stem, {"color": pixels}) for stem in ("a", "b/c.d")]
    for array in (labels, values, pixels):
        array.flags.writeable = False
    for frame in frames:
        first = _encoded(sink, frame, prediction)
        expected = sorted(name.of(frame.stem) for name in sink.names)
        _expect(sorted(first) == expected, f"it encodes the files {sorted(first)}, and its names are {expected}")
        _expect(all(map(is_inside, first)), "a name leads out of the storage")
        _expect(_encoded(sink, frame, prediction) == first, "the same prediction gives other bytes")
        with ThreadPoolExecutor(THREADS) as threads:
            together = list(threads.map(lambda one: _encoded(sink, one, prediction), [frame] * THREADS))
        _expect(all(each == first for each in together), "several threads at once give other bytes")


def _encoded(sink: Sink, frame: Frame, prediction: Prediction) -> dict[str, bytes]:
    return {name: b"".join(map(bytes, content)) for name, content in sink.encode(frame, prediction)}


# ---------------------------------------------------------------------- engines


def check_engine(make: Callable[[], Engine], size: tuple[int, int] = (30, 40)) -> None:
    """Check the engines that `make` makes, not entered yet, which take color images of that height and width and give
    probabilities too."""
    engine = make()
    with _raises(EngineError, "it infers before it is entered"):
        engine.infer(_images(size, 1))
    engine.close()
    with engine:
        _expect(isinstance(engine, Engine), f"{type(engine).__name__} lacks a member of fcnseg.Engine")
        _check_results(engine, size)
        _check_batches(engine, size)
        _check_refusals(engine, size)
        labels = engine.infer(_images(size, 1))[0]
    engine.close()
    with _raises(EngineError, "it infers though it is closed"):
        engine.infer(_images(size, 1))
    with engine:
        _expect(_all_equal(engine.infer(_images(size, 1))[0], labels), "entered again, it gives other labels")


def _images(size: tuple[int, int], rows: int, seed: int = 0) -> dict[str, Pixels]:
    return {"color": np.random.default_rng(seed).integers(0, 256, (rows, *size, 3), dtype=np.uint8)}


def _all_equal(one: Mapping[str, Pixels], other: Mapping[str, Pixels]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def _check_results(engine: Engine, size: tuple[int, int]) -> None:
    labels, without = engine.infer(_images(size, 2))
    again, probabilities = engine.infer(_images(size, 2), probabilities=True)
    _expect(without is None, "it gives probabilities unasked")
    _expect(probabilities is not None, "it gives no probabilities")
    _expect(labels.keys() == engine.info.heads.keys(), "it gives other heads than its info names")
    _expect(_all_equal(labels, again), "labels differ with probabilities and without")
    for head, space in engine.info.heads.items():
        values = (probabilities or {})[head]
        _expect(labels[head].shape == (2, *size), f"labels are {labels[head].shape}, not N x H x W")
        _expect(labels[head].dtype == (np.uint8 if space.classes <= 256 else np.uint16), "labels are of another dtype")
        _expect(values.shape == (2, space.classes, *size), f"probabilities are {values.shape}, not N x K x H x W")
        _expect(np.array_equal(values.argmax(1), labels[head]), "labels are not those of the highest probabilities")
    before = {head: values.copy() for head, values in labels.items()}
    engine.infer(_images(size, 2, seed=1))
    _expect(_all_equal(labels, before), "results change with the next call")


def _check_batches(engine: Engine, size: tuple[int, int]) -> None:
    batch = _images(size, 4)["color"]
    together = engine.infer({"color": batch}, probabilities=True)
    for row in range(4):
        for neighbour in (row, 3 - row):
            pair = engine.infer({"color": batch[[row, neighbour]]}, probabilities=True)
            for whole, part in zip(together, pair, strict=True):
                rows = {head: values[row] for head, values in (whole or {}).items()}
                first = {head: values[0] for head, values in (part or {}).items()}
                _expect(_all_equal(rows, first), "results of an image depend on those beside it in the batch")
    flipped = batch[:, ::-1, ::-1]
    same = _all_equal(engine.infer({"color": flipped})[0], engine.infer({"color": flipped.copy()})[0])
    _expect(same, "images that are a view of an array are read wrongly")


def _check_refusals(engine: Engine, size: tuple[int, int]) -> None:
    pixels = _images(size, 1)["color"]
    wrong: dict[str, dict[str, Pixels]] = {
        "another dtype": {"color": pixels.astype(np.float32)},
        "four channels": {"color": pixels[..., [0, 1, 2, 2]]},
        "no axis of the batch": {"color": pixels[0]},
        "another modality": {"hha": pixels},
        "nothing": {},
    }
    for what, inputs in wrong.items():
        with _raises(ImageError, f"it takes {what} without an ImageError"):
            engine.infer(inputs)
