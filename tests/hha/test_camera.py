"""Cameras: the built-in one, and those of JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcnseg.errors import ImageError, SettingsError
from fcnseg.hha import Camera, encode, find_camera


def test_the_camera_of_nyud_is_for_its_whole_images() -> None:
    camera = find_camera("nyud")
    assert encode(np.full((480, 640), 2.0), camera).shape == (480, 640, 3)
    with pytest.raises(ImageError, match="560 x 425 px, but the camera's images are 640 x 480"):
        encode(np.full((425, 560), 2.0), camera)


@pytest.mark.parametrize(
    ("text", "camera"),
    [
        ({"fx": 5, "fy": 6, "cx": 7, "cy": 8.5}, Camera(5, 6, 7, 8.5)),
        ({"K": [[5, 0, 7], [0, 6, 8.5], [0, 0, 1]]}, Camera(5, 6, 7, 8.5)),
        ({"K": [[5, 0, 7], [0, 6, 8.5], [0, 0, 1]], "width": 20, "height": 10}, Camera(5, 6, 7, 8.5, (10, 20))),
    ],
)
def test_cameras_in_files(text: dict[str, Any], camera: Camera, tmp_path: Path) -> None:
    (tmp_path / "K.json").write_text(json.dumps(text))
    assert find_camera(str(tmp_path / "K.json")) == camera
    (tmp_path / "K.json").write_text(json.dumps(text), encoding="utf-8-sig")
    assert find_camera(str(tmp_path / "K.json")) == camera


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        "{}",
        '{"fx": 5, "fy": 6, "cx": 7}',
        '{"fx": 0, "fy": 6, "cx": 7, "cy": 8}',
        '{"fx": 5, "fy": 6, "cx": 7, "cy": NaN}',
        '{"fx": "wide", "fy": 6, "cx": 7, "cy": 8}',
        '{"fx": 5, "fy": 6, "cx": 7, "cy": 8, "k1": 0.1}',
        '{"fx": 5, "fy": 6, "cx": 7, "cy": 8, "width": 9}',
        '{"K": [[5, 1, 7], [0, 6, 8], [0, 0, 1]]}',
        '{"K": [5, 0, 7, 0, 6, 8, 0, 0, 1]}',
        '{"K": [[5, 0, 7], [0, 6, 8], [0, 0, 1]], "fx": 5}',
    ],
)
def test_cameras_that_are_not_understood(text: str, tmp_path: Path) -> None:
    (tmp_path / "K.json").write_text(text)
    with pytest.raises(SettingsError, match=r"K\.json is not understood"):
        find_camera(str(tmp_path / "K.json"))


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match="nyud"):
        find_camera("kinect")
