"""Engines side by side: speed, memory and agreement of any set of backends and precisions, measured in one run.

Each candidate runs in a subprocess of its own, so that its peak memory is its own, and takes turns with the others:
each round goes round all candidates and begins with another one, so that other load on the machine hits all alike.
A candidate that cannot run, or dies, becomes a row with the reason; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np

from fcnseg.engine.bench_session import BenchSession, Candidate, Workload
from fcnseg.errors import EngineError, is_out_of_memory
from fcnseg.types import Labels
from fcnseg.workers.process import WorkerDiedError
from fcnseg.workers.remote import RemoteFunction

REFERENCE = Candidate("torch" if find_spec("torch") else "onnxruntime", "fp32")
"""The network that labels are compared with."""

CEILING = (
    "the fastest arithmetic that a library here gives in the same precision, median over the rounds: convolutions that "
    "keep the registers busy by OpenVINO on processors, a product of two large square matrices by torch elsewhere"
)

OnStep = Callable[[int, int, str], None]
"""Called as each step begins: the steps done, all steps, and what begins."""


@dataclass(frozen=True)
class BenchOptions:
    """Timed passes over all images (`repeat`), images a call (of one size), untimed passes before."""

    repeat: int = 5
    batch_size: int = 1
    warm_up: int = 2


@dataclass(frozen=True)
class Figures:
    """The measurements of one candidate.

    `images_per_second` and `gflops` are those of the median round, the latter of the operations that the engine does,
    which may leave out some of the network's. A latency is that of one call, so of a whole batch. `speed_ratio` is the
    median, over the rounds, of the peer's time by this one's. `peak_memory_bytes` is the most the process ever held.
    `load_seconds` is the time to open the engine once its libraries are imported and its file is cached,
    `start_seconds` the same in a fresh process, imports included. `agreement` is the share of pixels
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
    """All rows of a benchmark, and what they refer to.

    `sizes` counts the images of each "W x H"; `gflop_per_image` is their mean, in 10^9 operations (multiply and add
    are two); `ceilings_gflops` by precision; `peer` is the first candidate that was measured, whose speed ratio is 1.
    `reference_failure` says why there is no agreement.
    """

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
    reference = _Contender(REFERENCE, workload, options)
    contenders = [_Contender(candidate, workload, options) for candidate in dict.fromkeys(candidates)]
    steps = _Steps(1 + len(contenders) * (2 + options.repeat), on_step)
    with ExitStack() as stack:
        for contender in (reference, *contenders):
            stack.callback(contender.stop)
        steps.begin(f"{REFERENCE.backend} fp32, for its labels")
        expected, gflop = reference.refer()
        for contender in contenders:
            steps.begin(f"building or loading {contender.candidate}")
            contender.prepare()
            steps.begin(f"warming up {contender.candidate}")
            contender.warm_up(expected)
        ceilings = _run_rounds(contenders, reference, options, steps)
        for contender in contenders:
            contender.peak_bytes = contender.ask("peak") or 0
    if all(contender.failure for contender in contenders):
        reasons = "; ".join(f"{c.candidate}: {c.failure}" for c in contenders)
        raise EngineError(f"no engine could be measured: {reasons}")
    return _result(contenders, reference, ceilings, gflop)


@dataclass
class _Contender:
    """A candidate, its subprocess, and its measurements so far."""

    candidate: Candidate
    workload: Workload
    options: BenchOptions
    session: RemoteFunction[tuple[str, dict[str, Any]], Any] | None = None
    failure: str | None = None
    device: str = ""
    load_seconds: float = 0.0
    start_seconds: float = 0.0
    agreement: float | None = None
    computed_gflop: float | None = None
    rounds: list[list[float]] = field(default_factory=list)
    peak_bytes: int = 0

    def start(self) -> None:
        """Begin in a fresh process, unless the candidate has failed."""
        self.stop()
        if self.failure is None:
            try:
                self.session = RemoteFunction(BenchSession(self.candidate, self.workload, self.options.batch_size))
            except WorkerDiedError as died:
                self.failure = str(died)

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self.session is not None:
            self.session.stop()
        self.session = None

    def ask(self, command: str, **settings: Any) -> Any:
        """Return the answer of the session's method; None once the candidate has failed, whose reason is kept."""
        if self.session is None:
            return None
        try:
            return self.session((command, settings))
        except WorkerDiedError as died:
            hint = "; leave other engines out with --engines" if is_out_of_memory(died) else ""
            self.failure = f"its process died ({died}){hint}"
        except Exception as error:  # of any library; one that fails is a row
            lines = str(error).strip().splitlines()
            self.failure = " ".join(lines[0].split()) if lines else type(error).__name__
        if command == "round":
            self.failure += f" in round {len(self.rounds) + 1}"
        self.stop()
        return None

    def refer(self) -> tuple[list[list[Labels]] | None, float | None]:
        """Return the labels by image and head, and the 10^9 operations of an image; the process stays, for ceilings."""
        self.start()
        gflop = self.ask("gflop")
        self.ask("open")
        self.device = self.ask("device") or ""
        labels = self.ask("labels")
        self.ask("close")
        return labels, gflop

    def prepare(self) -> None:
        """Build and cache the engine, in a process whose memory is not measured, and time a second opening."""
        self.start()
        self.ask("open")
        self.ask("close")
        self.load_seconds = self.ask("open") or 0.0

    def warm_up(self, expected: list[list[Labels]] | None) -> None:
        """Open the engine in the process that is measured, compare its labels, and run the untimed rounds."""
        self.start()
        self.start_seconds = self.ask("open") or 0.0
        self.device = self.ask("device") or ""
        self.computed_gflop = self.ask("computed_gflop")
        labels = self.ask("labels")
        if labels is not None and expected is not None:
            self.agreement = agreement(labels, expected)
        for _ in range(self.options.warm_up - 1):
            self.ask("round")

    def run_round(self) -> None:
        """Time one pass over all images."""
        seconds = self.ask("round")
        if seconds is not None:
            self.rounds.append(seconds)

    @property
    def round_seconds(self) -> list[float]:
        """The time of each round."""
        return [sum(calls) for calls in self.rounds]

    @property
    def on_gpu(self) -> bool:
        """The device is a GPU."""
        return self.candidate.backend.startswith("tensorrt") or self.device.startswith(("cuda", "mps"))


def _run_rounds(
    contenders: Sequence[_Contender], reference: _Contender, options: BenchOptions, steps: _Steps
) -> dict[str, float]:
    """Run the timed rounds; return the ceiling of each precision in GFLOP/s."""
    samples: dict[str, list[float]] = {}
    precisions = sorted({contender.candidate.precision for contender in contenders})
    for index in range(options.repeat):
        first = index % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            steps.begin(f"round {index + 1} of {options.repeat}: {contender.candidate}")
            contender.run_round()
        for precision in precisions:
            gflops = reference.ask("ceiling", precision=precision)
            if gflops is not None:
                samples.setdefault(precision, []).append(gflops)
    return {precision: median(values) for precision, values in samples.items()}


def agreement(labels: Sequence[Sequence[Labels]], expected: Sequence[Sequence[Labels]]) -> float:
    """Return the share of pixels with the same label, over all images and heads, 0..1."""
    pairs = [(a, b) for image in zip(labels, expected, strict=True) for a, b in zip(*image, strict=True)]
    return float(sum(np.count_nonzero(a == b) for a, b in pairs) / sum(b.size for _, b in pairs))


@dataclass
class _Steps:
    """The number of steps begun, for a progress display."""

    total: int
    on_step: OnStep
    begun: int = 0

    def begin(self, text: str) -> None:
        self.on_step(self.begun, self.total, text)
        self.begun += 1


# ---------------------------------------------------------------------- the figures


def _result(
    contenders: Sequence[_Contender], reference: _Contender, ceilings: Mapping[str, float], gflop: float | None
) -> BenchResult:
    workload, options = reference.workload, reference.options
    peer = next(contender for contender in contenders if contender.failure is None)
    sizes: dict[str, int] = {}
    for frame in workload.frames:
        height, width = frame.size
        sizes[f"{width} x {height}"] = sizes.get(f"{width} x {height}", 0) + 1
    rows = []
    for contender in contenders:
        backend, precision = contender.candidate.backend, contender.candidate.precision
        figures = None
        if contender.failure is None:
            ceiling = ceilings.get(precision) if contender.on_gpu == reference.on_gpu else None
            figures = _figures(contender, peer, ceiling)
        rows.append(Row(backend, precision, contender.device, contender.failure, figures))
    return BenchResult(
        workload.recipe.name, sizes, options, gflop, ceilings, str(peer.candidate), tuple(rows), reference.failure
    )


def _figures(contender: _Contender, peer: _Contender, ceiling: float | None) -> Figures:
    calls = [seconds for round_calls in contender.rounds for seconds in round_calls]
    speed = len(contender.workload.frames) / median(contender.round_seconds)
    gflops = contender.computed_gflop * speed if contender.computed_gflop is not None else None
    ratios = [theirs / own for theirs, own in zip(peer.round_seconds, contender.round_seconds, strict=True)]
    return Figures(
        images_per_second=speed,
        latency_median_seconds=median(calls),
        latency_p95_seconds=float(np.percentile(calls, 95)),
        speed_ratio=median(ratios),
        peak_memory_bytes=contender.peak_bytes,
        load_seconds=contender.load_seconds,
        start_seconds=contender.start_seconds,
        agreement=contender.agreement,
        gflops=gflops,
        ceiling_share=gflops / ceiling if gflops is not None and ceiling else None,
    )
