"""The example scenes are what their script renders."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"


def render(out: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, EXAMPLES / "render_street.py", out, *arguments], check=True, capture_output=True)


@pytest.mark.slow
def test_the_script_renders_the_very_scenes(tmp_path: Path) -> None:
    render(tmp_path, "--street")
    for path in sorted((EXAMPLES / "street" / "labels").iterdir()):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "labels" / path.name)), np.asarray(Image.open(path)))
        image = Path("images") / f"{path.stem}.jpg"
        ours, theirs = (np.asarray(Image.open(f / image)).astype(int) for f in (tmp_path, EXAMPLES / "street"))
        assert np.abs(ours - theirs).max() <= 8  # other libjpeg builds round otherwise


def test_a_seed_gives_one_scene_of_any_size_with_many_classes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        render(tmp_path / name, "--count", "1", "--seed", "7", "--width", "161", "--height", "119")
    first, second = ((tmp_path / name / "labels/scene_0000.png").read_bytes() for name in ("a", "b"))
    assert first == second
    labels = np.asarray(Image.open(tmp_path / "a/labels/scene_0000.png"))
    assert labels.shape == (119, 161)
    assert len(set(np.unique(labels)) - {255}) >= 6
