"""Shards as tar objects: what tar programs see, and what becomes of a shard that is not finished."""

import tarfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from fcnseg.io import tar_folder
from fcnseg.io.atomic import new_digest
from fcnseg.io.buckets import open_store
from fcnseg.io.sources import open_source
from fcnseg.io.tar_folder import TarFolder
from tests.conftest import photograph

pytest.importorskip("obstore")

FILES = {f"{'long/' * (20 * (i % 2))}ü {i}.png": bytes([i]) * (i * 700) for i in range(40)}


def written(folder: Path, names: list[str]) -> bytes:
    with TarFolder(open_store(folder), "shards/00001.tar") as shard, ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda name: shard.place(name, [FILES[name][:5], memoryview(FILES[name])[5:]]), names))
        shard.flush()
        shard.put()
    for name, output in zip(names, outputs, strict=True):
        digest = new_digest()
        digest.update(FILES[name])
        assert (output.location, output.size) == (f"{folder.as_uri()}/{name}", len(FILES[name]))
        assert output.checksum == digest.hexdigest()
    return (folder / "shards/00001.tar").read_bytes()


def test_members_are_those_that_were_placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_folder, "KEPT_BYTES", 1000)
    monkeypatch.setattr(tar_folder, "PIECE_BYTES", 5000)
    written(tmp_path, list(FILES))
    with tarfile.open(tmp_path / "shards/00001.tar") as archive:
        members = {member.name: archive.extractfile(member) for member in archive}
        assert {name: file.read() for name, file in members.items() if file} == FILES


def test_the_order_of_placing_does_not_matter(tmp_path: Path) -> None:
    assert written(tmp_path / "a", list(FILES)) == written(tmp_path / "b", list(FILES)[::-1])


def test_an_unfinished_shard_leaves_nothing(tmp_path: Path) -> None:
    with TarFolder(open_store(tmp_path), "one.tar") as shard:
        shard.place("a.png", [b"x"])
    assert list(tmp_path.rglob("*")) == []


def test_a_shard_is_a_source(tmp_path: Path) -> None:
    image = photograph(tmp_path / "image.png")
    with TarFolder(open_store(tmp_path), "one.tar") as shard:
        shard.place("a/b.png", [image.read_bytes()])
        shard.put()
    with closing(open_source(tmp_path / "one.tar")) as source:
        assert [listed.key for listed in source] == ["a/b.png"]
