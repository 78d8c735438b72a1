"""`fcnseg view` as typed, and in a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import fcnseg as library
from fcnseg.io.overlays import overlay
from tests.conftest import Outcome, photograph
from tests.scoring.maps import save

Command = Callable[..., Outcome]
LABELS = np.tile(np.array([[0, 0, 3, 8], [0, 255, 3, 8]], np.uint8), (15, 10))  # 30 x 40


def pair(folder: Path) -> tuple[Path, Path]:
    return photograph(folder / "photo.png", 40, 30), save(folder / "mask.png", LABELS)


def test_the_overlay_is_written_and_classes_are_listed(fcnseg: Command, tmp_path: Path) -> None:
    image, mask = pair(tmp_path)
    done = fcnseg("view", image, mask, "--out", tmp_path / "o.png", "--opacity", 0.7)
    assert done.code == 0
    space = library.find_recipe("street-fcn8s").heads[0].labels
    expected = overlay(np.asarray(Image.open(image)), LABELS, space, 0.7)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "o.png")), expected)
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["37.50", "%", "0", "sky"]
    assert lines[-1] == ["12.50", "%", "void"]


def test_the_legend_lies_beside_the_image(fcnseg: Command, tmp_path: Path) -> None:
    image, mask = pair(tmp_path)
    assert fcnseg("view", image, mask, "--out", tmp_path / "o.png", "--legend").code == 0
    whole = np.asarray(Image.open(tmp_path / "o.png"))
    space = library.find_recipe("street-fcn8s").heads[0].labels
    beside = {tuple(color) for color in whole[:, 48:].reshape(-1, 3).tolist()}
    assert {space.colors[i] for i in (0, 3, 8)} <= beside
    assert space.colors[1] not in beside


@pytest.mark.parametrize(
    ("labels", "options", "reason"),
    [
        (LABELS.T, [], "30 x 40 px"),
        (np.full_like(LABELS, 77), [], "77|no class"),
        (LABELS, ["--model", "voc-fcn9s"], "voc-fcn"),
        (LABELS, ["--model", "siftflow-fcn8s"], "--head"),
        (LABELS, ["--out", "overlay.jpg"], "PNG"),
        (LABELS, ["--opacity", "2"], "opacity"),
    ],
)
def test_what_does_not_fit_is_one_line(
    fcnseg: Command, tmp_path: Path, labels: np.ndarray, options: list[str], reason: str
) -> None:
    image, mask = pair(tmp_path)
    save(mask, labels)
    done = fcnseg("view", image, mask, "--out", tmp_path / "o.png", *options)
    assert done.code == 2
    assert any(words in done.error_line for words in reason.split("|"))
    assert not (tmp_path / "o.png").exists()


def test_a_map_in_a_volume_is_drawn(fcnseg: Command, tmp_path: Path) -> None:
    image, mask = pair(tmp_path)
    with h5py.File(tmp_path / "m.h5", "w") as h5:
        h5["a/photo.png"], h5["b"] = LABELS, LABELS
    for name, file in ((f"{tmp_path}/m.h5::/a/photo.png", "h.png"), (mask, "p.png")):
        assert fcnseg("view", image, name, "--out", tmp_path / file).code == 0
    assert (tmp_path / "h.png").read_bytes() == (tmp_path / "p.png").read_bytes()
    done = fcnseg("view", image, tmp_path / "m.h5", "--out", tmp_path / "o.png")
    assert (done.code, "2 label maps; name one, e.g." in done.error_line) == (2, True)


def test_an_image_that_cannot_be_read_is_named(fcnseg: Command, tmp_path: Path) -> None:
    _, mask = pair(tmp_path)
    done = fcnseg("view", tmp_path / "gone.png", mask, "--out", tmp_path / "o.png")
    assert done.code == 1
    assert f"{tmp_path}/gone.png cannot be read: No such file" in done.error_line


def test_without_a_terminal_a_file_is_asked_for(fcnseg: Command, tmp_path: Path) -> None:
    assert "--out" in fcnseg("view", *pair(tmp_path)).error_line


def test_a_terminal_shows_the_picture(tmp_path: Path) -> None:
    image, mask = pair(tmp_path)
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "fcnseg", "view", str(image), str(mask)], stdin=inside, stdout=inside, stderr=inside
    )
    os.close(inside)
    seen = b""
    while True:
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        seen += data
    assert process.wait(60) == 0
    assert "▀".encode() in seen or "▄".encode() in seen
    assert b"37.50 % 0 sky" in seen


@pytest.mark.parametrize(
    ("values", "options", "lines"),
    [
        ([[0, 11]], [], ["50.00 % 0 sky", "50.00 % void"]),  # CamVid's own void
        ([[7, 4]], ["--labels", "cityscapes"], ["50.00 % 0 road", "50.00 % void"]),
        ([[1, 0]], ["--reduce-labels"], ["50.00 % 0 sky", "50.00 % void"]),
        ([[0, 77]], ["--ignore", "77"], ["50.00 % 0 sky", "50.00 % void"]),
        ([[0, 255]], ["--binary"], ["50.00 % 1 foreground", "50.00 % 0 background"]),
    ],
)
def test_values_are_read_as_by_score(
    fcnseg: Command, tmp_path: Path, values: list[list[int]], options: list[str], lines: list[str]
) -> None:
    image = photograph(tmp_path / "photo.png", 40, 30)
    mask = save(tmp_path / "mask.png", np.tile(np.array(values, np.uint8), (30, 20)))
    done = fcnseg("view", image, mask, "--out", tmp_path / "o.png", *options)
    assert done.code == 0, done.err
    assert [line.strip() for line in done.out.splitlines()] == lines
