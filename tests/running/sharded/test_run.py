"""Runs in shards with one worker in this process."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from fcnseg.engine.options import EngineOptions
from fcnseg.errors import CredentialsError, OutputError, SettingsError, SourceError, StorageBusyError
from fcnseg.running.sharded import worker as worker_module
from fcnseg.running.sharded.manifest import finished
from fcnseg.running.sharded.plan import newest_generation
from fcnseg.running.sharded.record import RunRecord
from fcnseg.running.status import read_status
from fcnseg.types import Pixels
from tests.conftest import photograph
from tests.fakes import RedEngine
from tests.running.sharded.conftest import IMAGES, Place, Run, check_exact


class Breaking(RedEngine):
    """Raises an error at its n-th call."""

    def __init__(self, error: BaseException, at: int) -> None:
        super().__init__()
        self.error, self.at = error, at

    def infer(self, inputs: Mapping[str, Pixels], probabilities: bool = False):  # type: ignore[no-untyped-def]
        if len(self.seen) + 1 == self.at:
            self.at = 0
            raise self.error
        return super().infer(inputs, probabilities)


def test_a_run_is_whole_and_the_next_has_nothing_to_do(run: Run, place: Place, photos: Path) -> None:
    summary, _ = run()
    assert (summary.total, summary.done, summary.exit_code) == (IMAGES, IMAGES, 0)
    check_exact(place.bucket, photos)
    before = {found.key: found.modified for found in place.bucket.list()}
    summary, told = run()
    assert (summary.done, summary.kept, told.done) == (0, IMAGES, [])
    after = {found.key: found.modified for found in place.bucket.list()}
    assert {key for key in after if after[key] != before.get(key)} <= {
        f".fcnseg/{name}" for name in ("summary.json", "classes.json", "legend.png")
    }
    found = read_status(place.out, place.options)
    assert (found.parts[0].whole, found.parts[0].done, found.parts[0].at_work) == (True, IMAGES, False)
    assert found.shards
    assert (found.shards.done, found.shards.total) == (5, 5)


def test_new_changed_and_vanished_inputs_become_a_new_generation(run: Run, place: Place, photos: Path) -> None:
    run()
    (photos / "0/00.png").unlink()
    photograph(photos / "1/01.png", width=31, height=20, seed=77)
    photograph(photos / "new.png")
    summary, told = run()
    assert (summary.total, summary.done, summary.kept) == (IMAGES, 2, IMAGES - 2)
    assert sorted(told.done) == ["1/01.png", "new.png"]
    (part,) = read_status(place.out, place.options).parts
    assert (part.whole, part.inputs, part.done) == (True, IMAGES, IMAGES)
    place.bucket.delete("0/00.png")  # of the input that is gone
    check_exact(place.bucket, photos)


def test_failures_are_rows_and_tried_again_when_asked(run: Run, place: Place, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no image")
    (photos / "worse.png").touch()
    summary, _ = run()
    assert (summary.failed, summary.exit_code) == (2, 3)
    check_exact(place.bucket, photos, {"bad.png", "worse.png"})
    summary, _ = run()
    assert (summary.failed, summary.failed_before, [f.key for f in summary.failures]) == (
        2,
        2,
        ["bad.png", "worse.png"],
    )
    photograph(photos / "bad.png")  # changed, and so tried again
    summary, _ = run()
    assert (summary.done, summary.failed_before) == (1, 1)
    summary, _ = run(retry_failed=True)
    assert (summary.done, summary.failed, summary.failed_before, summary.kept) == (0, 1, 0, IMAGES + 1)
    found = read_status(place.out, place.options)
    assert [f.key for f in found.failures()] == ["worse.png"]
    assert (found.parts[0].done, found.parts[0].failed, found.parts[0].whole) == (IMAGES + 1, 1, False)
    check_exact(place.bucket, photos, {"worse.png"})


def test_an_interrupted_run_goes_on_after_its_finished_shards(run: Run, place: Place, photos: Path) -> None:
    summary, _ = run(lambda: Breaking(KeyboardInterrupt(), 11))
    assert (summary.interrupted, summary.exit_code) == (True, 130)
    assert finished(place.bucket, 1) == {0, 1}
    (part,) = read_status(place.out, place.options).parts
    assert (part.done, part.ended, part.at_work) == (8, False, False)
    summary, told = run()
    assert (summary.kept, summary.done, len(told.done)) == (8, IMAGES - 8, IMAGES - 8)
    check_exact(place.bucket, photos)


def test_a_new_listing_takes_over_what_was_not_done(run: Run, place: Place, photos: Path) -> None:
    run(lambda: Breaking(KeyboardInterrupt(), 11))
    photograph(photos / "new.png")
    summary, _ = run()
    assert (summary.total, summary.kept, summary.done) == (IMAGES + 1, 8, IMAGES - 7)
    newest = newest_generation(place.bucket)
    assert newest
    assert (newest.number, newest.planned, newest.done) == (2, IMAGES - 7, 8)
    check_exact(place.bucket, photos)


def test_what_passes_is_put_back_and_what_does_not_stops_the_run(run: Run, place: Place, photos: Path) -> None:
    with pytest.raises(CredentialsError):
        run(lambda: Breaking(CredentialsError("expired"), 7))
    assert finished(place.bucket, 1) == {0}
    summary, told = run(lambda: Breaking(StorageBusyError("too many requests"), 3))
    assert (summary.done, summary.kept, summary.failed) == (IMAGES - 4, 4, 0)
    assert "put back" in told.notes[0]
    check_exact(place.bucket, photos)


def test_the_storage_may_not_answer_for_ever(run: Run) -> None:
    class Busy(RedEngine):
        def infer(self, *_: object):  # type: ignore[no-untyped-def]
            raise StorageBusyError("too many requests")

    with pytest.raises(StorageBusyError):
        run(Busy)


def test_too_many_failures_stop_the_run(run: Run, photos: Path) -> None:
    for i in range(6):
        (photos / f"bad{i}.png").touch()
    summary, _ = run(max_failures=2)
    assert summary.exit_code == 1
    assert "more than 2 images failed" in summary.stopped


def test_parts_share_one_plan(run: Run, place: Place, photos: Path) -> None:
    tallies = [run(num_parts=3, part_id=i)[0] for i in (2, 0)]
    assert not read_status(place.out, place.options).parts[0].whole
    tallies.append(run(num_parts=3, part_id=1)[0])
    assert [summary.total for summary in tallies] == [4, 8, 8]
    assert sum(summary.done for summary in tallies) == IMAGES
    assert run()[0].kept == IMAGES
    check_exact(place.bucket, photos)
    with pytest.raises(SettingsError, match="--retry-failed"):
        run(num_parts=2, retry_failed=True)


def test_a_late_worker_changes_nothing(run: Run, place: Place, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = worker_module.ShardLedger.publish
    put: list[bool] = []

    def late(ledger, bucket, **metadata):  # type: ignore[no-untyped-def]
        put.append(publish(ledger, bucket, **metadata))
        put.append(publish(ledger, bucket, **metadata))  # a worker that was believed dead
        return put[-1]

    monkeypatch.setattr(worker_module.ShardLedger, "publish", late)
    run()
    assert put == [True, False] * 5
    check_exact(place.bucket, photos)


def test_other_settings_need_another_place_and_other_libraries_a_word(run: Run) -> None:
    run()

    class Newer(RedEngine):
        def __init__(self) -> None:
            super().__init__()
            object.__setattr__(self.info, "versions", {"library": "9"})

    class Half(RedEngine):
        def __init__(self) -> None:
            super().__init__()
            object.__setattr__(self.info, "precision", "fp16")

    with pytest.raises(SettingsError, match=r"library was None, is 9.*--accept-changed-environment"):
        run(Newer)
    with pytest.raises(SettingsError, match="precision was fp32, is fp16"):
        run(Half, resume="continue")
    _, told = run(Newer, resume="continue")
    assert "going on although library was None" in told.notes[0]
    run(Newer)


def test_backend_and_precision_are_chosen_once() -> None:
    record = RunRecord({"backend": "torch", "precision": "fp32"}, {})
    stated = EngineOptions(backend="openvino", precision="bf16")
    resolved = [record.resolved(EngineOptions()), record.resolved(stated)]
    assert [(options.backend, options.precision) for options in resolved] == [("torch", "fp32"), ("openvino", "bf16")]


def test_files_that_no_run_made_are_not_replaced(run: Run, place: Place, photos: Path) -> None:
    place.bucket.put("0/04.png", b"mine")
    with pytest.raises(SettingsError, match=r"0/04.png exists and no run of fcnseg made it"):
        run()
    assert [found.key for found in place.bucket.list()] == ["0/04.png"]
    assert run(resume="overwrite")[0].done == IMAGES
    check_exact(place.bucket, photos)


def test_starting_over_removes_what_the_earlier_run_made(run: Run, place: Place, photos: Path) -> None:
    run()
    place.bucket.put("notes.txt", b"mine")
    (photos / "0/00.png").unlink()
    assert run(resume="overwrite")[0].done == IMAGES - 1
    assert place.bucket.get("notes.txt") == b"mine"
    place.bucket.delete("notes.txt")
    newest = newest_generation(place.bucket)
    assert newest
    assert newest.number == 1
    check_exact(place.bucket, photos)


def test_two_inputs_of_one_output_are_refused_and_leave_nothing(run: Run, place: Place, photos: Path) -> None:
    shutil.copy(photos / "0/00.png", photos / "0/00.jpg")
    with pytest.raises(SettingsError, match="would write one output"):
        run()
    assert not list(place.bucket.list())


def test_the_same_inputs_in_another_place_go_on(run: Run, place: Place, photos: Path, tmp_path: Path) -> None:
    run(lambda: Breaking(KeyboardInterrupt(), 11))
    moved = photos.rename(tmp_path / "moved")
    summary, told = run(source=str(moved))
    assert (summary.kept, summary.done) == (8, IMAGES - 8)
    assert "going on although source was" in told.notes[0]
    check_exact(place.bucket, moved)


def test_places_that_cannot_be(run: Run, photos: Path, tmp_path: Path) -> None:
    for out in (photos, photos.parent):
        with pytest.raises(SettingsError, match="holds the inputs"):
            run(source=f"file://{photos}", out=f"file://{out}", storage_options={})
    inside = Place(f"file://{photos}/masks")
    for _ in range(2):  # the label maps are no inputs
        assert run(out=inside.out, storage_options={})[0].total == IMAGES
    with pytest.raises(SettingsError, match="HDF5"):
        run(out="s3://bucket/x.h5")
    with pytest.raises(SettingsError, match="one slash"):
        run(out=Path("s3:/bucket/x"), on="ray")
    with pytest.raises(SettingsError, match="power of two"):
        run(shard_images=3)
    with pytest.raises(SettingsError, match="all of them, or to folders"):
        run(overlay=tmp_path / "drawn")
    with pytest.raises(SourceError, match="no run of fcnseg"):
        read_status(f"file://{tmp_path}/nothing")
    (tmp_path / "local/.fcnseg").mkdir(parents=True)
    (tmp_path / "local/.fcnseg/ledger.sqlite").touch()
    with pytest.raises(SettingsError, match="of one machine"):
        run(out=tmp_path / "local", on="ray", storage_options={})


def test_a_plan_with_an_input_twice_is_no_manifest(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = worker_module.ShardWorker._planned
    monkeypatch.setattr(
        worker_module.ShardWorker, "_planned", lambda self, generation, n: planned(self, generation, n)[:1] * 2
    )
    with pytest.raises(OutputError, match="its plan names an input twice"):
        run()
