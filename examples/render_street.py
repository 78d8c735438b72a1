"""Render synthetic street scenes, as from a camera in a car, with the class of every pixel.

The classes are those of the CamVid street segmentation set. Examples::

    python examples/render_street.py scenes --count 20 --seed 0
    python examples/render_street.py examples/street --street
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from scenery.canvas import Camera, Floats, Light, fractal_noise, smooth_noise
from scenery.ground import Sky, Street
from scenery.layout import Scene, furnish

OVERSAMPLING = 2
JPEG_QUALITY = 92
PALETTE = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
    (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip
STREET = (
    (1001, 480, 360), (1002, 640, 480), (1003, 480, 360), (1005, 480, 360), (1007, 480, 360), (1009, 480, 360),
    (1011, 480, 360), (1012, 500, 375), (1013, 480, 360), (1015, 480, 360), (1017, 480, 360), (1019, 375, 500),
)  # fmt: skip
# Sky, then light from the sky and from the sun, as factors on colour. Above 255 the sky is burnt out.
WEATHER = {
    "bright": (
        Sky(top=(262, 270, 276), horizon=(290, 290, 290), cloud=(290, 290, 290), cover=0.3),
        (0.40, 0.41, 0.43),
        (0.85, 0.82, 0.75),
    ),
    "sunny": (
        Sky(top=(140, 192, 236), horizon=(262, 268, 272), cloud=(275, 275, 272), cover=-0.15),
        (0.38, 0.40, 0.44),
        (0.95, 0.90, 0.80),
    ),
    "overcast": (
        Sky(top=(206, 214, 222), horizon=(252, 254, 256), cloud=(238, 240, 242), cover=0.25),
        (0.74, 0.75, 0.76),
        (0.08, 0.08, 0.08),
    ),
    "dusk": (
        Sky(top=(104, 124, 142), horizon=(176, 184, 180), cloud=(136, 146, 152), cover=0.1),
        (0.36, 0.38, 0.41),
        (0.08, 0.07, 0.05),
    ),
}


def draw_camera(rng: np.random.Generator, street: Street, width: int, height: int) -> Camera:
    """Choose where the camera stands (in a lane) and where it looks."""
    w, h = width * OVERSAMPLING, height * OVERSAMPLING
    return Camera(
        width=w,
        height=h,
        focal=max(w, h) * rng.uniform(0.78, 1.1),
        horizon=h * rng.uniform(0.40, 0.56),
        height_m=rng.uniform(1.15, 1.75),
        x=-street.left * rng.uniform(0.15, 0.65) if street.two_way else rng.uniform(-1.0, 1.0),
        yaw=float(np.clip(rng.normal(0, 0.10), -0.28, 0.28)),
    )


def draw_street(rng: np.random.Generator) -> Street:
    """Choose the plan of a street."""
    two_way = bool(rng.random() < 0.85)
    lane = rng.uniform(2.9, 4.2)
    parking = tuple(side for side in (-1, 1) if rng.random() < 0.5)
    end = rng.uniform(38, 75) if rng.random() < 0.35 else rng.uniform(110, 180)
    gaps = []
    for side in (-1, 1):
        if rng.random() < 0.5:
            start = rng.uniform(14, min(50, end - 18))
            gaps.append((side, start, start + rng.uniform(6, 11)))
    return Street(
        left=(lane if two_way else lane * 0.75) + (2.0 if -1 in parking else 0.0),
        right=(lane if two_way else lane * 0.75) + (2.0 if 1 in parking else 0.0),
        walk_left=rng.uniform(1.6, 4.5),
        walk_right=rng.uniform(1.6, 4.5),
        bend=float(rng.normal(0, 0.0009)) if rng.random() < 0.6 else 0.0,
        end=end,
        end_width=rng.uniform(7, 11),
        gaps=tuple(gaps),
        verge=tuple(side for side in (-1, 1) if rng.random() < 0.2),
        two_way=two_way,
        parking=parking,
    )


def draw_weather(rng: np.random.Generator) -> tuple[Sky, Light]:
    """Choose the time of day: bright with a burnt-out sky, sunny and blue, overcast, or dusk."""
    kind = rng.choice(["bright", "sunny", "overcast", "dusk"], p=[0.4, 0.27, 0.18, 0.15])
    side, height = rng.uniform(-1, 1), rng.uniform(0.35, 0.9)
    direction = np.array([side, height, rng.uniform(-0.8, 0.8)])
    direction /= np.linalg.norm(direction)
    gain = rng.uniform(0.85, 1.55)
    sky, ambient, sun = WEATHER[str(kind)]
    haze = np.asarray(sky.horizon, dtype=np.float32) * np.float32(0.8)
    light = Light(
        ambient=np.asarray(ambient, dtype=np.float32) * np.float32(gain),
        sun=np.asarray(sun, dtype=np.float32) * np.float32(gain),
        towards_sun=(float(direction[0]), float(direction[1]), float(direction[2])),
        haze=haze,
        haze_per_m=float(rng.uniform(0.0008, 0.0045)),
    )
    return sky, light


def photograph(rng: np.random.Generator, rgb: Floats, width: int, height: int) -> NDArray[np.uint8]:
    """Turn the painted colours into a photograph: blur, vignette, uneven exposure and sensor noise."""
    picture = Image.fromarray((np.clip(rgb, 0, 300) * 0.85).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.9))))
    small = np.asarray(picture.resize((width, height), Image.Resampling.BOX), dtype=np.float32) / 0.85
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    small = small * (1 - rng.uniform(0.02, 0.12) * (x**2 + y**2))[..., None]
    small = small * (1 + 0.02 * fractal_noise(rng, (height, width), width / 3, 2))[..., None]
    strength = rng.uniform(0.5, 2.2)
    grey = rng.standard_normal((height, width)) + 0.4 * smooth_noise(rng, (height, width), 1.7)
    small = small + strength * (grey[..., None] + 0.4 * rng.standard_normal(small.shape))
    curve = 255 * (np.clip(small, 0, 255) / 255) ** rng.uniform(0.9, 1.15)
    cast = 1 + rng.normal(0, 0.015, 3)
    return np.clip(curve * cast, 0, 255).round().astype(np.uint8)


def render_scene(seed: int, width: int = 480, height: int = 360) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one street scene.

    Args:
        seed: everything in the scene follows from it and the size.
        width: picture width in pixels.
        height: picture height in pixels.

    Returns:
        The RGB picture (height x width x 3 uint8) and the class of each pixel (height x width uint8).
    """
    rng = np.random.default_rng(seed)
    street = draw_street(rng)
    sky, light = draw_weather(rng)
    scene = Scene(rng, street, sky, light, draw_camera(rng, street, width, height))
    furnish(scene)
    scene.paint()
    labels = scene.canvas.labels[::OVERSAMPLING, ::OVERSAMPLING]
    return photograph(rng, scene.canvas.rgb, width, height), np.ascontiguousarray(labels)


def save_scene(folder: Path, index: int, rgb: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Write one scene below ``folder`` as images/scene_NNNN.jpg and labels/scene_NNNN.png."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(folder / "images" / f"scene_{index:04d}.jpg", quality=JPEG_QUALITY)
    indexed = Image.fromarray(labels)
    indexed.putpalette([value for colour in PALETTE for value in colour] + [0] * 3 * (256 - len(PALETTE)))
    indexed.save(folder / "labels" / f"scene_{index:04d}.png", optimize=True)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def main() -> None:
    """Parse the command line, render and save."""
    parser = argparse.ArgumentParser(description="Render synthetic street scenes with the class of every pixel.")
    parser.add_argument("out", type=Path, help="folder that gets images/ and labels/")
    parser.add_argument("--count", type=_positive, default=12, help="number of scenes (default 12)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first scene; the next has seed + 1")
    parser.add_argument("--width", type=_positive, default=480, help="width in pixels (default 480)")
    parser.add_argument("--height", type=_positive, default=360, help="height in pixels (default 360)")
    parser.add_argument("--street", action="store_true", help="render the scenes of examples/street instead")
    args = parser.parse_args()
    counted = [(args.seed + i, args.width, args.height) for i in range(args.count)]
    for i, (seed, width, height) in enumerate(STREET if args.street else counted):
        save_scene(args.out, i, *render_scene(seed, width, height))
        print(f"scene_{i:04d}: seed {seed}, {width} x {height}")


if __name__ == "__main__":
    main()
