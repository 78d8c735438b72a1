"""Engines side by side: speed, memory and label agreement of any set of backends and precisions, measured in one run.

Each candidate runs in a process of its own, so that its peak memory is its own, and waits there for its turn: rounds
go round all candidates, each round beginning with another one, so that whatever else the machine does hits all alike.
A candidate that cannot run, or dies, becomes a row with the reason; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from fcnseg.engine.bench_worker import Candidate, LostError, Worker, Workload
from fcnseg.errors import EngineError
from fcnseg.recipes import MODALITIES, Recipe
from fcnseg.types import Frame, Labels, Pixels

REFERENCE = Candidate("torch", "fp32")
PEER = "opencv"
"""The backend whose speed the others are compared with; the first candidate where it is not measured."""

CEILING = "a product of two large square matrices by torch in the same precision, median over the rounds"

OnStep = Callable[[int, int, str], None]
"""Called as each step begins: the steps done, all steps, and what begins."""


@dataclass(frozen=True)
class BenchOptions:
    """How it is measured: timed passes over all images, images a call (of one size), untimed passes before."""

    repeat: int = 5
    batch_size: int = 1
    warm_up: int = 2


@dataclass(frozen=True)
class Figures:
    """What was measured of one candidate.

    `images_per_second` and `gflops` are those of the median round; a latency is that of one call, so of a whole
    batch. `speed_ratio` is the median, over the rounds, of the peer's time by this one's. `peak_memory_bytes` is the
    most the process ever held. `load_seconds` is the time to open the engine once its libraries are imported and its
    file is cached, `start_seconds` the same in a fresh process, imports included. `agreement` is the share of pixels
    with the label of torch in fp32, `ceiling_share` that of the ceiling in the same precision; None: not known.
    """

    images_per_second: float
    latency_median_seconds: float
    latency_p95_seconds: float
    speed_ratio: float
    peak_memory_bytes: int
    load_seconds: float
    start_seconds: float
    agreement: float | None
    gflops: float | None
    ceiling_share: float | None


@dataclass(frozen=True)
class Row:
    """One candidate: its figures, or why there are none."""

    backend: str
    precision: str
    device: str
    failure: str | None
    figures: Figures | None


@dataclass(frozen=True)
class BenchResult:
    """A whole run. `sizes` counts the images of each "W x H"; `gflop_per_image` is their mean, in 10^9 operations
    (multiply and add are two); `ceilings_gflops` by precision; `peer` the candidate that speed ratios refer to.
    `reference_failure` says why there is no agreement."""

    model: str
    sizes: Mapping[str, int]
    options: BenchOptions
    gflop_per_image: float | None
    ceilings_gflops: Mapping[str, float]
    peer: str | None
    rows: tuple[Row, ...]
    reference_failure: str | None

    @property
    def measured(self) -> tuple[Row, ...]:
        """The rows with figures."""
        return tuple(row for row in self.rows if row.figures)


@dataclass
class _Entrant:
    """A candidate while it is measured."""

    candidate: Candidate
    worker: Worker | None = None
    failure: str | None = None
    device: str = ""
    load_seconds: float = 0.0
    start_seconds: float = 0.0
    agreement: float | None = None
    rounds: list[list[float]] = field(default_factory=list)
    peak_bytes: int = 0

    def ask(self, command: str, **settings: Any) -> Any:
        """The worker's answer; None, and the reason kept, if it fails. Nothing is asked of a failed one."""
        if self.worker is None:
            return None
        try:
            return self.worker.ask(command, **settings)
        except LostError as lost:
            when = f" in round {len(self.rounds) + 1}" if command == "round" else ""
            self.fail(f"{lost}{when}")
            return None

    def fail(self, reason: str) -> None:
        """Take the candidate out."""
        self.failure = reason
        if self.worker is not None:
            self.worker.stop()
        self.worker = None

    @property
    def total_seconds(self) -> list[float]:
        """The time of each round."""
        return [sum(calls) for calls in self.rounds]


def bench(
    candidates: Sequence[Candidate],
    workload: Workload,
    options: BenchOptions | None = None,
    on_step: OnStep = lambda done, total, text: None,
) -> BenchResult:
    """Measure the candidates; the first use of an engine builds and caches it, outside what is timed.

    No process outlives the call, however it ends. Raises EngineError if there are no candidates or no images, or if
    none of the candidates could be measured.
    """
    options = options or BenchOptions()
    if not candidates or not workload.frames:
        raise EngineError("there is nothing to measure; name at least one engine and one image")
    steps = _Steps(1 + len(candidates) * (2 + options.repeat), on_step)
    with ExitStack() as stack:
        start = partial(_start, stack, workload, options)
        steps.begin("torch fp32, for its labels")
        reference = _Entrant(REFERENCE, start(REFERENCE))
        labels, gflop = _reference(reference)
        entrants = [_Entrant(candidate) for candidate in dict.fromkeys(candidates)]
        for entrant in entrants:
            _prepare(entrant, start, steps)
            _warm_up(entrant, start, steps, options, labels)
        ceilings = _rounds(entrants, reference, options, steps)
        for entrant in entrants:
            entrant.peak_bytes = entrant.ask("peak") or 0
    if all(entrant.failure for entrant in entrants):
        reasons = "; ".join(f"{e.candidate}: {e.failure}" for e in entrants)
        raise EngineError(f"no engine could be measured: {reasons}")
    return _result(workload, options, entrants, reference, ceilings, gflop)


def made_up_frames(recipe: Recipe, size: tuple[int, int], count: int) -> list[Frame]:
    """Smooth random images of a size (height, width), always the same ones: neighbouring pixels are alike, as in
    photographs. Depth is in the range of a room in millimetres."""
    random, (height, width), frames = np.random.default_rng(0), size, []
    for number in range(count):
        inputs: dict[str, Pixels] = {}
        for modality in recipe.modalities:
            channels = [_smooth(random, height, width) for _ in range(MODALITIES[modality])]
            values = np.stack(channels, axis=-1)
            depth = modality == "depth"
            inputs[modality] = np.asarray(
                500 + 8500 * values if depth else 255 * values, np.float32 if depth else np.uint8
            )
        frames.append(Frame(f"made-up-{number}", f"made-up-{number}", inputs))
    return frames


def _smooth(random: np.random.Generator, height: int, width: int) -> Pixels:
    """H x W, 0..1: random values on a coarse grid, linear between them, with a little grain."""
    coarse = random.uniform(0, 1, (6, 8))
    rows, columns = np.linspace(0, 5, height), np.linspace(0, 7, width)
    wide = np.stack([np.interp(columns, np.arange(8), line) for line in coarse])
    tall = np.stack([np.interp(rows, np.arange(6), line) for line in wide.T], axis=-1)
    return np.clip(tall + random.normal(0, 0.02, (height, width)), 0, 1)


def _start(stack: ExitStack, workload: Workload, options: BenchOptions, candidate: Candidate) -> Worker:
    worker = Worker(candidate, workload, options.batch_size)
    stack.callback(worker.stop)
    return worker


def _reference(reference: _Entrant) -> tuple[list[list[Labels]] | None, float | None]:
    """The labels of torch in fp32, image by image, head by head, and the operations of an image in 10^9.

    The engine is closed then; the process stays, for the ceilings."""
    gflop = reference.ask("gflop")
    reference.ask("open")
    reference.device = reference.ask("device") or ""
    labels = reference.ask("labels")
    reference.ask("close")
    return labels, gflop


def _prepare(entrant: _Entrant, start: Callable[[Candidate], Worker], steps: _Steps) -> None:
    """Build and cache the engine, in a process whose memory is not measured, and time a second opening."""
    steps.begin(f"building or loading {entrant.candidate}")
    entrant.worker = start(entrant.candidate)
    entrant.ask("open")
    entrant.ask("close")
    entrant.load_seconds = entrant.ask("open") or 0.0
    if entrant.worker is not None:
        entrant.worker.stop()


def _warm_up(
    entrant: _Entrant,
    start: Callable[[Candidate], Worker],
    steps: _Steps,
    options: BenchOptions,
    expected: list[list[Labels]] | None,
) -> None:
    """The process that is measured: open, compare the labels, and run until nothing is the first time."""
    steps.begin(f"warming up {entrant.candidate}")
    if entrant.failure is not None:
        return
    entrant.worker = start(entrant.candidate)
    entrant.start_seconds = entrant.ask("open") or 0.0
    entrant.device = entrant.ask("device") or ""
    found = entrant.ask("labels")
    if found is not None and expected is not None:
        entrant.agreement = agreement(found, expected)
    for _ in range(options.warm_up - 1):
        entrant.ask("round")


def _rounds(
    entrants: Sequence[_Entrant], reference: _Entrant, options: BenchOptions, steps: _Steps
) -> dict[str, float]:
    """The timed rounds; returns the ceiling of each precision in GFLOP/s."""
    samples: dict[str, list[float]] = {}
    precisions = sorted({entrant.candidate.precision for entrant in entrants})
    for index in range(options.repeat):
        first = index % len(entrants)
        for entrant in (*entrants[first:], *entrants[:first]):
            steps.begin(f"round {index + 1} of {options.repeat}: {entrant.candidate}")
            seconds = entrant.ask("round")
            if seconds is not None:
                entrant.rounds.append(seconds)
        for precision in precisions:
            found = reference.ask("ceiling", precision=precision)
            if found is not None:
                samples.setdefault(precision, []).append(found)
    return {precision: median(found) for precision, found in samples.items()}


def agreement(found: Sequence[Sequence[Labels]], expected: Sequence[Sequence[Labels]]) -> float:
    """The share of pixels with the same label, over all images and heads, 0..1."""
    pairs = [(a, b) for image in zip(found, expected, strict=True) for a, b in zip(*image, strict=True)]
    return float(sum(np.count_nonzero(a == b) for a, b in pairs) / sum(b.size for _, b in pairs))


@dataclass
class _Steps:
    """Counts steps for whoever watches."""

    total: int
    on_step: OnStep
    begun: int = 0

    def begin(self, text: str) -> None:
        self.on_step(self.begun, self.total, text)
        self.begun += 1


# ---------------------------------------------------------------------- the figures


def _result(
    workload: Workload,
    options: BenchOptions,
    entrants: Sequence[_Entrant],
    reference: _Entrant,
    ceilings: Mapping[str, float],
    gflop: float | None,
) -> BenchResult:
    measured = [entrant for entrant in entrants if entrant.failure is None]
    peer = next((e for e in measured if e.candidate.backend == PEER), measured[0])
    sizes: dict[str, int] = {}
    for frame in workload.frames:
        height, width = frame.size
        sizes[f"{width} x {height}"] = sizes.get(f"{width} x {height}", 0) + 1
    rows = []
    for entrant in entrants:
        backend, precision = entrant.candidate.backend, entrant.candidate.precision
        figures = None
        if entrant.failure is None:
            same_place = _on_gpu(entrant) == _on_gpu(reference)
            ceiling = ceilings.get(precision) if same_place else None
            figures = _figures(entrant, peer, len(workload.frames), gflop, ceiling)
        rows.append(Row(backend, precision, entrant.device, entrant.failure, figures))
    return BenchResult(
        workload.recipe.name, sizes, options, gflop, ceilings, str(peer.candidate), tuple(rows), reference.failure
    )


def _on_gpu(entrant: _Entrant) -> bool:
    return entrant.candidate.backend.startswith("tensorrt") or entrant.device.startswith(("cuda", "mps"))


def _figures(entrant: _Entrant, peer: _Entrant, images: int, gflop: float | None, ceiling: float | None) -> Figures:
    calls = [seconds for found in entrant.rounds for seconds in found]
    speed = images / median(entrant.total_seconds)
    gflops = gflop * speed if gflop is not None else None
    ratios = [theirs / own for theirs, own in zip(peer.total_seconds, entrant.total_seconds, strict=True)]
    return Figures(
        images_per_second=speed,
        latency_median_seconds=median(calls),
        latency_p95_seconds=float(np.percentile(calls, 95)),
        speed_ratio=median(ratios),
        peak_memory_bytes=entrant.peak_bytes,
        load_seconds=entrant.load_seconds,
        start_seconds=entrant.start_seconds,
        agreement=entrant.agreement,
        gflops=gflops,
        ceiling_share=gflops / ceiling if gflops is not None and ceiling else None,
    )
