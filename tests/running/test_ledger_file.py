"""Ledgers that a power cut left, and drives that lack what SQLite needs."""

import errno
import fcntl
import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fcnseg.errors import OutputError
from fcnseg.running import claims, ledger_file
from fcnseg.running.drives import file_system
from fcnseg.running.ledger import SqliteLedger, has_begun
from fcnseg.types import Settled
from tests.conftest import TinyModel, photograph


def journal_mode(file: Path) -> str:
    with sqlite3.connect(file) as database:
        return str(database.execute("PRAGMA journal_mode").fetchone()[0])


@pytest.mark.parametrize("content", [b"", bytes(4096)])
def test_a_ledger_whose_making_was_cut_off_is_a_new_one(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ledger.sqlite"
    file.write_bytes(content)
    (tmp_path / "ledger.sqlite-wal").write_bytes(b"of another time" * 99)
    (tmp_path / "ledger.sqlite-new").write_bytes(b"half")
    assert not has_begun(file)
    with SqliteLedger(file, tmp_path, reading=True) as ledger:
        assert (ledger.counts(), file.read_bytes()) == ({}, content)
    with SqliteLedger(file, tmp_path) as ledger:
        assert ledger.agree(settings=1) == {"settings": 1}
    assert has_begun(file)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


@pytest.mark.parametrize("torn", [0, 1, 100, 5000])
def test_a_torn_log_costs_what_was_not_committed_and_no_more(tmp_path: Path, torn: int) -> None:
    file, cut = tmp_path / "ledger.sqlite", tmp_path / "cut"
    cut.mkdir()
    with SqliteLedger(file, tmp_path) as ledger:
        ledger.agree(settings=1)
        ledger.settle([Settled("a", "f")])
        size = (tmp_path / "ledger.sqlite-wal").stat().st_size
        ledger.settle([Settled("b", "f")])
        for name in ("ledger.sqlite", "ledger.sqlite-wal"):
            shutil.copy(tmp_path / name, cut)
    with (cut / "ledger.sqlite-wal").open("rb+") as log:
        log.truncate(size + torn)
        log.seek(size + torn // 2)
        log.write(bytes(torn - torn // 2))
    with SqliteLedger(cut / "ledger.sqlite", cut) as ledger:
        assert (ledger.fact("settings"), "a" in ledger.rows(["a", "b"])) == (1, True)


def test_a_commit_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    with SqliteLedger(tmp_path / "ledger.sqlite", tmp_path) as ledger, ledger._reading() as database:
        assert database.execute("PRAGMA synchronous").fetchone() == (3,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.fixture
def no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite as on a drive without shared memory maps."""

    def connected(file: Path | str) -> sqlite3.Connection:
        uri = f"{Path(file).absolute().as_uri()}?vfs=unix-dotfile"
        return sqlite3.connect(uri, timeout=5, isolation_level=None, check_same_thread=False, uri=True)

    monkeypatch.setattr(ledger_file, "_connected", connected)


@pytest.mark.usefixtures("no_shared_memory")
def test_without_shared_memory_the_ledger_has_a_rollback_journal(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    for keys in (["a", "b"], ["c"]):
        with SqliteLedger(file, tmp_path) as ledger, ledger.new_claimant() as claimant:
            assert ledger.claim(keys, claimant, {}) == keys
            ledger.settle([Settled(key, "f") for key in keys])
            with ledger._reading() as database:
                assert database.execute("PRAGMA synchronous").fetchone() == (3,)
    assert journal_mode(file) == "delete"
    with SqliteLedger(file, tmp_path, reading=True) as ledger:
        assert ledger.counts() == {"done": 3}


def test_a_log_whose_memory_cannot_be_mapped_only_shows_at_its_first_use(tmp_path: Path) -> None:
    """FUSE drives with direct I/O grant SQLite the log, and the map of its memory fails when it is first read."""
    file, memory = tmp_path / "ledger.sqlite", tmp_path / "ledger.sqlite-shm"
    ledger_file._make(file)
    for key in ("a", "b"):
        memory.symlink_to(tmp_path / "absent" / "memory")  # cannot be opened
        with SqliteLedger(file, tmp_path) as ledger, ledger.new_claimant() as claimant:
            assert ledger.claim([key], claimant, {}) == [key]
            ledger.settle([Settled(key, "f")])
        assert journal_mode(file) == "delete"
        assert not memory.is_symlink()
    with closing(sqlite3.connect(file)) as elsewhere:  # whose log comes along, for somebody who only looks
        elsewhere.execute("PRAGMA journal_mode=WAL")
        elsewhere.execute("UPDATE images SET state = 'failed' WHERE key = ?", (b"b",))
        elsewhere.commit()
        shutil.copytree(tmp_path, tmp_path / "moved", ignore=shutil.ignore_patterns("*-shm", "moved"))
    moved = tmp_path / "moved" / file.name
    moved.with_name(memory.name).symlink_to(tmp_path / "absent" / "memory")
    with SqliteLedger(moved, moved.parent, reading=True) as ledger:
        assert ledger.counts() == {"done": 1, "failed": 1}


def test_a_log_from_another_drive_is_read_without_shared_memory(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    with SqliteLedger(tmp_path / "ledger.sqlite", tmp_path) as ledger:
        ledger.settle([Settled("a", "f")])
        for name in ("ledger.sqlite", "ledger.sqlite-wal"):
            shutil.copy(tmp_path / name, moved)
    request.getfixturevalue("no_shared_memory")
    with SqliteLedger(moved / "ledger.sqlite", moved) as ledger:
        assert ledger.counts() == {"done": 1}
    assert journal_mode(moved / "ledger.sqlite") == "delete"


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_BUSY])
def test_a_drive_without_locks_is_named_as_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def failing(_: object) -> sqlite3.Connection:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(fcntl, "lockf", refused)
    monkeypatch.setattr(ledger_file, "_connected", failing)
    with pytest.raises(OutputError, match=r"drive has no POSIX locks.*local drive") as caught:
        SqliteLedger(tmp_path / "ledger.sqlite", tmp_path)
    assert "space" not in str(caught.value)


def test_a_drive_without_file_locks_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(OutputError, match="cannot be locked: No locks available"):
        SqliteLedger(tmp_path / "ledger.sqlite", tmp_path)


def test_a_damaged_ledger_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"no database at all, but long enough to be looked at" * 99)
    with pytest.raises(OutputError, match=r"damaged.*--overwrite"):
        SqliteLedger(tmp_path / "ledger.sqlite", tmp_path)


class TestAnotherMachine:
    @pytest.fixture
    def lock(self, tmp_path: Path) -> Path:
        file = tmp_path / "0123-0.lock"
        file.write_text(json.dumps({"host": "elsewhere", "boot": "another"}))
        return file

    @pytest.fixture
    def network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(claims, "locks_reach_all", lambda folder: False)

    def test_is_refused_where_its_lock_is_seen(self, tmp_path: Path, lock: Path) -> None:
        with FileLock(lock), pytest.raises(OutputError, match=r"elsewhere works on .*--num-parts"):
            SqliteLedger(tmp_path / "ledger.sqlite", tmp_path)
        assert not (tmp_path / "ledger.sqlite").exists()

    @pytest.mark.usefixtures("network")
    def test_is_refused_by_its_signs_of_life(self, tmp_path: Path, lock: Path) -> None:
        with pytest.raises(OutputError, match=r"elsewhere works on .*in 60 s"):
            SqliteLedger(tmp_path / "ledger.sqlite", tmp_path)
        assert lock.exists()
        os.utime(lock, (0, 0))
        with SqliteLedger(tmp_path / "ledger.sqlite", tmp_path) as ledger:
            assert ledger.dead_claimants() == ["0123-0"]

    def test_that_is_gone_from_a_local_drive_is_dead_at_once(self, tmp_path: Path, lock: Path) -> None:
        with SqliteLedger(tmp_path / "ledger.sqlite", tmp_path) as ledger:
            ledger.forget(ledger.dead_claimants())
        assert not lock.exists()

    @pytest.mark.usefixtures("network")
    @pytest.mark.parametrize("same", ["host", "boot"])
    def test_is_not_a_container_here_nor_this_one_before_it_was_started(
        self, tmp_path: Path, lock: Path, same: str
    ) -> None:
        lock.write_text(json.dumps({"host": "elsewhere", "boot": "another"} | {same: claims.this_machine()[same]}))
        with SqliteLedger(tmp_path / "ledger.sqlite", tmp_path) as ledger:
            assert ledger.dead_claimants() == ["0123-0"]

    @pytest.mark.usefixtures("network")
    def test_touches_its_lock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
        touched: list[Any] = []
        monkeypatch.setattr(os, "utime", lambda path: touched.append(path))
        with claims.Claimant(tmp_path) as name:
            while not touched:
                pass
        assert touched[0] == tmp_path / f"{name}.lock"


def test_file_systems_are_told_by_the_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fcnseg.running import drives

    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"2 1 0:5 / {tmp_path} rw shared:1 - nfs4 server:/export rw\n"
        f"3 1 0:6 / {tmp_path}/a\\040b rw - fuse.sshfs x rw\n"
    )
    monkeypatch.setattr(drives, "MOUNTS", mounts)
    assert [file_system(tmp_path / name) for name in ("x", "a b/c", "../..")] == ["nfs4", "fuse.sshfs", "ext4"]
    assert [drives.locks_reach_all(path) for path in (tmp_path, Path("/"))] == [False, True]


def test_a_blank_ledger_of_other_parts_is_no_dead_end(tmp_path: Path, tiny: TinyModel) -> None:
    import fcnseg

    photograph(tmp_path / "photos/a.png")
    records = tmp_path / "masks/.fcnseg"
    records.mkdir(parents=True)
    (records / "ledger-0-of-3.sqlite").touch()
    summary = fcnseg.run(
        tmp_path / "photos", tmp_path / "masks", model=str(tiny.recipe), weights=tiny.weights, backend="torch"
    )
    assert (summary.done, (records / "ledger-0-of-3.sqlite").exists()) == (1, False)
