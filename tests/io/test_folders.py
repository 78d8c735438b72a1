"""Image files in folders, and companions beside them."""

import os
from pathlib import Path

import pytest
from PIL import Image

from fcnseg.errors import ImageError
from fcnseg.io.sources import open_source
from tests.io.image_files import touch


def test_the_fingerprint_follows_the_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    source = open_source(tmp_path)
    before = {found.key: source.fingerprint(found) for found in source}
    os.utime(tmp_path / "a.png", ns=(1, 1))
    after = {found.key: source.fingerprint(found) for found in source}
    assert before["b.png"] == after["b.png"]
    assert before["a.png"] != after["a.png"]


def test_companions_match_by_name_whatever_the_extension(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/s/a.jpg", "rgb/s/b.jpg", "rgb/s/c.jpg", "rgb/s/d.jpg", "rgb/t/e.jpg")
    touch(tmp_path, "hha/s/a.PNG", "hha/s/a.x.png", "hha/s/d.png", "hha/s/d.bmp", "hha/s/c.png/x.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "hha/s/b.png")
    source = open_source(tmp_path / "rgb", ("color", "hha"), {"hha": tmp_path / "hha"})
    a, b, c, d, e = source
    assert {m: p.shape for m, p in source.load(a).inputs.items()} == {"color": (2, 3, 3), "hha": (2, 3, 3)}
    assert source.files(a) == {"color": tmp_path / "rgb/s/a.jpg", "hha": tmp_path / "hha/s/a.PNG"}
    with pytest.raises(ImageError, match="color is 3 x 2, hha is 9 x 9"):
        source.load(b)
    with pytest.raises(ImageError, match="no hha image named s/c"):
        source.load(c)
    with pytest.raises(ImageError, match="2 hha images named s/d"):
        source.load(d)
    with pytest.raises(ImageError, match="no hha image named t/e"):
        source.load(e)


def test_a_companion_of_another_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/a.png")
    (tmp_path / "hha").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "hha/a.png")
    broken = (tmp_path / "hha/a.png").read_bytes()[:50]
    (tmp_path / "hha/a.png").write_bytes(broken)
    source = open_source(tmp_path / "rgb", ("color", "hha"), {"hha": tmp_path / "hha"})
    with pytest.raises(ImageError, match="must be of one size"):
        source.load(next(iter(source)))
