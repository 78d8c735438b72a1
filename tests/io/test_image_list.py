"""Lists of images."""

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnseg.errors import SourceError
from fcnseg.io import image_list
from fcnseg.io.sources import open_source
from tests.io.image_files import keys, touch


def test_a_list_counts_from_its_own_folder_and_mirrors_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "photos/a.png", "photos/sub/b.png", "other/c.png")
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf# comment\r\nphotos/a.png\r\n\r\n  photos/./sub/../sub/b.png  \r\n")
    assert keys(path) == ["a.png", "sub/b.png"]
    path.write_text(f"photos/a.png\n{tmp_path}/other/c.png\nphotos/absent.png")
    assert keys(path) == ["photos/a.png", "other/c.png", "photos/absent.png"]
    elsewhere = tmp_path / "lists" / "list.txt"
    elsewhere.parent.mkdir()
    elsewhere.write_text("photos/a.png\n")
    monkeypatch.chdir(tmp_path)
    source = open_source(elsewhere)
    assert [source.load(found).size for found in source] == [(2, 3)]
    assert keys("-", stdin=io.BytesIO(b"other/c.png\nphotos/a.png\n")) == ["other/c.png", "photos/a.png"]
    path.write_text("/absent.png\n/bin/absent.png\n")
    assert keys(path) == ["absent.png", "bin/absent.png"]


def test_what_is_no_list_says_so(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"x" * 200_000)
    with pytest.raises(SourceError, match=r"list\.txt is not a text of paths"):
        list(open_source(path))
    path.write_bytes(b"photo.png\n" * 10_000 + b"\0")
    with pytest.raises(SourceError, match="is not a text of paths"):
        list(open_source(path))
    path.write_text("# nothing\n\n")
    with pytest.raises(SourceError, match="there are no images in the list"):
        list(open_source(path))
    with pytest.raises(SourceError, match="there are no images in the list on standard input"):
        list(open_source("-", stdin=io.BytesIO()))
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(SourceError, match="not a regular file"):
        open_source(tmp_path / "pipe.txt")


@given(st.lists(st.integers(0, 40), min_size=1), st.sampled_from([b"\n", b"\0"]))
def test_lines_are_whole_wherever_blocks_end(lengths: list[int], separator: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_list, "BLOCK_BYTES", 7)
        names = [f"/d/{'x' * length}{i}" for i, length in enumerate(lengths)]
        text = separator.join(map(os.fsencode, names)) + separator
        assert [found.location for found in open_source("-", stdin=io.BytesIO(text))] == names
