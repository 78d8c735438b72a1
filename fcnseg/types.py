"""The values that flow through fcnseg, and the protocols of its three seams: source, engine, sink."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
    """One input. `key` is the image's identity (its path relative to the source), `stem` the path of its outputs
    without their suffix (relative to the output folder). `location` is what the source needs to find it again.
    `fingerprint` is what listing alone tells of its content (see `Source.fingerprint`), often nothing.
    """

    key: str
    stem: str
    fingerprint: str
    location: Any


Reserve = Callable[[int], None]
"""Called by `Source.load` with the bytes that decoding is about to take; returns when there is room for them."""


@dataclass(frozen=True)
class Frame:
    """One decoded, upright image: `inputs` maps each modality to its pixels, all of one H x W."""

    key: str
    stem: str
    inputs: Mapping[str, Pixels]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""
        height, width = next(iter(self.inputs.values())).shape[:2]
        return height, width

    @property
    def nbytes(self) -> int:
        """What its pixels take in memory."""
        return sum(pixels.nbytes for pixels in self.inputs.values())


@dataclass(frozen=True)
class Prediction:
    """What an engine says of one image: a label map for each head, and probabilities where they were asked for."""

    labels: Mapping[str, Labels]
    probabilities: Mapping[str, Probabilities] | None = None

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return sum(a.nbytes for a in (*self.labels.values(), *(self.probabilities or {}).values()))


@dataclass(frozen=True)
class Output:
    """A file that a sink wrote, whole: its path, bytes and BLAKE2b-128 (hexadecimal)."""

    path: Path
    size: int
    checksum: str


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
    largest: tuple[int, int] | None = None
    """The largest height and width it takes, px; None: whatever memory holds."""
    max_batch: int = 1
    """How many images of one size it runs faster together than one by one."""


@dataclass(frozen=True)
class Failure:
    """An input without an output: where it failed ("list", "load", "predict", "write") and why, in one line."""

    key: str
    stage: str
    reason: str


FAILURES_LISTED = 1000
"""How many failures a summary lists; the ledger has them all."""


@dataclass
class Summary:
    """What a run did with the inputs of its part.

    `done` counts those of this run, `kept` those that were done and whole before, or that another process did
    meanwhile, `failed` all that failed, `failed_before` those of them that an earlier run left so. `events` counts
    what an engine had to do for single images (cut them into tiles, halve a batch). `stopped` says why a run ended
    early of itself.
    """

    total: int
    done: int = 0
    kept: int = 0
    failed: int = 0
    failed_before: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    stopped: str = ""
    stages: dict[str, StageTimes] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)

    def add_failure(self, failure: Failure, *, before: bool = False) -> None:
        """Count a failure, and list it if it is among the first."""
        self.failed += 1
        self.failed_before += before
        if len(self.failures) < FAILURES_LISTED:
            self.failures.append(failure)

    @property
    def exit_code(self) -> int:
        """0 all done, 1 ended early of itself, 3 done but some inputs failed, 130 interrupted."""
        return 130 if self.interrupted else 1 if self.stopped else 3 if self.failed else 0


@dataclass(frozen=True)
class StageTimes:
    """How long the `threads` of a stage worked in all, and which share of their time that was (0..1)."""

    threads: int
    busy_seconds: float
    utilisation: float


class Source(Protocol):
    """Where images come from. Iterating lists them, any number of times, without keeping them: references, and a
    Failure (stage "list") for what cannot be listed. Safe to `load` from several threads."""

    def __iter__(self) -> Iterator[Reference | Failure]: ...

    def fingerprint(self, reference: Reference) -> str:
        """A text that changes when the input does."""

    def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
        """Decode one image, calling `reserve` once with what that takes, before it is taken; raises ImageError."""

    def close(self) -> None:
        """Release open files."""


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
    """Where predictions go. Safe to `write` from several threads. OSError ends the run, ImageError fails one image."""

    def names(self, stem: str) -> tuple[Path, ...]:
        """The files that the image of that stem will get."""

    def write(self, frame: Frame, prediction: Prediction) -> tuple[Output, ...]:
        """Write one prediction, each file whole or not at all."""

    def close(self) -> None:
        """Finish what stays open between writes."""
