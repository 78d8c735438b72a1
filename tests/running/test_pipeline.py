import errno
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fcnseg.errors import FcnsegError, ImageError, OutputError
from fcnseg.io.parts import Part
from fcnseg.io.remarks import remark
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.running import pipeline
from fcnseg.running.hooks import Hooks
from fcnseg.running.ledger import SqliteLedger
from fcnseg.running.memory_ledger import MemoryLedger
from fcnseg.running.pipeline import MOST_REMARKS, Pipeline
from fcnseg.running.predictor import Predictor
from fcnseg.types import Failure, Frame, Reference, Reserve, Sink, Source, Summary
from tests.fakes import MemorySource, RawSink, RedEngine

KEYS = [f"{i:02d}.jpg" for i in range(20)]
BROKEN = {key: ImageError(f"{key} is broken") for key in KEYS[4::5]}
SIZES = {key: (3 + i % 4, 5 + i % 3) for i, key in enumerate(KEYS)}


class Place:
    """An output folder, and runs over it."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder, self.recipe = folder, recipe
        self.records = folder / ".fcnseg"
        self.records.mkdir(parents=True)

    def ledger(self) -> SqliteLedger:
        return SqliteLedger(self.records / "ledger.sqlite", self.folder)

    def run(
        self, source: Source, engine: Any = None, sinks: list[Sink] | None = None, hooks: Any = None, **options: Any
    ) -> Summary:
        predictor = Predictor(engine or RedEngine(), self.recipe)
        with self.ledger() as ledger:
            return Pipeline(
                source,
                predictor,
                sinks or [RawSink(self.folder)],
                ledger,
                total=20,
                hooks=hooks or Hooks(),
                **options,
            ).run()

    def files(self) -> dict[str, bytes]:
        return {p.stem: p.read_bytes() for p in self.folder.rglob("*") if p.is_file() and self.records not in p.parents}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "out", find_recipe("street-fcn8s"))


def expected(source: MemorySource) -> dict[str, bytes]:
    keys = [key for key in source.keys if key not in source.broken]
    return {key.removesuffix(".jpg"): (source.pixels(key)[..., 0] >> 6).tobytes() for key in keys}


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("max_batch", [1, 4])
def test_every_input_ends_done_or_as_a_record(place: Place, workers: int, max_batch: int) -> None:
    source, sink, heard = MemorySource(KEYS, BROKEN, SIZES), RawSink(place.folder), []
    engine = RedEngine(max_batch=max_batch)
    hooks = Hooks(on_result=lambda key, failure: heard.append(key))
    summary = place.run(source, engine, [sink], hooks, workers=workers)
    assert (summary.done, summary.failed, summary.kept, summary.exit_code) == (16, 4, 0, 3)
    assert {f.key: (f.stage, f.reason) for f in summary.failures} == {k: ("load", f"{k} is broken") for k in BROKEN}
    assert sorted(heard) == KEYS
    assert place.files() == expected(source)
    assert all(batch <= max_batch for batch, *_ in engine.seen)
    with place.ledger() as ledger:
        assert ledger.counts() == {"done": 16, "failed": 4}
    assert not list(place.records.glob("*.lock"))


def test_any_ledger_will_do(place: Place) -> None:
    ledger, source = MemoryLedger(str(place.folder)), MemorySource(KEYS, BROKEN, SIZES)
    for done, kept in ((16, 0), (0, 16)):
        summary = Pipeline(source, Predictor(RedEngine(), place.recipe), [RawSink(place.folder)], ledger).run()
        assert (summary.done, summary.kept, summary.failed) == (done, kept, 4)
        assert ledger.counts() == {"done": 16, "failed": 4}
    assert place.files() == expected(source)


@pytest.mark.parametrize("count", [3, 40])
def test_harmless_faults_are_told_while_they_are_few(place: Place, count: int) -> None:
    class Faulty(MemorySource):
        def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
            remark("its tEXt is damaged")
            return super().load(reference, reserve)

    notes: list[str] = []
    keys = [f"{i}.jpg" for i in range(count)]
    assert place.run(Faulty(keys), hooks=Hooks(on_note=notes.append)).exit_code == 0
    assert len(notes) == min(count, MOST_REMARKS)
    if count <= MOST_REMARKS:
        assert sorted(notes) == [f"{key}: its tEXt is damaged" for key in keys]
    else:
        assert sum(note.endswith("are not told") for note in notes) == 1


def test_what_a_decoder_took_is_free_again(place: Place) -> None:
    """Frames that wait for their batch must not keep others from being decoded."""

    class Greedy(MemorySource):
        def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
            return super().load(reference, lambda nbytes: reserve(nbytes + 900))

    engine = RedEngine(max_batch=4)
    summary = place.run(Greedy([f"{i}.jpg" for i in range(12)]), engine, ahead_bytes=1000, workers=1)
    assert summary.done == 12


def test_images_of_one_size_are_batched(place: Place) -> None:
    ready = threading.Event()

    class Waiting(RedEngine):
        def infer(self, inputs: Any, probabilities: bool = False) -> Any:
            ready.wait(5)  # until all images are decoded
            return super().infer(inputs, probabilities)

    class Telling(MemorySource):
        def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
            frame = super().load(reference, reserve)
            if len(self.loaded) == 12:
                threading.Timer(0.2, ready.set).start()
            return frame

    engine = Waiting(max_batch=4)
    source = Telling(KEYS[:12], sizes={key: (2, 2 + i % 2) for i, key in enumerate(KEYS[:12])})
    place.run(source, engine, workers=2)
    assert max(batch for batch, *_ in engine.seen) == 4
    assert place.files() == expected(source)


def test_a_second_run_has_nothing_to_do(place: Place) -> None:
    place.run(MemorySource(KEYS, BROKEN))
    source, sink, kept = MemorySource(KEYS, BROKEN), RawSink(place.folder), []
    summary = place.run(source, sinks=[sink], hooks=Hooks(on_kept=kept.append))
    assert (summary.done, summary.kept, summary.failed, summary.failed_before) == (0, 16, 4, 4)
    assert summary.exit_code == 3
    assert sorted(kept) == sorted(set(KEYS) - set(BROKEN))
    assert source.loaded == sink.written == []


def test_a_run_that_is_stopped_looks_at_no_more_of_what_is_done(place: Place) -> None:
    keys = [f"{i:04}.jpg" for i in range(1000)]
    place.run(MemorySource(keys))
    (place.folder / "0000.raw").unlink()
    interrupted = threading.Event()

    class Interrupted(RedEngine):
        def infer(self, *_: Any, **__: Any) -> Any:
            interrupted.set()
            raise KeyboardInterrupt

    kept = []

    def on_kept(key: str) -> None:
        if key == "0300.jpg":  # by then, the first is at work
            assert interrupted.wait(10)
            time.sleep(0.1)  # until all are told to stop
        kept.append(key)

    summary = place.run(MemorySource(keys), Interrupted(), hooks=Hooks(on_kept=on_kept))
    assert summary.interrupted
    assert len(kept) < 600


def test_only_failures_are_tried_again_when_asked(place: Place) -> None:
    place.run(MemorySource(KEYS, BROKEN))
    source = MemorySource(KEYS, dict(list(BROKEN.items())[:1]))
    summary = place.run(source, retry_failed=True)
    assert sorted(source.loaded) == sorted(BROKEN)
    assert (summary.done, summary.kept, summary.failed, summary.failed_before) == (3, 16, 1, 0)
    with place.ledger() as ledger:
        assert ledger.counts() == {"done": 19, "failed": 1}


def test_outputs_that_are_not_as_written_and_changed_inputs_are_done_again(place: Place) -> None:
    place.run(MemorySource(KEYS))
    whole = place.files()
    (place.folder / "03.raw").unlink()
    (place.folder / "05.raw").write_bytes(b"half")
    (place.folder / "07.raw").write_bytes(whole["07"][::-1])
    source = MemorySource(KEYS)
    source.fingerprints["09.jpg"] = "2"
    summary = place.run(source)
    assert sorted(source.loaded) == ["03.jpg", "05.jpg", "07.jpg", "09.jpg"]
    assert (summary.done, summary.kept) == (4, 16)
    assert place.files() == whole


def test_a_further_sink_makes_everything_new(place: Place, tmp_path: Path) -> None:
    place.run(MemorySource(KEYS))
    summary = place.run(MemorySource(KEYS), sinks=[RawSink(place.folder), RawSink(tmp_path / "more")])
    assert (summary.done, summary.kept) == (20, 0)


def test_parts_add_up_to_the_whole(place: Place) -> None:
    source = MemorySource(KEYS)
    for i in range(3):
        with SqliteLedger(place.records / f"ledger-{i}-of-3.sqlite", place.folder) as ledger:
            predictor = Predictor(RedEngine(), place.recipe)
            Pipeline(source, predictor, [RawSink(place.folder)], ledger, Part(i, 3)).run()
    assert sorted(source.loaded) == KEYS
    assert place.files() == expected(source)


def test_what_cannot_be_listed_is_a_failure(place: Place) -> None:
    summary = place.run(MemorySource(KEYS[:1], unlisted=[Failure("lost+found/", "list", "why")]))
    assert (summary.done, summary.failures) == (1, [Failure("lost+found/", "list", "why")])
    assert summary.exit_code == 3


def test_an_image_the_engine_refuses_is_a_record(place: Place) -> None:
    summary = place.run(MemorySource(KEYS, sizes=SIZES), RedEngine(widest_px=6))
    assert {f.key for f in summary.failures} == {key for key, (_, width) in SIZES.items() if width > 6}
    assert {(f.stage, f.reason) for f in summary.failures} == {("predict", "too wide")}
    assert summary.done + summary.failed == 20


def test_a_reader_that_breaks_in_an_unforeseen_way_fails_that_image(place: Place) -> None:
    summary = place.run(MemorySource(KEYS, {"03.jpg": ZeroDivisionError("oh\nno")}))
    assert summary.failures == [Failure("03.jpg", "load", "cannot be read: ZeroDivisionError: oh no")]
    assert summary.done == 19


def test_a_fingerprint_that_cannot_be_had_fails_that_image(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemorySource, "fingerprint", lambda _, reference: f"{1 / (reference.key != '03.jpg')}")
    summary = place.run(MemorySource(KEYS))
    assert summary.failures == [Failure("03.jpg", "load", "cannot be read: ZeroDivisionError: division by zero")]
    assert summary.done == 19


def test_a_name_that_cannot_be_written_is_a_record(place: Place) -> None:
    sink = RawSink(place.folder, {"03": OSError(errno.ENAMETOOLONG, "File name too long")})
    summary = place.run(MemorySource(KEYS), sinks=[sink])
    assert summary.failures == [Failure("03.jpg", "write", "File name too long")]
    assert summary.done == 19


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_an_output_that_is_at_fault_ends_the_run_and_the_next_goes_on(place: Place, number: int) -> None:
    source = MemorySource([f"{i:04}.jpg" for i in range(500)])
    with pytest.raises(OutputError, match=r"run the same command again") as caught:
        place.run(source, sinks=[RawSink(place.folder, {"0002": OSError(number, "no more")})])
    assert "\n" not in str(caught.value)
    assert len(source.loaded) < 400
    again = MemorySource(source.keys)
    summary = place.run(again)
    assert summary.done + summary.kept == 500
    assert summary.kept > 0
    assert place.files() == expected(source)


def test_the_run_stops_after_too_many_failures(place: Place) -> None:
    keys = [f"{i:04}.jpg" for i in range(500)]
    source = MemorySource(keys, {key: ImageError("broken") for key in keys[::2]})
    summary = place.run(source, max_failures=3)
    assert summary.failed > 3
    assert len(source.loaded) < 400
    assert "more than 3" in summary.stopped
    assert summary.exit_code == 1


def test_what_cannot_be_listed_counts_among_the_failures_allowed(place: Place) -> None:
    unlisted = [Failure(f"{i}/", "list", "why") for i in range(1000)]
    summary = place.run(MemorySource(KEYS, unlisted=unlisted), max_failures=3)
    assert (summary.failed, summary.done, summary.exit_code) == (4, 0, 1)
    assert "more than 3" in summary.stopped


def test_failures_of_earlier_runs_are_heard_of_apart_and_stop_nothing(place: Place) -> None:
    source, before, heard = MemorySource(KEYS, BROKEN), [], []
    place.run(source)
    hooks = Hooks(on_result=lambda key, failure: heard.append(key), on_failed_before=before.append)
    summary = place.run(source, hooks=hooks, max_failures=0)
    assert (summary.failed_before, summary.stopped, heard) == (4, "", [])
    assert {failure.key for failure in before} == set(BROKEN)


class Interrupting(RedEngine):
    """Raises at the n-th call."""

    def __init__(self, call: int, error: BaseException) -> None:
        super().__init__()
        self.call, self.error = call, error

    def infer(self, inputs: Any, probabilities: bool = False) -> Any:
        if len(self.seen) == self.call:
            raise self.error
        return super().infer(inputs, probabilities)


def test_ctrl_c_keeps_what_is_whole_and_the_next_run_goes_on(place: Place) -> None:
    summary = place.run(MemorySource(KEYS), Interrupting(7, KeyboardInterrupt()))
    assert (summary.interrupted, summary.exit_code, summary.done) == (True, 130, 7)
    assert len(place.files()) == 7
    with place.ledger() as ledger:
        assert ledger.counts() == {"done": 7}
    summary = place.run(MemorySource(KEYS))
    assert (summary.done, summary.kept) == (13, 7)
    assert place.files() == expected(MemorySource(KEYS))


def test_an_engine_that_raises_on_the_third_batch_ends_the_run(place: Place) -> None:
    with pytest.raises(RuntimeError, match="lost the device"):
        place.run(MemorySource(KEYS), Interrupting(2, RuntimeError("lost the device")))
    assert len(place.files()) == 2
    assert place.run(MemorySource(KEYS)).kept == 2


@pytest.mark.parametrize("stage", ["list", "load", "write"])
def test_a_thread_that_dies_ends_the_run(place: Place, stage: str) -> None:
    keys = [f"{i:04}.jpg" for i in range(300)]

    class Dying(MemorySource):
        def __iter__(self) -> Any:
            for i, reference in enumerate(super().__iter__()):
                if stage == "list" and i == 3:
                    raise SystemExit("died listing")
                yield reference

    source = Dying(keys, {keys[3]: SystemExit("died loading")} if stage == "load" else None)  # type: ignore[dict-item]
    sink = RawSink(place.folder, {"0003": SystemExit("died writing")} if stage == "write" else None)
    with pytest.raises(SystemExit, match="died"):
        place.run(source, sinks=[sink])
    assert place.run(MemorySource(keys)).done > 0
    assert place.files() == expected(MemorySource(keys))
    assert not [t for t in threading.enumerate() if t.name.startswith(("decode", "write", "list", "ledger"))]


def test_memory_is_bounded_by_bytes(place: Place) -> None:
    """A slow writer: no more is decoded than there is room for."""
    alive: set[int] = set()
    slowly = threading.Lock()
    most = 0

    class Counting(MemorySource):
        def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
            nonlocal most
            frame = super().load(reference, reserve)
            alive.add(id(frame))
            most = max(most, len(alive))
            return frame

    class Slow(RawSink):
        def encode(self, frame: Frame, prediction: Any) -> Any:
            with slowly:  # one at a time
                time.sleep(0.005)
            yield from super().encode(frame, prediction)
            alive.discard(id(frame))

    keys = [f"{i:03}.jpg" for i in range(60)]
    sizes = dict.fromkeys(keys, (10, 10))
    place.run(Counting(keys, sizes=sizes), sinks=[Slow(place.folder)], workers=4, ahead_bytes=5 * 300)
    assert most <= 5
    assert len(place.files()) == 60


def test_an_image_larger_than_the_budget_goes_alone(place: Place) -> None:
    sizes = {key: (10, 10) if i % 3 else (40, 40) for i, key in enumerate(KEYS)}
    source = MemorySource(KEYS, sizes=sizes)
    assert place.run(source, workers=3, ahead_bytes=900).done == 20
    assert place.files() == expected(source)


def test_inputs_of_a_living_process_are_waited_for_and_those_of_a_dead_one_taken_over(place: Place) -> None:
    source = MemorySource(KEYS)
    with place.ledger() as ledger, ledger.new_claimant() as other:
        ledger.claim(["03.jpg", "04.jpg"], other, {})
        ledger.claim(["05.jpg"], "dead-0", {})
        result: list[Summary] = []
        thread = threading.Thread(target=lambda: result.append(place.run(source)))
        thread.start()
        deadline = time.monotonic() + 10
        while len(place.files()) < 18 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)
        assert thread.is_alive()
        assert sorted(source.loaded) == [key for key in KEYS if key not in ("03.jpg", "04.jpg")]
    thread.join(10)  # the other has ended without them
    assert sorted(source.loaded) == KEYS
    assert result[0].done == 20


def test_two_runs_at_once_share_the_work(place: Place) -> None:
    keys = [f"{i:03}.jpg" for i in range(200)]
    sources = [MemorySource(keys), MemorySource(keys)]
    found: list[Summary] = []
    threads = [threading.Thread(target=lambda s=s: found.append(place.run(s))) for s in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(sources[0].loaded + sources[1].loaded) == keys
    assert [s.done + s.kept for s in found] == [200, 200]
    assert sum(s.done for s in found) == 200
    assert place.files() == expected(MemorySource(keys))


def test_stages_say_where_the_time_went(place: Place) -> None:
    class Slow(RedEngine):
        def infer(self, inputs: Any, probabilities: bool = False) -> Any:
            time.sleep(0.02)
            return super().infer(inputs, probabilities)

    summary = place.run(MemorySource(KEYS), Slow())
    assert list(summary.stages) == ["list", "decode", "predict", "write"]
    assert summary.stages["predict"].busy_seconds > 0.4
    assert summary.stages["predict"].utilisation > 0.5 > summary.stages["decode"].utilisation


class StuckSource(MemorySource):
    """Never comes back from decoding some of its images, as a library may for minutes."""

    stuck = threading.Event()

    def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
        if reference.key in ("02.jpg", "05.jpg"):
            self.stuck.wait(60)
        return super().load(reference, reserve)


def test_ctrl_c_does_not_wait_for_a_decoder(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LEAVING_SECONDS", 0.1)
    source = StuckSource(KEYS)
    start = time.monotonic()
    summary = place.run(source, Interrupting(9, KeyboardInterrupt()), workers=4)
    assert (summary.interrupted, summary.done) == (True, 9)
    assert time.monotonic() - start < 30
    with place.ledger() as ledger:
        assert ledger.counts() == {"done": 9}, "what was being decoded is claimed no more"
    source.stuck.set()
    assert place.run(MemorySource(KEYS)).kept == 9
    assert place.files() == expected(MemorySource(KEYS))


@pytest.mark.parametrize("allowed", range(9))
def test_threads_that_cannot_start_are_done_without(
    place: Place, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    """Each input ends however many threads start, as long as every stage has one."""
    begin, begun, notes = threading.Thread.start, [0], []

    def start(thread: threading.Thread) -> None:
        begun[0] += 1
        if begun[0] > allowed:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    hooks = Hooks(on_note=notes.append)
    if allowed < 4:  # the ledger's, the lister, a writer, a decoder
        with pytest.raises(FcnsegError, match="allows no more threads"):
            place.run(MemorySource(KEYS), hooks=hooks, workers=3)
    else:
        summary = place.run(MemorySource(KEYS), hooks=hooks, workers=3)
        assert summary.done == 20
        assert summary.stages["decode"].threads == (allowed - 2) // 2
        assert place.files() == expected(MemorySource(KEYS))
    assert len(notes) == (4 <= allowed < 8)
    assert not [t for t in threading.enumerate() if t.name.startswith(("decode", "write", "list", "ledger"))]
    monkeypatch.undo()
    assert place.run(MemorySource(KEYS)).exit_code == 0
    assert place.files() == expected(MemorySource(KEYS))


def test_a_file_of_a_claimed_input_is_not_foreign_after_ctrl_c(place: Place) -> None:
    place.run(MemorySource(KEYS))
    changed = MemorySource(KEYS)
    changed.fingerprints = dict.fromkeys(KEYS, "2")
    assert place.run(changed, Interrupting(0, KeyboardInterrupt())).interrupted
    assert place.run(changed).exit_code == 0
    assert place.files() == expected(changed)


def test_a_file_of_a_claimed_input_is_not_foreign_after_an_error_of_a_later_sink(place: Place, tmp_path: Path) -> None:
    second = RawSink(tmp_path / "more", {"03": OSError(errno.ENOSPC, "no space")})
    with pytest.raises(OutputError):
        place.run(MemorySource(KEYS), sinks=[RawSink(place.folder), second])
    summary = place.run(MemorySource(KEYS), sinks=[RawSink(place.folder), second])
    assert (summary.exit_code, summary.done + summary.kept) == (0, 20)


def test_an_input_that_could_not_be_read_for_a_while_is_done_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.run(MemorySource(KEYS))
    with monkeypatch.context() as patch:
        patch.setattr(MemorySource, "fingerprint", lambda _, reference: f"{1 // (reference.key != '03.jpg')}")
        assert [failure.key for failure in place.run(MemorySource(KEYS)).failures] == ["03.jpg"]
    summary = place.run(MemorySource(KEYS))
    assert (summary.exit_code, summary.done, summary.kept) == (0, 1, 19)


def test_what_dead_processes_left_is_removed(place: Place) -> None:
    place.run(MemorySource(KEYS))
    (place.records / "gone-0.lock").write_text("{}")
    unfinished = [folder / ".fcnseg-part-gone-1-2" for folder in (place.folder, place.records)]
    for path in unfinished:
        path.touch()
    (place.folder / ".fcnseg-part-other-1-2").touch()  # of a run with records elsewhere
    place.run(MemorySource(KEYS))
    assert [path.name for path in place.folder.glob(".fcnseg-part-*")] == [".fcnseg-part-other-1-2"]
    assert sorted(path.name for path in place.records.iterdir()) == ["ledger.sqlite"]
