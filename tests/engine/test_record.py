"""The record of an engine, the key that seals it, and the bytes that it vouches for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fcnseg.engine import record
from fcnseg.engine.load import load_engine
from fcnseg.engine.record import open_engine_file, read_record, read_trusted_record
from fcnseg.errors import EngineError, OutputError
from fcnseg.io.hashing import file_sha256
from fcnseg.io.user_folders import key_file
from fcnseg.recipes import load_recipe
from tests.conftest import TinyModel
from tests.engine.tiny_engines import keep, request_for

root = pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can give files away")


@pytest.fixture
def engine(coarse: TinyModel, own_home: Path) -> Path:
    """An engine file with a record, in a folder of its own key."""
    assert not own_home.exists()
    return keep(request_for(coarse).identity, 0.1)


def test_an_engine_that_is_exchanged_after_its_check_is_not_loaded(
    coarse: TinyModel, built: Path, tmp_path: Path
) -> None:
    """Between the check and the start a file is renamed over the engine, of the same size and times."""
    file = tmp_path / "copy.engine"
    file.write_bytes(built.read_bytes())
    record.write_record(file, read_record(built))
    opened = load_engine(load_recipe(coarse.recipe), file)
    other = tmp_path / "other"
    other.write_bytes(bytes(file.stat().st_size))
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    os.replace(other, file)
    with pytest.raises(EngineError, match="was changed since it was built"):
        opened.__enter__()


def test_what_is_read_are_the_bytes_that_were_hashed(tmp_path: Path) -> None:
    file = tmp_path / "engine"
    file.write_bytes(b"the right one")
    digest = file_sha256(file)
    with open_engine_file(file, digest) as opened:
        (tmp_path / "other").write_bytes(b"a wrong one..")
        os.replace(tmp_path / "other", file)
        assert opened.read() == b"the right one"
    with pytest.raises(EngineError, match="was changed"), open_engine_file(file, digest):
        pass


def test_an_engine_that_is_overwritten_while_it_loads_is_refused(tmp_path: Path) -> None:
    """What is mapped, or not read yet, changes with the file; the time of modification can be set back."""
    file = tmp_path / "engine"
    file.write_bytes(b"the right one")
    digest, before = file_sha256(file), file.stat()

    def load() -> None:
        with open_engine_file(file, digest) as opened:
            file.write_bytes(b"a wrong one..")
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert opened.read() == b"a wrong one.."

    with pytest.raises(EngineError, match="was changed"):
        load()


@pytest.mark.parametrize("content", [b"", b"short", b"k" * 31, b"k" * 33, bytes(32)])
def test_a_key_of_another_length_or_of_zeros_is_refused(engine: Path, content: bytes) -> None:
    key_file().write_bytes(content)
    with pytest.raises(OutputError, match="engine-key is damaged; remove it"):
        read_record(engine)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "dangling"])
def test_a_key_that_is_no_file_is_refused_at_once(engine: Path, kind: str) -> None:
    key_file().unlink()
    if kind == "pipe":
        os.mkfifo(key_file())
    elif kind == "folder":
        key_file().mkdir()
    else:
        key_file().symlink_to("/dev/zero" if kind == "device" else "nowhere")
    with pytest.raises(OutputError, match="engine-key"):
        read_record(engine)


def test_a_key_is_made_where_there_are_no_hard_links(
    coarse: TinyModel,
    own_home: Path,  # noqa: ARG001 - where the key is
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    engine = keep(request_for(coarse).identity, 0.1)
    assert read_trusted_record(engine)
    assert key_file().stat().st_mode & 0o777 == 0o600


def test_a_new_key_is_the_owners_alone_and_flushed(
    coarse: TinyModel, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (flushed.append(os.fstat(file).st_ino), fsync(file))[1])
    keep(request_for(coarse).identity, 0.1)
    status = key_file().stat()
    assert key_file().parent == own_home
    assert (status.st_mode & 0o777, status.st_size) == (0o600, 32)
    assert status.st_ino in flushed


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_key_that_others_may_write_is_refused(engine: Path, mode: int) -> None:
    key_file().chmod(mode)
    with pytest.raises(OutputError, match="is not readable and writable by you alone"):
        read_record(engine)


@root
def test_a_key_of_another_user_is_refused(engine: Path) -> None:
    os.chown(key_file(), 12345, 12345)
    with pytest.raises(OutputError, match="is not readable and writable by you alone"):
        read_record(engine)


@root
def test_engines_baked_into_an_image_serve_its_users(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    key_file().chmod(0o644)
    assert read_trusted_record(engine)
    for path in (engine, record.record_path(engine)):
        os.chown(path, 54321, 54321)
        with pytest.raises(EngineError, match="can be written by other users"):
            read_trusted_record(engine)
        os.chown(path, 0, 0)
        path.chmod(0o666)
        with pytest.raises(EngineError, match="can be written by other users"):
            read_trusted_record(engine)
        path.chmod(0o644)
    engine.parent.chmod(0o777)
    with pytest.raises(EngineError, match="can be written by other users"):
        read_trusted_record(engine)
    engine.parent.chmod(0o1777)
    assert read_trusted_record(engine)


def test_a_key_that_cannot_be_read_says_how_to_share_it(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **more: Any) -> object:
        if path == key_file():
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutputError, match=r"engine-key cannot be read: Permission denied; .*chmod a\+r"):
        read_record(engine)
