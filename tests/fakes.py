"""Real, small implementations of the protocols, for tests of what stands between them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from fcnseg.errors import ImageError
from fcnseg.io.storage import LocalFolder
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.types import (
    EngineInfo,
    Failure,
    Frame,
    Labels,
    OutputName,
    Pixels,
    Prediction,
    Probabilities,
    Reference,
    Reserve,
)


class RedEngine:
    """Labels a pixel by the top two bits of its red; refuses images wider than `widest_px`."""

    def __init__(self, widest_px: int = 10_000, max_batch: int = 1) -> None:
        self.widest_px = widest_px
        self.seen: list[tuple[int, ...]] = []
        space = LabelSpace(("a", "b", "c", "d"), tuple(voc_color(i) for i in range(4)))
        self.info = EngineInfo(
            "fake", "cpu", "fp32", "red", "0", {"labels": space}, ("color",), {}, max_batch=max_batch
        )

    def infer(
        self, inputs: Mapping[str, Pixels], probabilities: bool = False
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        pixels = inputs["color"]
        self.seen.append(pixels.shape)
        if pixels.shape[2] > self.widest_px:
            raise ImageError("too wide", "predict")
        labels = pixels[..., 0] >> 6
        one_hot = np.moveaxis(np.eye(4, dtype=np.float32)[labels], -1, 1)
        return {"labels": labels}, {"labels": one_hot} if probabilities else None

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MemorySource:
    """Random images under given keys, made when loaded; those in `broken` cannot be, `sizes` are (height, width)."""

    def __init__(
        self,
        keys: Iterable[str],
        broken: Mapping[str, Exception] | None = None,
        sizes: Mapping[str, tuple[int, int]] | None = None,
        unlisted: Iterable[Failure] = (),
    ) -> None:
        self.keys, self.broken, self.sizes, self.unlisted = list(keys), broken or {}, sizes or {}, list(unlisted)
        self.fingerprints: dict[str, str] = {}
        self.loaded: list[str] = []
        self.in_memory = self.most_in_memory = 0

    def __iter__(self) -> Iterator[Reference | Failure]:
        yield from self.unlisted
        for key in self.keys:
            yield Reference(key, key.rpartition(".")[0] or key, "", None)

    def fingerprint(self, reference: Reference) -> str:
        return self.fingerprints.get(reference.key, "1")

    def pixels(self, key: str) -> Pixels:
        height, width = self.sizes.get(key, (4, 6))
        seed = int.from_bytes(key.encode("utf-8", "surrogateescape"), "big")
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
        self.loaded.append(reference.key)
        if reference.key in self.broken:
            raise self.broken[reference.key]
        height, width = self.sizes.get(reference.key, (4, 6))
        reserve(height * width * 3)
        return Frame(reference.key, reference.stem, {"color": self.pixels(reference.key)})

    def close(self) -> None:
        pass


class RawSink:
    """Label maps as raw bytes, a file each; raises `refuse[stem]` instead, once. `written` lists stems."""

    names = (OutputName("", ".raw"),)

    def __init__(self, folder: Path, refuse: Mapping[str, BaseException] | None = None) -> None:
        self.storage, self.refuse = LocalFolder(folder), dict(refuse or {})
        self.written: list[str] = []
        self._lock = threading.Lock()

    def encode(self, frame: Frame, prediction: Prediction) -> Iterator[tuple[str, Iterable[bytes]]]:
        with self._lock:
            error = self.refuse.pop(frame.stem, None)
            self.written.append(frame.stem)
        if error:
            raise error
        yield f"{frame.stem}.raw", [prediction.labels["labels"].tobytes()]
