"""Ranges of sizes that engines are built for."""

from pathlib import Path

from PIL import Image

from fcnseg.engine.sizes import measured_shapes, shapes_of
from fcnseg.recipes import find_recipe
from tests.conftest import photograph


def test_sizes_are_measured_in_the_users_folder(tmp_path: Path) -> None:
    recipe = find_recipe("street-fcn8s")
    for i, (width, height) in enumerate([(40, 30), (40, 30), (90, 20), (50, 60)]):
        photograph(tmp_path / f"{i}.png", width, height)
    turned = Image.new("RGB", (10, 99))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    profile = measured_shapes(tmp_path, recipe)
    assert (profile.smallest, profile.typical, profile.largest) == ((10, 40), (30, 40), (60, 99))
    profile = shapes_of(profile, None, None, "200x100", 3)
    assert (profile.largest, profile.max_batch) == ((100, 200), 3)
