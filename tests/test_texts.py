"""Texts of users are read in the encodings that their systems write."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcnseg.errors import SourceError
from fcnseg.io.lists import read_names
from fcnseg.io.sources import open_source
from fcnseg.recipes import load_recipe, recipe_folder
from fcnseg.texts import read_text
from tests.io.image_files import touch

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_and_names_in_any_encoding(tmp_path: Path, encoding: str, end: str) -> None:
    names = ["day 1/é.png", "day 1/b.png", "c.png"]
    touch(tmp_path / "photos", *names)
    text = end.join(["# photographs", *(f"photos/{name}" for name in names), ""])
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    assert read_text(tmp_path / "list.txt") == text
    assert read_names(tmp_path / "list.txt") == tuple(f"photos/{name[:-4]}" for name in names)
    absolute = text.replace("photos/", f"{tmp_path}/photos/").encode(encoding)
    (tmp_path / "stdin").write_bytes(absolute)
    with (tmp_path / "stdin").open("rb") as stdin:
        for opened in (open_source(tmp_path / "list.txt"), open_source("-", stdin=stdin)):
            assert [reference.key for reference in opened] == names
            opened.close()


def test_a_text_that_breaks_its_encoding_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("a.jpg\n".encode("utf-16") + b"\0\xd8b\0")
    with pytest.raises(SourceError, match="is no UTF-16; save it as UTF-8"):
        open_source(tmp_path / "list.txt")


def test_recipes_in_utf_16(tmp_path: Path) -> None:
    file = tmp_path / "model.toml"
    file.write_bytes((recipe_folder() / "street-fcn8s.toml").read_text().encode("utf-16"))
    assert load_recipe(file).name == "street-fcn8s"
