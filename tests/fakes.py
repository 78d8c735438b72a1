"""Real, small implementations of the protocols, for tests of what stands between them."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import numpy as np

from fcnseg.errors import ImageError
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.types import EngineInfo, Labels, Pixels, Prediction, Probabilities


class RedEngine:
    """Labels a pixel by the top two bits of its red; refuses images wider than `widest_px`."""

    def __init__(self, widest_px: int = 10_000) -> None:
        self.widest_px = widest_px
        self.seen: list[tuple[int, ...]] = []

    @property
    def info(self) -> EngineInfo:
        space = LabelSpace(("a", "b", "c", "d"), tuple(voc_color(i) for i in range(4)))
        return EngineInfo("fake", "cpu", "fp32", "red", "0", {"labels": space}, ("color",), {})

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


class MemorySink:
    """Keeps predictions; raises `error` for the keys in `refuse`."""

    def __init__(self, refuse: Mapping[str, Exception] | None = None) -> None:
        self.found: dict[str, Prediction] = {}
        self.refuse = refuse or {}
        self.closed = False

    def write(self, prediction: Prediction) -> None:
        if prediction.key in self.refuse:
            raise self.refuse[prediction.key]
        self.found[prediction.key] = prediction

    def close(self) -> None:
        self.closed = True
