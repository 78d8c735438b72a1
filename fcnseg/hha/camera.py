"""Pinhole cameras: built-in ones and those of JSON files."""

import json
import math
from dataclasses import dataclass
from typing import Any

from fcnseg.errors import ImageError, SettingsError
from fcnseg.texts import read_text


@dataclass(frozen=True)
class Camera:
    """Focal lengths and principal point, px; the centre of the first pixel is (0, 0). `size` is the height and width
    of its images, px, None if that is not known."""

    fx: float
    fy: float
    cx: float
    cy: float
    size: tuple[int, int] | None = None

    def check(self, height: int, width: int) -> None:
        """Raise ImageError for an image of another size: cropping or resizing it made it another camera's."""
        if self.size not in (None, (height, width)):
            own_height, own_width = self.size or (0, 0)
            raise ImageError(
                f"{width} x {height} px, but the camera's images are {own_width} x {own_height}; a crop has its own "
                "cx and cy, a resized image its own fx and fy too: give them in a JSON file"
            )


CAMERAS = {
    "nyud": Camera(518.85790117450188, 519.46961112127485, 325.58244941119034 - 1, 253.73616633400465 - 1, (480, 640))
}
"""`nyud`: the Kinect's colour camera, with which the depth maps of NYUDv2 are aligned (Silberman et al. 2012,
`camera_params.m` of the data set's toolbox, which counts pixels from 1)."""

KEYS = ("fx", "fy", "cx", "cy")


def find_camera(name: str) -> Camera:
    """Return a built-in camera, or that of a JSON file.

    `{"fx": 519, "fy": 519, "cx": 320, "cy": 240}`, or `{"K": [[519, 0, 320], [0, 519, 240], [0, 0, 1]]}`; `width` and
    `height`, px, are optional and checked.

    Raises SettingsError for a missing or malformed file.
    """
    if name in CAMERAS:
        return CAMERAS[name]
    try:
        return _from_json(json.loads(read_text(name)))
    except FileNotFoundError as error:
        raise SettingsError(f"there is no camera {name}; give {', '.join(CAMERAS)} or a JSON file") from error
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise SettingsError(
            f'the camera {name} is not understood; expected {{"fx": 519, "fy": 519, "cx": 320, "cy": 240}}, or a '
            'matrix {"K": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]} without skew'
        ) from error


def _from_json(values: Any) -> Camera:
    unknown = values.keys() - {*KEYS, "K", "width", "height"} if isinstance(values, dict) else {"no object"}
    if unknown or ("K" in values) == any(key in values for key in KEYS) or ("width" in values) != ("height" in values):
        raise ValueError("keys")
    if "K" in values:
        (fx, skew, cx), (zero, fy, cy), last = values["K"]
        if (skew, zero, *last) != (0, 0, 0, 0, 1):
            raise ValueError("K")
    else:
        fx, fy, cx, cy = (values[key] for key in KEYS)
    size = (int(values["height"]), int(values["width"])) if "width" in values else None
    camera = Camera(float(fx), float(fy), float(cx), float(cy), size)
    if not all(map(math.isfinite, (camera.fx, camera.fy, camera.cx, camera.cy))) or min(camera.fx, camera.fy) <= 0:
        raise ValueError("range")
    return camera
