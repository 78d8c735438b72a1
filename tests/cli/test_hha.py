"""`fcnseg hha` as typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.hha import encode, find_camera
from tests.conftest import Outcome
from tests.training.data_sets import matlab73, put

Command = Callable[..., Outcome]

K = {"fx": 40, "fy": 41, "cx": 19.5, "cy": 14.5, "width": 40, "height": 30}


def camera(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "K.json").write_text(json.dumps(K))
    return folder / "K.json"


def depth_map(seed: int) -> np.ndarray:
    """Millimetres, 30 x 40: a slanted surface."""
    rows, columns = np.mgrid[:30, :40]
    return np.asarray(1500 + 20 * rows + 5 * columns + 100 * seed, np.uint16)


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def written(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def test_a_folder_is_encoded_and_mirrored(fcnseg: Command, tmp_path: Path) -> None:
    own = camera(tmp_path)
    for i, name in enumerate(("a", "b/c")):
        save(tmp_path / "depth" / f"{name}.png", depth_map(i))
    np.save(tmp_path / "depth/d.npy", depth_map(2) / 1000)
    done = fcnseg("hha", tmp_path / "depth", "--camera", own, "--out", tmp_path / "hha")
    assert done.code == 0
    assert "3 HHA images" in done.out
    for i, name in enumerate(("a", "b/c", "d")):
        expected = encode(depth_map(i) / 1000, find_camera(str(own)))
        np.testing.assert_array_equal(written(tmp_path / "hha" / f"{name}.png"), expected)
    again = fcnseg("hha", tmp_path / "depth", "-c", own, "-o", tmp_path / "hha", "--json", "--quiet")
    assert json.loads(again.out) == {"total": 3, "done": 0, "kept": 3, "failed": 0, "failures": []}
    assert not again.err


def test_the_command_of_the_documentation(fcnseg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs/training.md").read_text()
    command = next(line.split() for line in page.splitlines() if line.startswith("fcnseg hha"))
    save(tmp_path / "depth/a.png", np.full((480, 640), 2000, np.uint16))
    monkeypatch.chdir(tmp_path)
    assert fcnseg(*command[1:]).code == 0
    assert (written(tmp_path / "hha/a.png")[..., 0] == 155).all()


def test_the_runs_reader_takes_what_is_written(fcnseg: Command, tmp_path: Path) -> None:
    from fcnseg.io.images import read_hha

    save(tmp_path / "a.png", depth_map(0))
    assert fcnseg("hha", tmp_path / "a.png", "-c", camera(tmp_path), "-o", tmp_path / "hha").code == 0
    np.testing.assert_array_equal(read_hha(tmp_path / "hha/a.png"), written(tmp_path / "hha/a.png"))


@pytest.mark.parametrize("scale", [5000, 256])
def test_another_depth_scale(scale: int, fcnseg: Command, tmp_path: Path) -> None:
    save(tmp_path / "depth/a.png", np.asarray(depth_map(0) / 1000.0 * scale + 0.5, np.uint16))
    done = fcnseg(*("hha", tmp_path / "depth", "-c", camera(tmp_path), "-o", tmp_path / "hha", "--depth-scale", scale))
    assert done.code == 0
    expected = encode(depth_map(0) / 1000, find_camera(str(tmp_path / "K.json"))).astype(int)
    assert np.abs(written(tmp_path / "hha/a.png") - expected)[5:-5, 5:-5, :2].max() <= 2


def test_the_labelled_file_of_nyud(fcnseg: Command, tmp_path: Path) -> None:
    rows, columns = np.mgrid[:480, :640]
    depths = np.stack([2 + 0.001 * rows, 3 + 0.001 * columns]).astype(np.float32)  # N x H x W, metres
    with matlab73(tmp_path / "nyu_depth_v2_labeled.mat") as file:
        put(file, "images", np.zeros((480, 640, 3, 2), np.uint8))
        put(file, "depths", depths.transpose(1, 2, 0))
    source = f"{tmp_path / 'nyu_depth_v2_labeled.mat'}::/depths"
    assert fcnseg("hha", source, "--camera", "nyud", "--out", tmp_path / "hha").code == 0
    for i in range(2):
        expected = encode(depths[i], find_camera("nyud"))
        np.testing.assert_array_equal(written(tmp_path / f"hha/depths/{i:06}.png"), expected)


def test_filled_and_raw_depth_of_the_labelled_file(fcnseg: Command, tmp_path: Path) -> None:
    rows, columns = np.mgrid[:480, :640]
    depths = np.stack([2 + 0.001 * rows, 3 + 0.001 * columns]).astype(np.float32)
    raw = depths.copy()
    raw[0, 100:200, 100:250] = raw[1, :, :50] = 0
    with matlab73(tmp_path / "nyu.mat") as file:
        put(file, "depths", depths.transpose(1, 2, 0))
        put(file, "rawDepths", raw.transpose(1, 2, 0))
    places = (f"{tmp_path}/nyu.mat::/depths", "--raw", f"{tmp_path}/nyu.mat::/rawDepths")
    assert fcnseg("hha", *places, "-c", "nyud", "-o", tmp_path / "hha", "-j", 2).code == 0
    for i in range(2):
        expected = encode(depths[i].astype(float), find_camera("nyud"), raw[i])
        np.testing.assert_array_equal(written(tmp_path / f"hha/depths/{i:06}.png"), expected)
        assert (expected[..., 2] == 218).sum() > 10_000


# ---------------------------------------------------------------------- raw maps beside filled ones


def pair(folder: Path, name: str, seed: int = 0) -> None:
    """A depth map, and the same with a hole."""
    raw = depth_map(seed)
    raw[8:22, 10:30] = 0
    save(folder / f"depth/{name}.png", depth_map(seed))
    save(folder / f"raw/{name}.png", raw)


def test_raw_maps_are_found_by_name(fcnseg: Command, tmp_path: Path) -> None:
    pair(tmp_path, "a/b")
    pair(tmp_path, "c", 1)
    (tmp_path / "raw/c.png").unlink()
    hole = np.where(np.arange(30)[:, None] < 15, depth_map(1) / 1000, 0)
    np.save(tmp_path / "raw/c.npy", hole)
    words = ("hha", tmp_path / "depth", "--raw", tmp_path / "raw", "-c", camera(tmp_path), "-o", tmp_path / "hha")
    assert fcnseg(*words).code == 0
    own = find_camera(str(tmp_path / "K.json"))
    with Image.open(tmp_path / "raw/a/b.png") as image:
        expected = encode(depth_map(0) / 1000, own, np.asarray(image))
    np.testing.assert_array_equal(written(tmp_path / "hha/a/b.png"), expected)
    np.testing.assert_array_equal(written(tmp_path / "hha/c.png"), encode(depth_map(1) / 1000, own, hole))
    assert (written(tmp_path / "hha/c.png")[20:, :, 2] == 218).all()
    one = ("hha", tmp_path / "depth/a/b.png", "--raw", tmp_path / "raw/a/b.png", "-c", tmp_path / "K.json")
    assert fcnseg(*one, "-o", tmp_path / "one").code == 0
    assert (tmp_path / "one/b.png").read_bytes() == (tmp_path / "hha/a/b.png").read_bytes()


def test_raw_maps_that_fail_are_named(fcnseg: Command, tmp_path: Path) -> None:
    for name in ("good", "missing", "larger", "nothing", "twice", "torn"):
        pair(tmp_path, name)
    (tmp_path / "raw/missing.png").unlink()
    save(tmp_path / "raw/larger.png", np.ones((31, 40), np.uint16))
    save(tmp_path / "raw/nothing.png", np.zeros((30, 40), np.uint16))
    np.save(tmp_path / "raw/twice.npy", depth_map(0))
    (tmp_path / "raw/torn.png").write_bytes(b"no image")
    words = ("hha", tmp_path / "depth", "--raw", tmp_path / "raw", "-c", camera(tmp_path), "-o", tmp_path / "hha")
    done = fcnseg(*words)
    assert done.code == 3
    reasons = dict(line.removeprefix("fcnseg: failed: ").split(": ", 1) for line in done.err.splitlines())
    assert "no raw depth image named missing in" in reasons["missing.png"]
    assert "raw depth is 40 x 31 px, the depth 40 x 30" in reasons["larger.png"]
    assert "no measured pixel" in reasons["nothing.png"]
    assert "2 raw depth maps named twice" in reasons["twice.png"]
    assert "its raw depth" in reasons["torn.png"]
    pair(tmp_path, "missing")  # it has another fingerprint now, so that it is tried without being asked
    again = fcnseg(*words, "--json")
    assert (again.code, json.loads(again.out)["done"], json.loads(again.out)["kept"]) == (3, 1, 1)
    assert "4 of these failed in an earlier call" in again.err
    pair(tmp_path, "larger")
    os.utime(tmp_path / "raw/larger.png", (0, 0))
    (tmp_path / "raw/twice.npy").unlink()
    assert json.loads(fcnseg(*words, "--json", "--retry-failed").out)["done"] == 2


def test_a_place_of_raw_maps_that_is_none(fcnseg: Command, tmp_path: Path) -> None:
    pair(tmp_path, "a")
    words = ("hha", tmp_path / "depth", "-c", camera(tmp_path), "-o", tmp_path / "hha", "--raw")
    nowhere = fcnseg(*words, tmp_path / "nowhere")
    assert (nowhere.code, "does not exist" in nowhere.error_line) == (1, True)
    one = fcnseg(*words, tmp_path / "raw/a.png")
    assert (one.code, "is one file" in one.error_line) == (2, True)
    assert not (tmp_path / "hha").exists()


# ---------------------------------------------------------------------- resuming


def outputs(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_killed_and_resumed_it_ends_the_same(fcnseg: Command, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1000, 4000, (240, 320)).astype(np.uint16)
    for i in range(30):
        save(tmp_path / f"depth/{i:02}.png", np.roll(values, i, 1))
    (tmp_path / "K.json").write_text(json.dumps({"fx": 300, "fy": 300, "cx": 160, "cy": 120}))
    words = ["hha", str(tmp_path / "depth"), "-c", str(tmp_path / "K.json"), "-j", "2", "-o"]
    with subprocess.Popen([sys.executable, "-m", "fcnseg", *words, "killed"], cwd=tmp_path) as process:
        while len(list(tmp_path.glob("killed/*.png"))) < 4 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    before = outputs(tmp_path / "killed")
    assert 4 <= len(before) < 30
    seen = fcnseg("status", tmp_path / "killed")
    assert (seen.code, "of 30 inputs are done" in seen.out) == (3, True)
    again = fcnseg(*words, tmp_path / "killed", "--json")
    assert again.code == 0
    assert json.loads(again.out)["kept"] > 0
    assert fcnseg(*words[:-2], "1", "-o", tmp_path / "undisturbed").code == 0
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "undisturbed")
    assert len(outputs(tmp_path / "killed")) == 30
    assert fcnseg("status", tmp_path / "killed").code == 0


def test_other_settings_start_over_only_when_asked(fcnseg: Command, tmp_path: Path) -> None:
    pair(tmp_path, "a")
    words = ("hha", tmp_path / "depth", "-c", camera(tmp_path), "-o", tmp_path / "hha")
    assert fcnseg(*words).code == 0
    before = outputs(tmp_path / "hha")
    for more in (("--raw", tmp_path / "raw"), ("--depth-scale", 500)):
        refused = fcnseg(*words, *more)
        assert refused.code == 2
        assert f"{more[0].lstrip('-')} was None, is" in refused.error_line
        assert outputs(tmp_path / "hha") == before
    assert fcnseg(*words, "--raw", tmp_path / "raw", "--overwrite").code == 0
    assert outputs(tmp_path / "hha") != before
    (tmp_path / "hha/a.png").write_bytes(b"damage")
    (tmp_path / "hha/a.png").unlink()
    assert fcnseg("status", tmp_path / "hha").code == 3
    assert fcnseg(*words, "--raw", tmp_path / "raw").code == 0
    assert outputs(tmp_path / "hha") != before


def test_the_folder_of_a_run_is_refused(fcnseg: Command, tmp_path: Path) -> None:
    save(tmp_path / "photos/a.png", np.zeros((40, 50, 3), np.uint8))
    assert (
        fcnseg("run", tmp_path / "photos", "--out", tmp_path / "out", "--backend", "torch", "--device", "cpu").code == 0
    )
    pair(tmp_path, "b")
    refused = fcnseg("hha", tmp_path / "depth", "-c", camera(tmp_path), "-o", tmp_path / "out")
    assert (refused.code, "records of `fcnseg run`" in refused.error_line) == (2, True)
    assert not (tmp_path / "out/b.png").exists()


def test_encoded_folders_are_inputs_other_than_those_of_runs(fcnseg: Command, tmp_path: Path) -> None:
    from fcnseg.io.folders import ImageFolder, is_run_output

    pair(tmp_path, "a")
    assert fcnseg("hha", tmp_path / "depth", "-c", camera(tmp_path), "-o", tmp_path / "all/hha").code == 0
    assert not is_run_output(str(tmp_path / "all/hha"))
    assert [entry.key for entry in ImageFolder(str(tmp_path / "all"))] == ["hha/a.png"]


def test_what_fails_is_named_and_the_rest_done(fcnseg: Command, tmp_path: Path) -> None:
    save(tmp_path / "depth/good.png", depth_map(0))
    save(tmp_path / "depth/empty.png", np.zeros((30, 40), np.uint16))
    save(tmp_path / "depth/large.png", np.full((31, 40), 2000, np.uint16))
    save(tmp_path / "depth/photo.png", np.zeros((30, 40, 3), np.uint8))
    (tmp_path / "depth/torn.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "depth/cube.npy", np.ones((2, 30, 40)))
    done = fcnseg("hha", tmp_path / "depth", "-c", camera(tmp_path), "-o", tmp_path / "hha")
    assert done.code == 3
    assert {path.name for path in (tmp_path / "hha").glob("*")} == {"good.png", ".fcnseg"}
    lines = [line.removeprefix("fcnseg: failed: ") for line in done.err.splitlines()]
    reasons = dict(line.split(": ", 1) for line in lines)
    assert set(reasons) == {"empty.png", "large.png", "photo.png", "torn.npy", "cube.npy"}
    assert "no pixel" in reasons["empty.png"]
    assert "40 x 31" in reasons["large.png"]
    assert "one channel" in reasons["photo.png"]
    assert "2 x 30 x 40" in reasons["cube.npy"]
    assert "1 HHA images" in done.out
    assert "5 failed" in done.out


def test_usage_that_is_refused(fcnseg: Command, tmp_path: Path) -> None:
    own = camera(tmp_path)
    save(tmp_path / "depth/a.png", depth_map(0))
    before = (tmp_path / "depth/a.png").read_bytes()
    over = fcnseg("hha", tmp_path / "depth", "-c", own, "-o", tmp_path / "depth")
    assert over.code == 2
    assert "depth map itself" in over.error_line
    assert (tmp_path / "depth/a.png").read_bytes() == before
    np.save(tmp_path / "depth/a.npy", depth_map(0))
    twice = fcnseg("hha", tmp_path / "depth", "-c", own, "-o", tmp_path / "hha")
    assert twice.code == 2
    assert "a.png and a.npy" in twice.error_line
    assert not (tmp_path / "hha").exists()
    assert "nyud" in fcnseg("hha", tmp_path / "depth", "-c", "kinect", "-o", tmp_path / "hha").error_line
    assert fcnseg("hha", tmp_path / "depth", "-o", tmp_path / "hha").code == 2
    wrong = fcnseg("hha", tmp_path / "depth", "-c", own, "-o", tmp_path / "hha", "--depth-scale", 0)
    assert wrong.code == 2
    assert "--depth-scale" in wrong.error_line


def test_a_file_where_another_output_needs_a_folder_is_refused(fcnseg: Command, tmp_path: Path) -> None:
    own = camera(tmp_path)
    save(tmp_path / "depth/a.tif", depth_map(0))
    save(tmp_path / "depth/a.png/b.tif", depth_map(1))
    done = fcnseg("hha", tmp_path / "depth", "-c", own, "-o", tmp_path / "hha")
    assert done.code == 2
    assert "a.tif and the folder a.png; rename one of them" in done.error_line
    assert not (tmp_path / "hha").exists()


def test_nothing_to_encode(fcnseg: Command, tmp_path: Path) -> None:
    own = camera(tmp_path / "elsewhere")
    (tmp_path / "depth").mkdir()
    for source in (tmp_path / "depth", tmp_path / "nowhere"):
        done = fcnseg("hha", source, "-c", own, "-o", tmp_path / "hha")
        assert done.code == 1
        assert str(source) in done.error_line


def test_outputs_within_the_source_are_not_inputs(fcnseg: Command, tmp_path: Path) -> None:
    own = camera(tmp_path)
    save(tmp_path / "data/a.png", depth_map(0))
    for said in ("1 HHA images", "0 HHA images in hha, 1 were there already"):
        done = fcnseg("hha", tmp_path / "data", "-c", own, "-o", tmp_path / "data/hha")
        assert done.code == 0
        assert said.replace("hha", str(tmp_path / "data/hha")) in done.out


def test_an_output_that_cannot_be_written(fcnseg: Command, tmp_path: Path) -> None:
    save(tmp_path / "depth/a.png", depth_map(0))
    (tmp_path / "hha").write_text("a file")
    done = fcnseg("hha", tmp_path / "depth", "-c", camera(tmp_path), "-o", tmp_path / "hha")
    assert done.code == 1
    assert "--out" in done.error_line


def test_files_of_others_are_not_overwritten(fcnseg: Command, tmp_path: Path) -> None:
    own = camera(tmp_path)
    save(tmp_path / "depth/a.png", depth_map(0))
    photo = save(tmp_path / "photos/a.png", np.zeros((30, 40, 3), np.uint8))
    before = photo.read_bytes()
    done = fcnseg("hha", tmp_path / "depth", "-c", own, "-o", tmp_path / "photos")
    assert done.code == 2
    assert f"{photo} exists and fcnseg hha did not make it" in done.error_line
    assert photo.read_bytes() == before
    photo.unlink()
    for _ in range(2):  # its own it does
        assert fcnseg("hha", tmp_path / "depth", "-c", own, "-o", tmp_path / "photos").code == 0


def test_arrays_of_any_case_but_not_hidden_ones(fcnseg: Command, tmp_path: Path) -> None:
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth/a.npy", depth_map(0) / 1000)
    (tmp_path / "depth/a.npy").rename(tmp_path / "depth/A.NPY")
    (tmp_path / "depth/._A.NPY").write_bytes(b"of the Finder")
    done = fcnseg("hha", tmp_path / "depth", "-c", camera(tmp_path), "-o", tmp_path / "hha")
    assert done.code == 0
    assert sorted(path.name for path in (tmp_path / "hha").iterdir()) == [".fcnseg", "A.png"]


def test_depth_of_8_bits_is_not_in_millimetres(fcnseg: Command, tmp_path: Path) -> None:
    save(tmp_path / "depth/a.png", np.full((30, 40), 250, np.uint8))
    done = fcnseg("hha", tmp_path / "depth", "-c", camera(tmp_path), "-o", tmp_path / "hha")
    assert done.code == 3
    assert "--depth-scale" in done.err
    again = fcnseg("hha", tmp_path / "depth", "-c", camera(tmp_path), "-o", tmp_path / "hha", "--depth-scale", 25.5)
    assert again.code == 0


def test_ctrl_c_does_not_wait_for_the_images_that_are_left(tmp_path: Path) -> None:
    (tmp_path / "depth").mkdir()
    for name in "abc":
        np.save(tmp_path / "depth" / f"{name}.npy", np.full((3000, 4000), 2.0, np.float32))
    (tmp_path / "K.json").write_text('{"fx": 4000, "fy": 4000, "cx": 2000, "cy": 1500}')
    words = ["hha", "depth", "--camera", "K.json", "--out", "hha"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fcnseg", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    process.stderr.readline()  # progress: it has begun
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert len(list(tmp_path.glob("hha/*.png"))) < 3
    assert (process.returncode, "interrupted" in said.splitlines()[-1]) == (130, True)
    assert not [path for path in tmp_path.glob("hha/*") if path.suffix != ".png" and path.name != ".fcnseg"]
