"""Split files."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcnseg.errors import SettingsError
from fcnseg.io.lists import read_names


def test_a_split_file_names_each_image_once(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_bytes(b"\xef\xbb\xbf2007_000033\r\n  # a comment\n\n ./a/b.c.png \nd.h5\n")
    assert read_names(path) == ("2007_000033", "a/b.c", "d")
    for content, fault in (
        (b"a\nb\na.jpg\n", "names a twice"),
        (b"# nothing\n", "is empty"),
        (b"\xff", "cannot be read"),
    ):
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=fault):
            read_names(path)
    with pytest.raises(SettingsError, match=r"absent\.txt cannot be read"):
        read_names(tmp_path / "absent.txt")
