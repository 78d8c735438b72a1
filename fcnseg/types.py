"""The values that flow through fcnseg, and the protocols of its three seams: source, engine, sink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fcnseg.labels import LabelSpace

Pixels = NDArray[Any]
"""uint8 H x W x 3 for color (RGB) and hha (as stored); float32 H x W x 1 for depth (in the file's own unit)."""

Labels = NDArray[np.unsignedinteger[Any]]
"""Label map H x W: uint8, or uint16 where there are more than 256 classes."""

Probabilities = NDArray[np.floating[Any]]
"""K x H x W, 0..1, summing to 1 over K."""


@dataclass(frozen=True)
class Reference:
    """One input: its key (path relative to the source, the image's identity) and the file of each modality."""

    key: str
    files: Mapping[str, Path]


@dataclass(frozen=True)
class Frame:
    """One decoded, upright image: `inputs` maps each modality to its pixels, all of one H x W."""

    key: str
    inputs: Mapping[str, Pixels]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""
        height, width = next(iter(self.inputs.values())).shape[:2]
        return height, width


@dataclass(frozen=True)
class Prediction:
    """What an engine says of one image: a label map for each head, and probabilities where they were asked for."""

    key: str
    labels: Mapping[str, Labels]
    probabilities: Mapping[str, Probabilities] | None = None


@dataclass(frozen=True)
class Verification:
    """How a built engine compared with the fp32 network on real images.

    `held`: every case had the labels of the network on at least `floor` of its pixels. `agreement` is that share
    over all cases, `worst` says where it was lowest and what was confused there. `max_probability_difference` is None
    where it was not measured, `typical_seconds` the median time of one image of the typical size.
    """

    held: bool
    floor: float
    agreement: float
    worst: str
    max_probability_difference: float | None
    cases: tuple[str, ...]
    images: str
    typical_seconds: float


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is: recorded with every run. `verification` None: not compared with the fp32 network."""

    backend: str
    device: str
    precision: str
    model: str
    weights_sha256: str
    heads: Mapping[str, LabelSpace]
    modalities: tuple[str, ...]
    versions: Mapping[str, str]
    verification: Verification | None = None
    file: Path | None = None
    choice: str = ""
    """Why this backend and precision, in a few words."""


@dataclass(frozen=True)
class Failure:
    """An input without an output: where it failed ("list", "load", "predict", "write") and why, in one line."""

    key: str
    stage: str
    reason: str


@dataclass
class Summary:
    """What a run did."""

    total: int
    done: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 all done, 3 done but some inputs failed, 130 interrupted."""
        return 130 if self.interrupted else 3 if self.failures else 0


class Source(Protocol):
    """Where images come from. Iterating lists references; `load` decodes one, or raises ImageError."""

    def __iter__(self) -> Iterator[Reference]: ...

    def load(self, reference: Reference) -> Frame:
        """Decode one image; raises ImageError."""


class Engine(Protocol):
    """A network on a device. Acquires nothing before entry. The same labels for any batch company."""

    @property
    def info(self) -> EngineInfo:
        """What this engine is."""

    def infer(
        self, inputs: Mapping[str, Pixels], probabilities: bool = False
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        """Labels N x H x W of each head and, if asked, probabilities N x K x H x W, of N x H x W x C inputs.

        Raises ImageError for images it cannot take (too large for memory, wrong dtype or channels).
        """

    def close(self) -> None:
        """Release everything."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Sink(Protocol):
    """Where predictions go. `write` makes whole files or none; OSError ends the run, ImageError fails one image."""

    def write(self, prediction: Prediction) -> None:
        """Write one prediction, whole."""

    def close(self) -> None:
        """Finish what stays open between writes."""
