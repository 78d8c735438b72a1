"""Images in many tars: their keys, what identifies them, and what is damaged."""

import io
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from fcnseg.errors import SourceError
from fcnseg.io.bucket_tars import LISTED_AT_ONCE
from fcnseg.io.sources import open_source
from fcnseg.types import Failure, Reference
from tests.conftest import photograph

pytest.importorskip("obstore")


def shard(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    return photograph(tmp_path / "image.jpg").read_bytes()


def test_samples_of_many_shards_are_listed_in_order(tmp_path: Path, image: bytes) -> None:
    count = 3 * LISTED_AT_ONCE
    for number in range(count):
        shard(tmp_path / f"set/{number:05}.tar", {f"{number:03}.jpg": image, f"{number:03}.json": b"{}"})
    shard(tmp_path / "set/other.tar", {"x.jpg": image})
    shard(tmp_path / "set/deeper/00000.tar", {"x.jpg": image})
    with closing(open_source(f"{tmp_path.as_uri()}/set/0*.tar")) as source:
        listed = list(source)
        assert [reference.key for reference in listed] == [f"{n:05}/{n:03}.jpg" for n in range(count)]
        assert source.left_out == {".json": count}
        assert isinstance(listed[5], Reference)
        assert source.load(listed[5]).size == (30, 40)


def test_a_shard_that_was_replaced_changes_all_its_fingerprints(tmp_path: Path, image: bytes) -> None:
    def fingerprints() -> list[str]:
        with closing(open_source(f"{tmp_path.as_uri()}/*.tar")) as source:
            return [source.fingerprint(reference) for reference in source if isinstance(reference, Reference)]

    for number in range(2):
        shard(tmp_path / f"{number}.tar", {"a.jpg": image, "b.jpg": image})
    before = fingerprints()
    assert fingerprints() == before
    (tmp_path / "1.tar").unlink()
    shard(tmp_path / "1.tar", {"a.jpg": image[::-1], "b.jpg": image})
    after = fingerprints()
    assert after[:2] == before[:2]
    assert not set(after[2:]) & set(before)


def test_a_damaged_shard_is_a_failure_and_the_rest_is_read(tmp_path: Path, image: bytes) -> None:
    for number in range(3):
        shard(tmp_path / f"{number}.tar", {"a.jpg": image, "b.jpg": image})
    (tmp_path / "1.tar").write_bytes(b"no tar at all" * 100)
    with closing(open_source(f"{tmp_path.as_uri()}/*.tar")) as source:
        listed = list(source)
    assert [entry.key for entry in listed if isinstance(entry, Failure)] == ["1.tar"]
    assert len(listed) == 5


def test_no_shard_is_said(tmp_path: Path) -> None:
    with (
        closing(open_source(f"{tmp_path.as_uri()}/none-*.tar")) as source,
        pytest.raises(SourceError, match="no images"),
    ):
        list(source)
