"""What fcnseg wrote, what systems add and what lies among outputs is not segmented, and nothing vanishes unsaid."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.io.bucket_images import BucketImages
from fcnseg.io.buckets import Bucket, open_store
from fcnseg.io.image_source import ImageSource
from fcnseg.io.sources import open_source
from tests.conftest import Outcome, TinyModel, photograph

Command = Callable[..., Outcome]


def encoded(format_name: str) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    Image.fromarray(pixels).convert("1" if format_name == "PBM" else "RGB").save(
        content, format_name.replace("PBM", "PPM")
    )
    return content.getvalue()


@pytest.fixture
def camera_roll(tmp_path: Path) -> Path:
    """Images under names that tell, that tell nothing and that mislead, and what is none of them."""
    folder = tmp_path / "roll"
    files = {
        "a.jpg": "JPEG", "b.avif": "AVIF", "c.pbm": "PBM", "d.mpo": "MPO", "e.jp2": "JPEG2000", "f.apng": "PNG",
        "g.jpg_large": "JPEG", "IMG_0001": "JPEG", "h.JPG!d": "JPEG", "2024.05": "WEBP", "i": "TIFF", "j.x": "BMP",
        "k.y": "GIF", "sub/l": "PPM",
        # not to be taken
        "clip.thm": "JPEG", "raw.dng": "TIFF", "a.jpg~": "JPEG", "a.bak": "JPEG", "@eaDir/a.jpg": "JPEG",
        "sub/__MACOSX/deep/a.jpg": "JPEG", "#recycle/gone.jpg": "JPEG",
    }  # fmt: skip
    for name, format_name in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(format_name))
    for name in ("notes.txt", "README", "data.unknown", "empty"):
        (folder / name).write_bytes(b"" if name == "empty" else b"Photographs of a holiday\n")
    return folder


TAKEN = {
    *(
        "2024.05",
        "IMG_0001",
        "a.jpg",
        "b.avif",
        "c.pbm",
        "d.mpo",
        "e.jp2",
        "f.apng",
        "g.jpg_large",
        "h.JPG!d",
        "i",
        "j.x",
    ),
    *("k.y", "sub/l"),
}
LEFT_OUT = {
    ".thm": 1,
    ".dng": 1,
    ".jpg~": 1,
    ".bak": 1,
    "@eaDir/": 1,
    "__MACOSX/": 1,
    "#recycle/": 1,
    ".txt": 1,
    "": 2,
    ".unknown": 1,
}


@pytest.mark.parametrize("form", ["folder", "zip", "deflated zip", "tar", "tar.gz", "bucket"])
def test_images_are_known_by_content_and_the_rest_is_counted(camera_roll: Path, tmp_path: Path, form: str) -> None:
    place = camera_roll
    if "zip" in form:
        place = tmp_path / "roll.zip"
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED if form != "zip" else zipfile.ZIP_STORED) as archive:
            for path in sorted(camera_roll.rglob("*")):
                archive.write(path, path.relative_to(camera_roll))
    elif form.startswith("tar"):
        place = tmp_path / f"roll.{form}"
        with tarfile.open(place, "w:gz" if form == "tar.gz" else "w") as tar:
            tar.add(camera_roll, ".")
    if form == "bucket":
        pytest.importorskip("obstore")
        source = ImageSource("bucket", BucketImages(open_store(place)))
    else:
        source = open_source(place)
    references = list(source)
    assert {reference.key for reference in references} == TAKEN
    # an empty object without a suffix marks a folder
    assert source.left_out == (LEFT_OUT | {"": 1} if form == "bucket" else LEFT_OUT)
    assert all(source.load(reference).size == (9, 12) for reference in references)  # type: ignore[arg-type]
    source.close()


def test_outputs_of_runs_in_buckets_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    unsorted = Bucket.list  # of folders; object storage lists in order
    monkeypatch.setattr(Bucket, "list", lambda self: iter(sorted(unsorted(self), key=lambda info: info.key)))
    for name in ("a.png", "m/.fcnseg/run.json", "m/a.png", "m/sub/b.png", "mm/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded("PNG"))
    images = BucketImages(open_store(tmp_path))
    assert {reference.key for reference in images} == {"a.png", "mm/c.png"}
    assert images.left_out == {"m/": 2}


def test_each_has_its_label_map_and_what_is_left_out_is_said(
    fcnseg: Command, camera_roll: Path, tiny: TinyModel, tmp_path: Path
) -> None:
    done = fcnseg("run", camera_roll, "--out", tmp_path / "masks", *tiny.arguments, "--json")
    assert (done.code, json.loads(done.out)["done"]) == (0, len(TAKEN))
    assert "11 files left out: 2 without a suffix, 1 in #recycle, " in done.err
    names = {path.relative_to(tmp_path / "masks").as_posix() for path in (tmp_path / "masks").rglob("*.png")}
    assert {"IMG_0001.png", "g.jpg_large.png", "sub/l.png", "a.png"} <= names


def test_outputs_of_other_runs_are_not_segmented(fcnseg: Command, tiny: TinyModel, tmp_path: Path) -> None:
    photos = tmp_path / "in"
    photograph(photos / "a.jpg")
    first = ("run", photos, "--out", photos / "masks", "--overlay", photos / "drawn", *tiny.arguments)
    assert fcnseg(*first).code == 0
    (tmp_path / "elsewhere").mkdir()
    shutil.move(photos / "drawn", tmp_path / "elsewhere" / "drawn")
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    second = fcnseg("run", photos, "--out", photos / "masks2", *tiny.arguments, "--json")
    assert (second.code, json.loads(second.out)["total"]) == (0, 1)
    assert json.loads(second.out)["left_out"] == {"link/drawn/": 1, "masks/": 1}
    assert fcnseg(*first).code == 0  # and the first goes on


def test_what_fcnseg_wrote_is_refused_wherever_it_lies(fcnseg: Command, tiny: TinyModel, tmp_path: Path) -> None:
    photograph(tmp_path / "in/a.jpg")
    fcnseg("run", tmp_path / "in", "--out", tmp_path / "m", "--overlay", tmp_path / "o", *tiny.arguments)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("in/a.jpg", "m/a.png", "o/a.jpg"):
            archive.write(tmp_path / name, name)
    done = fcnseg("run", tmp_path / "all.zip", "--out", tmp_path / "m2", *tiny.arguments)
    assert done.code == 3
    assert "m/a.png: a label map that fcnseg wrote, no photograph; leave its folder out" in done.err
    assert "o/a.jpg: an overlay that fcnseg wrote" in done.err
    assert (tmp_path / "m2" / "in" / "a.png").exists()


@pytest.mark.parametrize("option", ["--out", "--save-probabilities", "--overlay"])
@pytest.mark.parametrize("linked", [False, True])
def test_an_output_folder_with_photographs_of_the_source_is_refused(
    fcnseg: Command, tiny: TinyModel, tmp_path: Path, option: str, linked: bool
) -> None:
    photos, day2 = tmp_path / "in", tmp_path / "in" / "day2"
    photograph(photos / "a.jpg")
    if linked:
        day2 = tmp_path / "day2"
        day2.mkdir()
        (photos / "linked").symlink_to(day2)
    photograph(day2 / "b.jpg")
    places = {"--out": tmp_path / "masks", option: day2}
    arguments = [str(one) for pair in places.items() for one in pair]
    for more in ([], ["--overwrite"]):
        refused = fcnseg("run", photos, *arguments, *tiny.arguments, *more)
        assert refused.code == 2
        assert f"holds images of its own (b.jpg), which would be left out with the outputs; give another {option}" in (
            refused.error_line
        )
    assert sorted(path.name for path in day2.iterdir()) == ["b.jpg"]
    (day2 / "b.jpg").unlink()
    assert fcnseg("run", photos, *arguments, *tiny.arguments).code == 0
    photograph(day2 / "later.jpeg")
    if option != "--overlay":
        assert fcnseg("run", photos, *arguments, *tiny.arguments).code == 2


def test_companions_inside_the_source_are_no_inputs_of_their_own(tmp_path: Path) -> None:
    from fcnseg.recipes import find_recipe
    from fcnseg.running.options import RunOptions
    from fcnseg.running.preflight import open_inputs

    for name in ("a.png", "depth/a.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L" if "depth" in name else "RGB", (6, 5)).save(tmp_path / "in" / name)
    recipe = find_recipe("nyud-fcn32s-color-d")
    options = RunOptions(tmp_path / "in", tmp_path / "out", companions={"depth": tmp_path / "in" / "depth"})
    with open_inputs(options, recipe) as source:
        (reference,) = source
        assert source.load(reference).inputs.keys() == {"color", "depth"}  # type: ignore[arg-type]
