"""Benchmarks of engines that behave in known ways, in real processes, and of two real ones."""

import os
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from fcnseg.engine import ceiling
from fcnseg.engine.bench import BenchOptions, BenchResult, Figures, Row, agreement, bench
from fcnseg.engine.bench_frames import made_up_frames
from fcnseg.engine.bench_session import BenchSession, Candidate, Workload, open_candidate, peak_memory_bytes
from fcnseg.engine.ceiling import ceiling_gflops, matrix_product_gflops
from fcnseg.errors import EngineError
from fcnseg.models import network_spec
from fcnseg.models.arithmetic import computed_gflop, network_gflop
from fcnseg.recipes import find_recipe
from fcnseg.types import Engine, Labels, Pixels, Probabilities
from tests.conftest import TinyModel
from tests.fakes import RedEngine

QUICK = BenchOptions(repeat=2, batch_size=2, warm_up=1)


class OddEngine(RedEngine):
    """Red's labels, except that its name makes it misbehave."""

    def __init__(self, habit: str) -> None:
        super().__init__()
        self.habit = habit
        self.held = bytearray(256 * 2**20) if habit == "large" else None

    def infer(
        self, inputs: Mapping[str, Pixels], probabilities: bool = False
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        labels, values = super().infer(inputs, probabilities)
        if self.habit == "noisy":
            os.write(1, b"a library prints on standard output\n")
        if self.habit == "wrong":
            labels["labels"][:, 0] += 1  # the first row of every image
        if self.habit == "raises" and len(self.seen) > 2:
            raise ValueError("out of\nideas")
        if self.habit == "killed" and len(self.seen) > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.habit == "aborts":
            os.write(2, b"terminate called: bad alloc\n")
            os.abort()
        if self.habit == "pairs" and self.seen[-1][0] > 2:
            raise ValueError("more than two images in a call")
        return labels, values


def open_odd(candidate: Candidate) -> Engine:
    if candidate.backend == "absent":
        raise EngineError("absent is not installed; install it")
    return OddEngine(candidate.backend)


def open_real(recipe: Path, weights: Path, candidate: Candidate) -> Engine:
    from fcnseg.engine.runtimes.pytorch import TorchEngine  # the processes of the others start without torch

    return TorchEngine(find_recipe(recipe), weights, "cpu", precision=candidate.precision)


def odd_workload(tiny: TinyModel) -> Workload:
    recipe = find_recipe(tiny.recipe)
    frames = (*made_up_frames(recipe, (20, 30), 2), *made_up_frames(recipe, (16, 12), 1))
    return Workload(recipe, frames, open_odd, "cpu")


def nothing_is_left() -> bool:
    """No subprocess of a benchmark runs."""
    children = psutil.Process().children(recursive=True)
    return not [c for c in children if "fcnseg.workers.remote" in c.cmdline()]


FAILING = ("absent", "raises", "killed", "aborts")


@dataclass(frozen=True)
class Run:
    """A benchmark of every odd engine: its rows by backend, its steps, and what reached standard output."""

    result: BenchResult
    rows: dict[str, Row]
    steps: list[tuple[int, int, str]]
    printed: str

    def figures(self, backend: str) -> Figures:
        found = self.rows[backend].figures
        assert found is not None, self.rows[backend].failure
        return found


@pytest.fixture(scope="module")
def odd(tiny: TinyModel) -> Run:
    steps: list[tuple[int, int, str]] = []
    names = ("noisy", "wrong", "large", "pairs", *FAILING)
    with tempfile.TemporaryFile() as printed:
        kept = os.dup(1)
        os.dup2(printed.fileno(), 1)
        try:
            candidates = [Candidate(name, "fp32") for name in names]
            result = bench(candidates, odd_workload(tiny), QUICK, lambda *step: steps.append(step))
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        printed.seek(0)
        return Run(result, {row.backend: row for row in result.rows}, steps, printed.read().decode())


def test_those_that_fail_are_rows_with_the_reason_and_the_rest_go_on(odd: Run) -> None:
    assert tuple(name for name, row in odd.rows.items() if row.failure) == FAILING
    assert all(odd.rows[name].figures is None for name in FAILING)
    assert odd.rows["absent"].failure == "absent is not installed; install it"
    assert odd.rows["raises"].failure == "out of in round 1"
    assert "was killed" in (odd.rows["killed"].failure or "")
    assert "leave other engines out" in (odd.rows["killed"].failure or "")
    assert "SIGABRT: terminate called: bad alloc" in (odd.rows["aborts"].failure or "")
    assert [row.backend for row in odd.result.measured] == ["noisy", "wrong", "large", "pairs"]
    assert nothing_is_left()


def test_labels_are_compared_image_by_image(odd: Run) -> None:
    assert odd.result.sizes == {"30 x 20": 2, "12 x 16": 1}
    assert odd.figures("noisy").agreement == odd.figures("pairs").agreement == 1
    assert odd.figures("wrong").agreement == pytest.approx(1 - (30 + 30 + 12) / (2 * 600 + 192))
    assert (odd.result.peer, odd.figures("noisy").speed_ratio) == ("noisy:fp32", 1)
    assert odd.result.reference_failure is None


def test_a_processs_peak_is_its_own(odd: Run) -> None:
    large, plain = (odd.figures(name).peak_memory_bytes for name in ("large", "noisy"))
    assert large - plain > 200 * 2**20
    assert plain > 10 * 2**20
    assert peak_memory_bytes() >= 0.9 * psutil.Process().memory_info().rss  # the kernel counts both in batches


def test_steps_are_counted_and_libraries_that_print_are_not_heard(odd: Run) -> None:
    assert [done for done, _, _ in odd.steps] == list(range(1 + 8 * 4))
    assert {total for _, total, _ in odd.steps} == {1 + 8 * 4}
    assert odd.printed == ""


def test_an_interrupt_leaves_no_process(tiny: TinyModel) -> None:
    def interrupt(*step: object) -> None:
        if str(step[2]).startswith("round"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench([Candidate("plain", "fp32")], odd_workload(tiny), QUICK, interrupt)
    assert nothing_is_left()


def test_nothing_to_measure_and_nothing_measured(tiny: TinyModel) -> None:
    with pytest.raises(EngineError, match="name at least one engine"):
        bench([], odd_workload(tiny))
    with pytest.raises(EngineError, match="absent:fp32: absent is not installed"):
        bench([Candidate("absent", "fp32")], odd_workload(tiny))


def test_real_engines_agree_and_their_arithmetic_is_counted(tiny: TinyModel) -> None:
    recipe = find_recipe(tiny.recipe)
    workload = Workload(recipe, tuple(made_up_frames(recipe, (48, 64), 2)), partial(open_real, *_files(tiny)), "cpu")
    result = bench([Candidate("torch", "fp32")], workload, QUICK)
    assert result.peer == "torch:fp32"
    assert result.gflop_per_image == pytest.approx(network_gflop(network_spec(recipe), 48, 64))
    assert result.ceilings_gflops["fp32"] > 0
    for row in result.rows:
        assert (row.failure, row.device) == (None, "cpu")
        figures = row.figures
        assert figures is not None
        assert figures.agreement is not None
        assert figures.agreement >= 0.999
        done = computed_gflop(network_spec(recipe), 48, 64)
        assert done < result.gflop_per_image
        assert figures.gflops == pytest.approx(done * figures.images_per_second)
        assert figures.ceiling_share is not None
        assert 0 < figures.latency_median_seconds <= figures.latency_p95_seconds
        assert min(figures.load_seconds, figures.start_seconds) > 0


def _files(tiny: TinyModel) -> tuple[Path, Path]:
    return tiny.recipe, tiny.weights


def test_the_arithmetic_that_an_engine_leaves_out_is_not_counted(coarse: TinyModel) -> None:
    recipe = find_recipe(coarse.recipe)
    opener = partial(open_candidate, str(coarse.recipe), coarse.weights, "cpu", None, {})
    session = BenchSession(
        Candidate("openvino", "fp32"), Workload(recipe, tuple(made_up_frames(recipe, (48, 64), 1)), opener, "cpu"), 1
    )
    session.open()
    assert session.computed_gflop() == computed_gflop(network_spec(recipe), 48, 64, coarse=True)
    session.close()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_ceilings(precision: str) -> None:
    found, product = ceiling_gflops(precision, "cpu"), matrix_product_gflops(precision, "cpu")
    assert found is not None
    assert found > 0.1
    assert product is None or product > 0.1


def test_what_nothing_computes_in_has_no_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ceiling_gflops("fp16", "cpu") is None
    monkeypatch.setattr(ceiling, "processor_has", lambda precision: False)
    assert ceiling_gflops("bf16", "cpu") is None


def test_ceilings_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "find_spec", lambda name: None)
    assert (matrix_product_gflops("fp32", "cpu") or 0) > 0.1
    assert matrix_product_gflops("bf16", "cpu") is None


def test_agreement_is_over_all_pixels() -> None:
    small, large = np.zeros((1, 2), np.uint8), np.zeros((3, 2), np.uint8)
    assert agreement([[small], [large]], [[small + 1], [large]]) == 0.75
