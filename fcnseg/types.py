"""The values that flow through fcnseg, and the protocols of its seams: source, engine, sink, storage, ledger."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fcnseg.drawing import areas, overlay
from fcnseg.errors import SettingsError
from fcnseg.labels import LabelSpace

if TYPE_CHECKING:
    from PIL.Image import Image

AnyPath = str | os.PathLike[str]
"""A path as callers give it."""


def optional_path(path: AnyPath | None) -> Path | None:
    """Return a path that may be left out as a Path."""
    return None if path is None else Path(path)


Pixels = NDArray[Any]
"""uint8 H x W x 3 for color (RGB) and hha (as stored); float32 H x W x 1 for depth (in the file's own unit)."""

Labels = NDArray[np.unsignedinteger[Any]]
"""Label map H x W: uint8, or uint16 where there are more than 256 classes."""

Probabilities = NDArray[np.floating[Any]]
"""K x H x W, 0..1, summing to 1 over K."""

SHOWN_PX = 1600
"""The longest side of a prediction as a notebook shows it."""


@dataclass(frozen=True)
class Reference:
    """One input as a source lists it.

    `key` identifies the image: its path relative to the source. `stem` is the path of its outputs relative to the
    output folder, without suffix. `location` is for the source alone, to load the image: JSON can keep it, and what
    that gives back is taken. `fingerprint` is that of `Source.fingerprint` if listing gives it at no cost, else "".
    """

    key: str
    stem: str
    fingerprint: str
    location: Any


Reserve = Callable[[int], None]
"""Called by `Source.load` with the bytes that decoding will allocate, the decoder's own too; returns when memory for
them is free."""


@dataclass(frozen=True)
class Frame:
    """One decoded image, upright: `inputs` maps each modality to its pixels, all of one H x W."""

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
        """Bytes of its pixels."""
        return sum(pixels.nbytes for pixels in self.inputs.values())


@dataclass(frozen=True)
class Prediction:
    """The label map of each head for one image, and the probabilities of each head if they were requested.

    `labels` are H x W, uint8 (uint16 above 256 classes), `probabilities` K x H x W, 0..1. Predictions of a `Segmenter`
    also have `classes`, the names and colours of each head, and `picture`, which gives the image, uint8 H x W x 3 RGB:
    what `overlay`, `areas` and a notebook need.
    """

    labels: Mapping[str, Labels]
    probabilities: Mapping[str, Probabilities] | None = None
    classes: Mapping[str, LabelSpace] = field(default_factory=dict)
    picture: Callable[[], Pixels] | None = field(default=None, repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(a.nbytes for a in (*self.labels.values(), *(self.probabilities or {}).values()))

    def areas(self, head: str | None = None) -> dict[str, int]:
        """Return the pixels of each class that occurs, by name, the largest first. Raises SettingsError as `overlay`.

        `head` may be left out where there is one.
        """
        name, space = self._head(head)
        return areas(self.labels[name], space)

    def overlay(self, head: str | None = None, opacity: float = 0.5) -> Image:
        """Return the image with its classes drawn over it, an RGB Pillow image; `opacity` from 0 to 1 (the colours).

        Raises SettingsError for an unknown head, or without one where there are several, and ImageError if the image
        cannot be read any more.
        """
        from PIL import Image

        name, space = self._head(head)
        if self.picture is None:
            raise SettingsError("this prediction has no image to draw over; those of a segmenter have")
        return Image.fromarray(overlay(self.picture(), self.labels[name], space, opacity))

    def _head(self, name: str | None) -> tuple[str, LabelSpace]:
        """Return a head's name and classes; the only one's for None."""
        known = self.classes
        if name is None and len(known) == 1:
            name = next(iter(known))
        if name is None or name not in known:
            given = "several heads" if name is None else f"no head {name!r}"
            raise SettingsError(f"this prediction has {given}; name one of {', '.join(known) or '(none is known)'}")
        return name, known[name]

    def _repr_png_(self) -> bytes | None:
        """Return the overlays of all heads side by side, as notebooks show them; None without an image."""
        from PIL import Image

        if self.picture is None or not self.classes:
            return None
        drawn = [self.overlay(head) for head in self.classes]
        whole = Image.new("RGB", (sum(image.width for image in drawn), drawn[0].height))
        for place, image in enumerate(drawn):
            whole.paste(image, (place * image.width, 0))
        whole.thumbnail((SHOWN_PX, SHOWN_PX))  # only what is looked at
        content = io.BytesIO()
        whole.save(content, "PNG")
        return content.getvalue()


class OutputName(NamedTuple):
    """The name of an output, apart from the stem of its image."""

    prefix: str
    suffix: str

    def of(self, stem: str) -> str:
        """Return the name of the output of the image with that stem."""
        return f"{self.prefix}{stem}{self.suffix}"


@dataclass(frozen=True)
class Output:
    """A file that a storage holds whole: its path (or URL), size in bytes and BLAKE2b-128 (hexadecimal)."""

    location: str
    size: int
    checksum: str


class RecordedOutput(NamedTuple):
    """An output as a ledger keeps it: path relative to the ledger's folder, size in bytes, checksum, and the time of
    its last change of any kind (ns), which no program can set back."""

    path: str
    size: int
    checksum: str
    changed_ns: int


@dataclass(frozen=True)
class Verification:
    """The comparison of a built engine with the fp32 network on real images.

    `passed`: every case had the labels of the network on at least `min_agreement` of its pixels. `agreement` is that
    share over all cases, `worst` says where it was lowest and what was confused there. `max_probability_difference`
    is None where it was not measured, `typical_seconds` the median time of one image of the typical size.
    """

    passed: bool
    min_agreement: float
    agreement: float
    worst: str
    max_probability_difference: float | None
    cases: tuple[str, ...]
    images: str
    typical_seconds: float


@dataclass(frozen=True)
class EngineInfo:
    """Description of an engine, recorded with every run. `verification` is None if it was never verified."""

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
    """The reason for this backend and precision, in a few words."""
    largest: tuple[int, int] | None = None
    """Largest height and width, px; None: whatever fits into memory."""
    max_batch: int = 1
    """Largest batch, of images of one size, that runs faster than its images one by one."""


@dataclass(frozen=True)
class Failure:
    """Input without output: the stage that failed ("list", "load", "predict" or "write") and a reason, one line."""

    key: str
    stage: str
    reason: str


FAILURES_LISTED = 1000
"""Failures that a summary lists at most; the ledger has them all."""


@dataclass
class Summary:
    """The result of a run over the inputs of its part.

    `total` counts all inputs, `done` those that this run has written, `kept` those whose outputs were complete already
    or came from another process meanwhile, `failed` all failures, `failed_before` those of earlier runs among them.
    `events` counts images cut into tiles and batches halved. `stopped` is the reason if the run ended itself early.
    `left_out` counts the files of the source that are no images by their names, by suffix.
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
    left_out: dict[str, int] = field(default_factory=dict)

    def add_failure(self, failure: Failure, *, before: bool = False) -> None:
        """Count a failure, and list it if it is one of the first FAILURES_LISTED."""
        self.failed += 1
        self.failed_before += before
        if len(self.failures) < FAILURES_LISTED:
            self.failures.append(failure)

    @property
    def exit_code(self) -> int:
        """0: all done; 1: ended itself early; 3: done, but some inputs failed; 130: interrupted."""
        return 130 if self.interrupted else 1 if self.stopped else 3 if self.failed else 0


@dataclass(frozen=True)
class StageTimes:
    """Seconds that the `threads` of a stage worked, summed, and the share of their time that this was (0..1)."""

    threads: int
    busy_seconds: float
    utilisation: float


@runtime_checkable
class Source(Protocol):
    """A collection of images. `load` is safe to call from several threads.

    Iterating lists the images anew each time, streaming: references, and a Failure (stage "list") for what cannot be
    listed. `fcnseg.testing.check_source` tells whether an implementation keeps to this.
    """

    def __iter__(self) -> Iterator[Reference | Failure]: ...

    def fingerprint(self, reference: Reference) -> str:
        """Return a text that changes when the input does."""

    def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
        """Decode one image, calling `reserve` once before memory is allocated; raises ImageError."""

    def close(self) -> None:
        """Release open files."""


@runtime_checkable
class Engine(Protocol):
    """A network on a device. Acquires nothing before entry. Labels do not depend on batch composition.

    One that overlaps batches also has `infer_many(batches, probabilities)`, which yields the results of `infer` for
    each, in order. `fcnseg.testing.check_engine` tells whether an implementation keeps to this.
    """

    @property
    def info(self) -> EngineInfo:
        """The engine's description."""

    def infer(
        self, inputs: Mapping[str, Pixels], probabilities: bool = False
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        """Return labels N x H x W of each head and, if requested, probabilities N x K x H x W, of N x H x W x C inputs.

        Raises ImageError for images it cannot take (too large for memory, wrong dtype or channels).
        """

    def close(self) -> None:
        """Release everything."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Storage(Protocol):
    """A place for outputs, such as a folder. Safe to use from several threads."""

    @property
    def root(self) -> str:
        """The path (or URL) that names in it are relative to."""

    def place(self, name: str, content: Iterable[bytes | memoryview]) -> Output:
        """Store a file whole, or not at all. Raises OSError, OutputError, and whatever iterating the content raises."""

    def flush(self) -> None:
        """Make durable what was placed until now. Raises OSError and OutputError."""


@runtime_checkable
class Sink(Protocol):
    """An encoder of predictions, and the storage its files go to. Safe to use from several threads.

    It writes nothing by itself: fcnseg places what it encodes, whole or not at all, and records it. The same prediction
    gives the same bytes. `fcnseg.testing.check_sink` tells whether an implementation keeps to this.
    """

    @property
    def storage(self) -> Storage:
        """The place of the encoded files."""

    @property
    def names(self) -> tuple[OutputName, ...]:
        """The names in the storage of the files that every image gets."""

    def encode(self, frame: Frame, prediction: Prediction) -> Iterable[tuple[str, Iterable[bytes | memoryview]]]:
        """Yield the name and content of each file of one image. Raises ImageError if the image cannot be encoded."""


@dataclass(frozen=True)
class Settled:
    """The end of one input: its outputs, or a failure. `fingerprint` is empty if the input was not looked into.

    `entries`: what it adds to files of all images, by the kind of the file.
    """

    key: str
    fingerprint: str
    outputs: tuple[RecordedOutput, ...] = ()
    failure: Failure | None = None
    entries: Mapping[str, bytes] = field(default_factory=dict)


class LedgerRow(NamedTuple):
    """The state of an input: "claimed" (by `claimant`), "done" (with `outputs`) or "failed" (at `stage`, for `reason`).

    `attempts` counts its claims: without any, no run has made a file for it.
    """

    state: str
    claimant: str | None
    attempts: int
    stage: str | None
    reason: str | None
    fingerprint: str | None
    outputs: Sequence[RecordedOutput]


class Ledger(Protocol):
    """The record of what became of every input, shared by the processes of a run. Safe to use from several threads.

    Whatever is written (facts, claims, ends) is durable before the method returns: no output exists of an input that
    nobody claimed, also after a power cut.
    """

    @property
    def folder(self) -> str:
        """The path (or URL) that the paths of recorded outputs are relative to."""

    def new_claimant(self) -> AbstractContextManager[str]:
        """Return a unique name to claim inputs under, that is alive until the `with` block or its process ends."""

    def describe(self, claimant: str) -> str:
        """Return in words which process claims under this name, and what to do if it does not end."""

    def is_alive(self, claimant: str) -> bool:
        """Tell whether the process that claims under this name still runs."""

    def rows(self, keys: Sequence[str]) -> dict[str, LedgerRow]:
        """Return the rows of these inputs; inputs without one are left out."""

    def claim(self, keys: Iterable[str], claimant: str, seen: Mapping[str, LedgerRow]) -> list[str]:
        """Claim inputs that have no row, or still the row that the caller has `seen`; returns those it got."""

    def settle(self, settled: Iterable[Settled]) -> None:
        """Record the ends of inputs, all or none."""

    def release(self, claimant: str) -> None:
        """Forget the claims of `claimant` that were not settled, of inputs that nobody claimed before."""

    def dead_claimants(self) -> list[str]:
        """Return the claimants that died without an end, and were not forgotten since."""

    def forget(self, claimants: Iterable[str]) -> None:
        """Forget dead claimants: what they left unfinished is removed."""

    def in_flight(self) -> dict[str, list[str]]:
        """Return the claimed inputs of each claimant."""

    def counts(self) -> dict[str, int]:
        """Return the number of inputs in each state."""

    def failures(self) -> Iterator[Failure]:
        """Yield every failed input, by key."""

    def outputs(self) -> Iterator[Sequence[RecordedOutput]]:
        """Yield the outputs of every input that is done."""

    def entries(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return what these inputs added to a file of all images when they were last done; the others are left out."""

    def fact(self, name: str) -> Any:
        """Return the JSON value noted under that name, or None."""

    def note(self, **facts: Any) -> None:
        """Store JSON values by name."""

    def agree(self, **facts: Any) -> dict[str, Any]:
        """Store JSON values under names that have none yet; returns the values that hold now."""
