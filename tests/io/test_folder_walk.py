"""Folders are searched through in order, each once, and what cannot be listed is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fcnseg.errors import ImageError, SourceError
from fcnseg.io import folder_walk
from fcnseg.io.sources import open_source
from fcnseg.types import Failure
from tests.io.image_files import keys, touch, without_privileges


def test_a_folder_is_searched_through_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/z.PNG", "a/b/c.webp", "a/.hidden.png", ".thumbs/x.png", "a.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert keys(tmp_path) == ["a.png", "a/b/c.webp", "a/z.PNG", "b.jpg"]
    assert keys(tmp_path, pattern="*.png") == ["a.png"]
    assert keys(tmp_path, pattern="a/b/*") == ["a/b/c.webp"]
    assert keys(tmp_path / "a/z.PNG") == ["z.PNG"]


@given(st.lists(st.text(st.sampled_from("ab.-/\n\udcff é𝔸"), min_size=1), unique=True))
def test_names_come_sorted_however_many_runs_they_take(names: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_walk, "RUN", 5)
        patch.setattr(folder_walk, "PIECE", 2)
        patch.setattr(folder_walk, "names_in", lambda folder, suffixes, on_left_out: iter(names))
        assert list(folder_walk._sorted_names("", ())) == sorted(names)


def test_output_folders_are_not_taken_for_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "masks/a.png", "probs/b.png")
    assert keys(tmp_path, exclude=(tmp_path / "masks", tmp_path / "probs", tmp_path / "absent")) == ["a.png"]


def test_symlink_loops_end_and_linked_folders_are_followed_once(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    touch(elsewhere, "x.png")
    photos = tmp_path / "photos"
    touch(photos, "a/b.png")
    (photos / "a" / "loop").symlink_to(photos)
    (photos / "linked").symlink_to(elsewhere)
    (photos / "linked again").symlink_to(elsewhere)
    (photos / "round.png").symlink_to(photos / "round.png")
    (photos / "gone.png").symlink_to(tmp_path / "nowhere")
    assert keys(photos) == ["a/b.png", "gone.png", "linked again/x.png", "round.png"]
    source = open_source(photos)
    for found in source:
        if found.key in ("gone.png", "round.png"):
            with pytest.raises(ImageError, match="cannot be read"):
                source.load(found)


def test_a_folder_that_cannot_be_looked_into_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", "lost+found/b.png", "z.png")
    Image.new("RGB", (3, 2)).save(tmp_path / "c.png")
    tmp_path.chmod(0o755)
    (tmp_path / "lost+found").chmod(0)
    (tmp_path / "c.png").chmod(0)
    monkeypatch.chdir(tmp_path)
    with without_privileges():
        source = open_source(".")
        a, c, lost, z = source
        assert (a.key, c.key, z.key) == ("a.png", "c.png", "z.png")
        assert lost == Failure("lost+found/", "list", "the folder cannot be listed: Permission denied")
        assert [found.key for found in open_source(".", pattern="z*")] == ["lost+found/", "z.png"]
        with pytest.raises(ImageError, match="Permission denied"):
            source.load(c)
        with pytest.raises(SourceError, match="cannot be listed: Permission denied"):
            list(open_source("lost+found"))


def test_folders_called_like_images_are_entered_and_are_failures_if_there_are_none_in_them(tmp_path: Path) -> None:
    touch(tmp_path, "full.jpg/a.png", "full.jpg/deep/b.png", "outer.jpg/inner/c.png", "last.png")
    (tmp_path / "empty.jpg" / "nothing").mkdir(parents=True)
    found = {found.key: found for found in open_source(tmp_path)}
    assert list(found) == ["empty.jpg", "full.jpg/a.png", "full.jpg/deep/b.png", "last.png", "outer.jpg/inner/c.png"]
    assert found["empty.jpg"] == Failure("empty.jpg", "list", "a folder, and there are no images in it")
