"""The images that engines are calibrated and verified on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcnseg.engine.build import ensure_engine
from fcnseg.engine.calibration import sample_images
from fcnseg.engine.options import BuildHooks
from fcnseg.errors import SettingsError
from tests.conftest import TinyModel, make_tiny, photograph
from tests.engine.tiny_engines import request_for


def test_other_calibration_images_are_another_engine(coarse: TinyModel, tmp_path: Path) -> None:
    photograph(tmp_path / "a" / "1.png", seed=1)
    photograph(tmp_path / "b" / "1.png", seed=2)
    first, second = (request_for(coarse, "int8", calibrate={"color": tmp_path / name}).identity for name in "ab")
    assert first.differences(second)[0].startswith("calibration (")


def test_companions_of_calibration_images_lie_in_their_own_folders(tmp_path: Path) -> None:
    model = make_tiny(tmp_path, streams="hha", stride=32)
    photograph(tmp_path / "photos" / "a.png")
    photograph(tmp_path / "hha" / "b.png")
    folders = {"color": tmp_path / "photos", "hha": tmp_path / "hha"}
    with pytest.raises(
        SettingsError, match=r"no hha image named a .*give --hha the folders that belong to --calibrate"
    ):
        request_for(model, "int8", calibrate=folders)


@pytest.mark.usefixtures("own_home")
def test_int8_needs_images_that_can_be_read(coarse: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--calibrate DIR"):
        ensure_engine(request_for(coarse, "int8"), BuildHooks())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    request = request_for(coarse, "int8", calibrate={"color": tmp_path / "photos"})
    with pytest.raises(SettingsError, match=r"calibration image .*broken\.jpg cannot be read"):
        sample_images(request.recipe, request.calibration)
