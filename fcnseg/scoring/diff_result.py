"""The difference of two runs: changed pixels by image and by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.scoring.result import json_value


@dataclass(frozen=True)
class ImageDiff:
    """One image: its pixels, and those that changed. With ground truth, those that became right (`helped`) or wrong
    (`hurt`), else None."""

    key: str
    pixels: int
    changed: int
    helped: int | None = None
    hurt: int | None = None

    @property
    def share(self) -> float:
        """Share of its pixels that changed, 0..1."""
        return self.changed / max(1, self.pixels)


@dataclass(frozen=True)
class ClassDiff:
    """One class: its pixels before and after, those it lost to and gained from other classes, and the IoU of before and
    after. With ground truth, `iu_before` and `iu_after` are the IoU of either with the truth, else None."""

    index: int
    name: str
    pixels_before: int
    pixels_after: int
    lost: int
    gained: int
    agreement_iu: float
    iu_before: float | None = None
    iu_after: float | None = None


@dataclass(frozen=True)
class TruthDiff:
    """Changed pixels judged by ground truth: `helped` became right, `hurt` wrong, `neither` stayed wrong. Figures,
    0..1, are pairs: before and after."""

    helped: int
    hurt: int
    neither: int
    mean_iu: tuple[float, float]
    pixel_accuracy: tuple[float, float]


@dataclass(frozen=True)
class Diff:
    """The difference of two runs. `transitions` is K x K, int64: rows before, columns after. `images` begin with those
    that changed most; `only_before` and `only_after` are the keys of images that one run alone has."""

    pixels: int
    changed: int
    agreement: float
    identical_images: int
    per_class: tuple[ClassDiff, ...]
    transitions: NDArray[np.int64]
    images: tuple[ImageDiff, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    truth: TruthDiff | None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 everything was compared, 3 some images were left out, as allowed."""
        return 3 if self.only_before or self.only_after else 0

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of `--json`: the fields as numbers, texts, lists and dicts; NaN becomes None."""
        values: dict[str, Any] = json_value(self)
        return values
