import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.stream.sinks import colliding_keys
from fcnseg.stream.sources import list_folder, open_source, read_list


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(folder / name, format="PNG")


def test_a_folder_is_searched_through_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/z.PNG", "a/b/c.webp", "a/.hidden.png", ".thumbs/x.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert list(list_folder(tmp_path)) == ["a/b/c.webp", "a/z.PNG", "b.jpg"]


def test_output_folders_are_not_taken_for_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "masks/a.png", "probs/b.png")
    found = list_folder(tmp_path, exclude=(tmp_path / "masks", tmp_path / "probs", tmp_path / "absent"))
    assert list(found) == ["a.png"]


def test_symlink_loops_end_and_linked_folders_are_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    touch(elsewhere, "x.png")
    photos = tmp_path / "photos"
    touch(photos, "a/b.png")
    (photos / "a" / "loop").symlink_to(photos)
    (photos / "linked").symlink_to(elsewhere)
    (photos / "gone.png").symlink_to(tmp_path / "nowhere")
    assert list(list_folder(photos)) == ["a/b.png", "gone.png", "linked/x.png"]


def test_a_folder_that_cannot_be_looked_into_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", "lost+found/b.png")
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root, as in CI, may look everywhere
    source = open_source(tmp_path)
    assert list(source.keys) == ["a.png"]
    assert source.unlisted == {"lost+found/": "the folder cannot be listed: Permission denied"}
    with pytest.raises(SourceError, match="cannot be listed"):
        open_source(tmp_path / "lost+found")


def test_any_name_the_file_system_allows(tmp_path: Path) -> None:
    names = ["-dash.png", "line\nbreak.png", "spa ce.png", "ünïcødé.png", "x" * 246 + ".png", "quo\"te'.png"]
    touch(tmp_path, *names)
    raw = os.fsencode(str(tmp_path)) + b"/\xff\xfe.png"
    Path(os.fsdecode(raw)).write_bytes((tmp_path / names[0]).read_bytes())
    keys = open_source(tmp_path).keys
    assert set(keys) == {*names, os.fsdecode(b"\xff\xfe.png")}


def test_a_list_counts_from_its_own_folder_and_mirrors_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "photos/a.png", "photos/sub/b.png", "other/c.png")
    path = tmp_path / "list.txt"
    path.write_text("# comment\nphotos/a.png\n\nphotos/sub/b.png\n")
    assert list(read_list(path)) == ["a.png", "sub/b.png"]
    path.write_text(f"photos/a.png\n{tmp_path}/other/c.png\nphotos/absent.png")
    assert list(read_list(path)) == ["photos/a.png", "other/c.png", "photos/absent.png"]
    elsewhere = tmp_path / "lists" / "list.txt"
    elsewhere.parent.mkdir()
    elsewhere.write_text("photos/a.png\n")
    monkeypatch.chdir(tmp_path)
    assert read_list(elsewhere)["a.png"].samefile(tmp_path / "photos/a.png")
    elsewhere.write_text("photos/a.png\n./photos/a.png\n")
    with pytest.raises(SourceError, match="twice"):
        read_list(elsewhere)
    elsewhere.write_bytes(b"\0\1\2")
    with pytest.raises(SourceError, match="not a text file"):
        read_list(elsewhere)


def test_sources_that_hold_nothing_say_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        open_source(tmp_path / "absent")
    with pytest.raises(SourceError, match="no images in"):
        open_source(tmp_path)
    touch(tmp_path, "a.png")
    with pytest.raises(SourceError, match=r"match '\*\.jpg'"):
        open_source(tmp_path, pattern="*.jpg")
    assert list(open_source(tmp_path, pattern="*.png").keys) == ["a.png"]
    assert list(open_source(tmp_path / "a.png").keys) == ["a.png"]


def test_companions_match_by_name_whatever_the_extension(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "rgb/s/a.jpg",
        "rgb/s/b.jpg",
        "rgb/s/c.jpg",
        "rgb/s/d.jpg",
        "hha/s/a.png",
        "hha/s/d.png",
        "hha/s/d.bmp",
    )
    Image.new("RGB", (9, 9)).save(tmp_path / "hha/s/b.png")
    source = open_source(tmp_path / "rgb", ("color", "hha"), {"hha": tmp_path / "hha"})
    a, b, c, d = source
    assert {m: p.shape for m, p in source.load(a).inputs.items()} == {"color": (2, 3, 3), "hha": (2, 3, 3)}
    with pytest.raises(ImageError, match="color is 3 x 2, hha is 9 x 9"):
        source.load(b)
    with pytest.raises(ImageError, match="no hha image named s/c"):
        source.load(c)
    with pytest.raises(ImageError, match="2 hha images named s/d"):
        source.load(d)


def test_companions_that_do_not_fit_the_model(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    with pytest.raises(SettingsError, match="--hha DIR"):
        open_source(tmp_path, ("color", "hha"))
    with pytest.raises(SettingsError, match="leave out --depth"):
        open_source(tmp_path, ("color",), {"depth": tmp_path})
    with pytest.raises(SourceError, match="does not exist"):
        open_source(tmp_path, ("color", "hha"), {"hha": tmp_path / "absent"})


def test_depth_is_read_as_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/a.png")
    (tmp_path / "depth").mkdir()
    Image.fromarray(np.full((2, 3), 1500, np.uint16)).save(tmp_path / "depth/a.png")
    source = open_source(tmp_path / "rgb", ("color", "depth"), {"depth": tmp_path / "depth"})
    frame = source.load(next(iter(source)))
    assert frame.size == (2, 3)
    assert frame.inputs["depth"].shape == (2, 3, 1)
    assert frame.inputs["depth"][0, 0, 0] == 1500.0


def test_outputs_that_cannot_both_exist_are_found() -> None:
    assert colliding_keys(["a.jpg", "b/a.jpg", "c.png"]) == []
    assert colliding_keys(["a.jpg", "a.png"]) == [("a.jpg", "a.png")]
    assert colliding_keys(["x/a.jpg", "x/a.png/b.jpg"]) == [("x/a.jpg", "x/a.png/b.jpg")]
