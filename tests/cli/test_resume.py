"""A run over the command line that is stopped, changed, split, or only looked at."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from fcnseg.running import picture_sinks
from tests.cli.test_run import label_maps, python_fcnseg
from tests.conftest import Outcome, TinyModel, make_tiny, mounted, photograph

Command = Callable[..., Outcome]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for i in range(8):
        photograph(folder / f"{i % 2}" / f"{i}.png", width=30 + i % 3, height=20, seed=i)
    return folder


@pytest.fixture
def run(fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path) -> Callable[..., Outcome]:
    def call(*arguments: object) -> Outcome:
        return fcnseg("run", photos, "--out", tmp_path / "masks", *tiny.arguments, *arguments)

    return call


def test_the_same_command_goes_on(run: Command, photos: Path, tmp_path: Path) -> None:
    assert run().code == 0
    before = {path: path.read_bytes() for path in label_maps(tmp_path / "masks")}
    (tmp_path / "masks/0/2.png").unlink()
    (tmp_path / "masks/1/3.png").write_bytes(b"cut short")
    photograph(photos / "0/4.png", width=31, height=20, seed=77)
    photograph(photos / "new.png")
    done = run()
    assert (done.code, "4 label maps" in done.err, "5 were there already" in done.err) == (0, True, True)
    after = {path: path.read_bytes() for path in label_maps(tmp_path / "masks")}
    changed = {path.relative_to(tmp_path / "masks").as_posix() for path in after if after[path] != before.get(path)}
    assert changed == {"0/4.png", "new.png"}


def test_failures_are_tried_again_only_when_asked_or_changed(run: Command, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no image")
    assert run().code == 3
    again = run()
    assert (again.code, "--retry-failed tries them again" in again.err) == (3, True)
    assert "failed: bad.png" in again.err
    photograph(photos / "bad.png")
    assert run().code == 0
    (photos / "worse.png").touch()
    assert run("--retry-failed").code == 3


def test_inputs_that_are_gone_are_forgotten(fcnseg: Command, run: Command, photos: Path, tmp_path: Path) -> None:
    (photos / "bad.png").touch()
    assert run().code == 3
    (photos / "bad.png").unlink()
    (photos / "0/0.png").unlink()
    assert run().code == 0
    state = fcnseg("status", tmp_path / "masks")
    assert (state.code, "7 of 7" in state.out) == (0, True)
    photograph(photos / "0/0.png", width=30, height=20, seed=0)
    assert run("--glob", "0.png").code == 0  # fewer inputs: what is done of the others is kept
    done = run()  # 0.png, too, which came back
    assert (done.code, "0 label maps" in done.err, "8 were there already" in done.err) == (0, True, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--precision", "bf16"], "precision was fp32, is bf16"),
        (["--overlay", "{folder}/drawn"], "overlay was None"),
    ],
)
def test_other_settings_in_one_folder_are_refused(run: Command, tmp_path: Path, change: list[str], said: str) -> None:
    assert run().code == 0
    before = [(path, path.read_bytes()) for path in label_maps(tmp_path / "masks")]
    arguments = [a.format(folder=tmp_path) for a in change]
    refused = run(*arguments)
    assert (refused.code, said in refused.error_line) == (2, True)
    assert [(path, path.read_bytes()) for path in label_maps(tmp_path / "masks")] == before
    assert run(*arguments, "--overwrite").code == 0


def test_other_weights_and_sources_are_refused(
    fcnseg: Command, run: Command, tiny: TinyModel, photos: Path, tmp_path: Path
) -> None:
    assert run().code == 0
    other = make_tiny(tmp_path, seed=2)
    assert "weights was" in run("--weights", other.weights).error_line
    copy = shutil.copytree(photos, tmp_path / "copy")
    refused = fcnseg("run", copy, "--out", tmp_path / "masks", *tiny.arguments)
    assert "source was" in refused.error_line


def test_another_machine_or_library_needs_a_word(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcnseg.engine.runtimes.pytorch as pytorch

    assert run().code == 0
    monkeypatch.setattr(pytorch.torch, "__version__", "9.9.0")
    refused = run()
    assert refused.code == 2
    assert "torch was" in refused.error_line
    assert "--accept-changed-environment" in refused.error_line
    assert "going on although torch was" in run("--accept-changed-environment").err
    assert run().code == 0  # the word was taken


def test_starting_over_removes_what_the_earlier_run_made(run: Command, photos: Path, tmp_path: Path) -> None:
    assert run().code == 0
    (photos / "0/0.png").unlink()
    (tmp_path / "masks/1/1.png").write_bytes(b"edited by someone")
    photograph(tmp_path / "masks/mine.png")
    assert run("--overwrite").code == 0
    names = {path.relative_to(tmp_path / "masks").as_posix() for path in label_maps(tmp_path / "masks")}
    assert names == {f"{i % 2}/{i}.png" for i in range(1, 8)} | {"mine.png"}


def test_parts_and_their_status(fcnseg: Command, run: Command, photos: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    assert fcnseg("status", masks).code == 1
    assert run("--num-parts", 3, "--part-id", 1).code == 0
    state = fcnseg("status", masks)
    assert state.code == 3
    assert "part 0 of 3: not started" in state.out
    assert "--num-parts 3 --part-id 2" in state.out
    assert "was filled in 3 parts, not 1" in run().error_line
    (photos / "bad.png").touch()
    codes = [run("--num-parts", 3, "--part-id", i).code for i in range(3)]
    assert sorted(codes) == [0, 0, 3]
    assert len(label_maps(masks)) == 8
    state = fcnseg("status", masks, "--failures")
    assert (state.code, "bad.png: load: the file is empty" in state.out) == (3, True)
    (photos / "bad.png").unlink()
    photograph(photos / "bad.png")
    assert [run("--num-parts", 3, "--part-id", i).code for i in range(3)] == [0, 0, 0]
    state = fcnseg("status", masks, "--json")
    values = json.loads(state.out)
    assert (state.code, values["whole"], sum(part["done"] for part in values["parts"])) == (0, True, 9)
    (masks / "0/2.png").unlink()
    state = fcnseg("status", masks)
    assert (state.code, "1 left" in state.out) == (3, True)
    assert "in the way" not in run("--num-parts", 3, "--part-id", 0, "--dry-run").out  # those of other parts


def test_a_dry_run_writes_nothing(run: Command, photos: Path, tmp_path: Path) -> None:
    (photos / "0/bad.jpg").touch()
    done = run("--dry-run", "--save-probabilities", tmp_path / "probs")
    assert done.code == 0
    assert "9 (8 .png, 1 .jpg)" in done.out
    assert "0/bad.jpg: the file is empty" in done.out
    assert not (tmp_path / "masks").exists()
    assert not (tmp_path / "probs").exists()
    values = json.loads(run("--dry-run", "--json", "-q", "--save-probabilities", tmp_path / "probs").out)
    assert (values["inputs"], values["sampled"]) == (9, 8)
    assert values["bytes_written"]["probabilities"] > 9 * 5 * 30 * 20 * 2
    assert values["seconds"] > 0
    photograph(photos / "0/0.jpg")
    assert "would write one output" in run("--dry-run").error_line


def test_what_does_not_fit_is_said_before(fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=100k") as small:
        probabilities = ["--save-probabilities", small / "p"]
        done = fcnseg("run", photos, "--out", tmp_path / "m", *probabilities, "--dry-run", *tiny.arguments)
        assert (done.code, "NOT ENOUGH" in done.out) == (0, False)
        for i in range(40):
            photograph(photos / f"more{i}.png")
        done = fcnseg("run", photos, "--out", tmp_path / "m", *probabilities, "--dry-run", *tiny.arguments)
        assert (done.code, "NOT ENOUGH" in done.out) == (1, True)


def test_somebody_elses_files_and_inputs_stay(
    fcnseg: Command, run: Command, tiny: TinyModel, photos: Path, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["images"] = np.zeros((2, 20, 30, 3), np.uint8)
    before = (tmp_path / "data.h5").read_bytes()
    source = f"{tmp_path}/data.h5::/images"
    for extra in ([], ["--overwrite"]):
        done = fcnseg("run", source, "--out", tmp_path / "data.h5", *tiny.arguments, *extra)
        assert (done.code, "would replace an input" in done.error_line) == (2, True)
    refused = fcnseg("run", photos, "--out", tmp_path / "data.h5", *tiny.arguments)
    assert (refused.code, "--overwrite" in refused.error_line) == (2, True)
    both = ["--out", tmp_path / "x.h5", "--save-probabilities", tmp_path / "x.h5"]
    assert "give two files" in fcnseg("run", photos, *both, *tiny.arguments).error_line
    assert (tmp_path / "data.h5").read_bytes() == before
    assert run().code == 0
    photograph(tmp_path / "masks/new.png", seed=5)
    mine = (tmp_path / "masks/new.png").read_bytes()
    photograph(photos / "new.jpg")
    assert f"in the way    {tmp_path}/masks/new.png: made by no run" in run("--dry-run").out
    assert "in the way" not in run("--dry-run", "--overwrite").out
    for _ in range(2):
        done = run()
        assert (done.code, "no run of fcnseg made it" in done.err) == (3, True)
        assert (tmp_path / "masks/new.png").read_bytes() == mine
        assert "in the way" in run("--dry-run").out
    (tmp_path / "masks/new.png").unlink()
    assert run().code == 0


def test_an_hdf5_output_is_whole_or_made_again(fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks.h5"
    run = ["run", photos, "--out", masks, *tiny.arguments]
    (photos / "bad.png").touch()
    assert fcnseg(*run).code == 3
    with h5py.File(masks) as file:
        assert file["fcnseg:missing"][0, 0] == b"bad.png"
        first = {key: file[f"0/{key}"][()] for key in file["0"]}
    (photos / "bad.png").unlink()
    photograph(photos / "more.png")
    assert "1 label map in" in fcnseg(*run).err  # the others are taken over from the file
    with h5py.File(masks) as file:
        assert "fcnseg:missing" not in file
        assert all(np.array_equal(file[f"0/{key}"], value) for key, value in first.items())
        assert "more.png" in file
    whole = masks.read_bytes()
    masks.write_bytes(whole[:3000])
    assert fcnseg("status", masks).code == 3
    assert "9 label maps" in fcnseg(*run).err
    assert fcnseg("status", masks).code == 0
    assert fcnseg(*run, "--overwrite").code == 0
    with h5py.File(masks) as file:
        assert np.array_equal(file["0/0.png"], first["0.png"])


def test_names_that_are_numbers_are_not_rows(fcnseg: Command, tiny: TinyModel, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for name in ("g/1", "g/01", "g/99999999999999999999"):
            file[name] = np.random.default_rng(len(name)).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert fcnseg("run", f"{tmp_path}/data.h5::/g", "--out", tmp_path / "m.h5", *tiny.arguments).code == 0
    with h5py.File(tmp_path / "m.h5") as file:
        assert sorted(file["g"]) == ["01", "1", "99999999999999999999"]


@pytest.mark.slow
def test_two_processes_may_share_an_hdf5_output(tiny: TinyModel, photos: Path, tmp_path: Path) -> None:
    run = ["run", photos, "--out", tmp_path / "masks.h5", *tiny.arguments]
    both = [python_fcnseg(*run), python_fcnseg(*run)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    with h5py.File(tmp_path / "masks.h5") as file:
        assert len(file["0"]) + len(file["1"]) == 8


def test_starting_a_part_over_leaves_the_others(run: Command, tmp_path: Path) -> None:
    for part in (0, 1, 0):
        assert run("--num-parts", 2, "--part-id", part, "--overwrite").code == 0
    assert len(label_maps(tmp_path / "masks")) == 8


def test_inputs_that_came_later_are_missed(fcnseg: Command, run: Command, photos: Path, tmp_path: Path) -> None:
    assert run("--num-parts", 2, "--part-id", 0).code == 0
    for i in range(8):
        photograph(photos / f"later{i}.png")
    assert run("--num-parts", 2, "--part-id", 1).code == 0
    state = fcnseg("status", tmp_path / "masks")
    assert (state.code, "not whole" in state.out) == (3, True)


def test_a_ledger_that_cannot_be_read_can_be_got_rid_of(run: Command, tmp_path: Path) -> None:
    assert run().code == 0
    (tmp_path / "masks/.fcnseg/ledger.sqlite").write_bytes(b"not a database" * 1000)
    assert run().code == 1
    done = run("--overwrite")
    assert (done.code, "is removed" in done.err) == (0, True)


def test_hdf5_in_and_out(fcnseg: Command, tiny: TinyModel, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"photos/{i}.png")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["images"] = images
    run = ["run", f"{tmp_path}/data.h5::/images", "--out", tmp_path / "masks.h5", *tiny.arguments]
    run += ["--save-probabilities", tmp_path / "probs.h5"]
    assert fcnseg(*run).code == 0
    folder = tmp_path / "masks"
    probabilities = ["--save-probabilities", tmp_path / "probs"]
    assert fcnseg("run", tmp_path / "photos", "--out", folder, *probabilities, *tiny.arguments).code == 0
    with h5py.File(tmp_path / "masks.h5") as file, h5py.File(tmp_path / "probs.h5") as values:
        assert file["labels"].shape == (5, 20, 30)
        assert list(file["labels"].attrs["classes"]) == ["a", "b", "c", "d", "e"]
        for i in range(5):
            assert np.array_equal(file["labels"][i], np.asarray(Image.open(folder / f"{i}.png")))
            found = values[f"images/{i:06}" if f"images/{i:06}" in values else f"images/{i}"]
            assert np.array_equal(found, np.load(tmp_path / f"probs/{i}.npy"))
    before = (tmp_path / "masks.h5").read_bytes()
    again = fcnseg(*run)
    assert (again.code, "5 were there already" in again.err) == (0, True)
    assert (tmp_path / "masks.h5").read_bytes() == before
    assert fcnseg("status", tmp_path / "masks.h5").code == 0
    (tmp_path / "masks.h5").unlink()
    assert fcnseg("status", tmp_path / "masks.h5").code == 3
    assert "5 label maps" in fcnseg(*run).err
    with h5py.File(tmp_path / "masks.h5") as file:
        assert file["labels"].shape == (5, 20, 30)


def test_json_logs_are_lines_of_json(run: Command, photos: Path) -> None:
    (photos / "bad.png").touch()
    done = run("--json-logs")
    events = [json.loads(line) for line in done.err.splitlines()]
    assert [e["event"] for e in events if e["event"] not in ("done", "failed", "listing")] == ["start", "end"]
    assert sum(e["event"] == "done" for e in events) == 8
    assert [e["reason"] for e in events if e["event"] == "failed"] == ["the file is empty (0 bytes)"]
    assert (events[-1]["exit_code"], events[-1]["done"]) == (3, 8)


def test_settings_from_a_file(fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path) -> None:
    settings = tmp_path / "run.toml"
    settings.write_text(
        f"source = {str(photos)!r}\nout = {str(tmp_path / 'masks')!r}\nmodel = {str(tiny.recipe)!r}\n"
        f"weights = {str(tiny.weights)!r}\nbackend = 'torch'\nglob = '1.*'\nsave-probabilities = 'nowhere'\n"
    )
    done = fcnseg("run", "--config", settings, "--save-probabilities", tmp_path / "probs")
    assert done.code == 0, done.err
    assert [p.name for p in label_maps(tmp_path / "masks")] == ["1.png"]
    assert (tmp_path / "probs/1/1.npy").is_file()
    settings.write_text("wieghts = 'x'\n")
    assert "wieghts is no option" in fcnseg("run", photos, "--out", "x", "--config", settings).error_line


def test_tiles_give_the_same_labels(fcnseg: Command, tmp_path: Path) -> None:
    model = make_tiny(tmp_path, stride=32)
    photograph(tmp_path / "photos/wide.png", 1100, 700)
    run = ["run", tmp_path / "photos", *model.arguments, "-q", "--json"]
    whole = json.loads(fcnseg(*run, "--out", tmp_path / "whole").out)
    done = fcnseg(*run, "--out", tmp_path / "cut", "--tile", "640")
    assert (whole["events"], json.loads(done.out)["events"]) == ({}, {"images cut into tiles": 1}), done.err
    assert (tmp_path / "whole/wide.png").read_bytes() == (tmp_path / "cut/wide.png").read_bytes()
    refused = fcnseg(*run, "--out", tmp_path / "small", "--tile", "100")
    assert (refused.code, "use --tile" in refused.error_line) == (2, True)
    assert not (tmp_path / "small").exists()


def test_strict_stops_at_the_first_failure(run: Command, photos: Path) -> None:
    (photos / "0/bad.png").touch()
    done = run("--strict")
    assert (done.code, "stopped: more than 0 images failed" in done.err) == (1, True)


def test_overlays_and_top_k(run: Command, tmp_path: Path) -> None:
    done = run("--overlay", tmp_path / "drawn", "--save-probabilities", tmp_path / "probs", "--top-k", 2)
    assert done.code == 0
    assert Image.open(tmp_path / "drawn/0/0.jpg").size == (30, 20)
    with np.load(tmp_path / "probs/0/0.npz") as found:
        assert found["classes"].shape == found["probabilities"].shape == (2, 20, 30)
        assert np.array_equal(found["classes"][0], np.asarray(Image.open(tmp_path / "masks/0/0.png")))


def test_paths_on_standard_input(tiny: TinyModel, photos: Path, tmp_path: Path) -> None:
    paths = "".join(f"{path}\n" for path in sorted(photos.rglob("*.png"))[:5])
    process = python_fcnseg("run", "-", "--out", tmp_path / "masks", *tiny.arguments, stdin=subprocess.PIPE)
    _, err = process.communicate(paths, timeout=60)
    assert process.returncode == 0, err
    assert len(label_maps(tmp_path / "masks")) == 5


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGKILL])
def test_stopped_at_any_moment_the_same_command_finishes(
    fcnseg: Command, tiny: TinyModel, tmp_path: Path, number: signal.Signals
) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for i in range(150):
        photograph(photos / f"{i:03d}.png", 200, 150, seed=i)
    arguments = ["run", photos, "--out", masks, *tiny.arguments]
    process = python_fcnseg(*arguments)
    deadline = time.monotonic() + 120
    while len(list(masks.glob("*.png"))) < 30 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert "the same command goes on" in err
        assert not list(masks.rglob(".fcnseg-part-*"))
        assert not list(masks.rglob("*.lock"))
    assert fcnseg("status", masks).code == 3
    done = fcnseg(*arguments)
    assert (done.code, "were there already" in done.err) == (0, True)
    assert len(label_maps(masks)) == 150
    assert not list(masks.rglob(".fcnseg-part-*"))


@pytest.mark.slow
def test_three_hundred_good_images_among_three_hundred_bad_ones(
    fcnseg: Command, tiny: TinyModel, tmp_path: Path
) -> None:
    photos, rng = tmp_path / "photos", np.random.default_rng(0)
    for i in range(300):
        photograph(photos / f"good {i:03}.{('png', 'jpg', 'webp')[i % 3]}", 24 + i % 5, 18, seed=i)
    sample = (photos / "good 000.png").read_bytes()
    jpeg = (photos / "good 001.jpg").read_bytes()
    for i in range(300):
        path = photos / f"bad {i:03}.png"
        kind = i % 6
        if kind == 0:
            path.write_bytes(sample[: int(rng.integers(1, len(sample) - 12))])
        elif kind == 1:
            path.write_bytes(jpeg[: int(rng.integers(2, len(jpeg) // 2))])
        elif kind == 2:
            flipped = bytearray(sample)
            flipped[int(rng.integers(50, len(sample) - 20))] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
        elif kind == 3:
            path.write_bytes(rng.bytes(i))
        elif kind == 4:
            path.write_text("<html>404</html>")
        elif i < 30:
            path.mkdir()
        else:
            os.mkfifo(path)
    done = fcnseg("run", photos, "--out", tmp_path / "masks", "--json", *tiny.arguments)
    summary = json.loads(done.out)
    assert (done.code, summary["done"], summary["failed"]) == (3, 300, 300)
    assert len(label_maps(tmp_path / "masks")) == 300
    assert all(failure["reason"] for failure in summary["failures"])


NAMES = [
    "ünï.png",
    "two  spaces.png",
    "new\nline.png",
    "-dash.png",
    "x" * 246 + ".png",
    "a.b.png",
    os.fsdecode(b"\xff.png"),
]


def test_names_of_every_kind(fcnseg: Command, tiny: TinyModel, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for folder in ("", "a/b"):
        for i, name in enumerate(NAMES):
            photograph(photos / folder / "x.png", 12, 10, seed=i).rename(photos / folder / name)
    run = ["run", photos, "--out", tmp_path / "masks", *tiny.arguments]
    assert fcnseg(*run).code == 0
    names = {os.fsencode(path.relative_to(tmp_path / "masks")) for path in label_maps(tmp_path / "masks")}
    assert names == {os.fsencode(Path(folder, name)) for folder in ("", "a/b") for name in NAMES}
    assert "14 were there already" in fcnseg(*run, "--json").err


def test_a_dry_run_says_what_the_run_would_refuse(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcnseg.engine.runtimes.pytorch as pytorch

    assert run("--num-parts", 2).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "masks").rglob("*.sqlite")}
    assert "was filled in 2 parts, not 1" in run("--dry-run").error_line
    parts = ["--num-parts", 2, "--dry-run"]
    refused = run(*parts, "--overlay", tmp_path / "drawn")
    assert (refused.code, "overlay was None" in refused.error_line) == (2, True)
    assert run(*parts, "--overlay", tmp_path / "drawn", "--overwrite").code == 0
    ended = len(label_maps(tmp_path / "masks"))
    assert f"{ended} by earlier runs; what follows is of the other 0" in run(*parts).out
    monkeypatch.setattr(pytorch.torch, "__version__", "9.9.0")
    assert "torch was" in run(*parts).error_line
    assert run(*parts, "--continue").code == 0
    assert {path: path.read_bytes() for path in (tmp_path / "masks").rglob("*.sqlite")} == before


def test_outputs_beside_a_folder_that_is_a_link_are_found_again(run: Command, tmp_path: Path) -> None:
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "masks").symlink_to(tmp_path / "elsewhere/deep")
    for said in ("8 label maps", "8 were there already"):
        assert said in run("--save-probabilities", tmp_path / "probs").err


def test_an_overlay_that_is_too_large_leaves_no_label_map(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_sinks, "LONGEST_JPEG", 31)  # px; some of the images are wider
    done = run("--overlay", tmp_path / "drawn")
    assert (done.code, "leave out --overlay" in done.err) == (3, True)
    drawn = sorted(path.relative_to(tmp_path / "drawn").with_suffix("") for path in (tmp_path / "drawn").rglob("*.jpg"))
    assert len(drawn) == 6
    assert drawn == sorted(
        path.relative_to(tmp_path / "masks").with_suffix("") for path in label_maps(tmp_path / "masks")
    )


@pytest.mark.parametrize("killed", [False, True])
def test_the_status_on_media_for_reading_alone(
    fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path, killed: bool
) -> None:
    with mounted(tmp_path / "media", "size=9m") as media:
        (photos / "bad.png").touch()
        run = ["run", photos, "--out", media / "masks", "--glob", "*.png", *tiny.arguments]
        assert fcnseg(*run).code == 3
        if killed:
            photograph(photos / "later.png")
            process = python_fcnseg(*run)
            log = media / "masks/.fcnseg/ledger.sqlite-wal"
            while not (log.exists() and log.stat().st_size) and process.poll() is None:
                time.sleep(0.01)
            process.kill()
            process.communicate()
            assert log.stat().st_size
        subprocess.run(["mount", "-o", "remount,ro", media], check=True)
        found = fcnseg("status", media / "masks", "--failures")
        assert found.code == 3
        assert "bad.png: load: the file is empty" in found.out
        assert re.match(r"[89] of (9|10) inputs are done, 1 failed", found.out)
        assert "being done" not in found.out


@pytest.mark.parametrize("way", ["absolute", "upwards", "through a link"])
def test_overwrite_removes_nothing_elsewhere_whatever_the_ledger_says(
    fcnseg: Callable[..., Outcome], tiny: TinyModel, tmp_path: Path, way: str
) -> None:
    photograph(tmp_path / "photos" / "a.png")
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    victim = elsewhere / "victim.png"
    arguments = ("run", tmp_path / "photos", "--out", out, *tiny.arguments)
    assert fcnseg(*arguments).code == 0
    victim.write_bytes((out / "a.png").read_bytes())
    (out / "link").symlink_to(elsewhere)
    recorded = {"absolute": str(victim), "upwards": "../elsewhere/victim.png", "through a link": "link/victim.png"}[way]
    with sqlite3.connect(out / ".fcnseg" / "ledger.sqlite") as database:
        (outputs,) = database.execute("SELECT outputs FROM images").fetchone()
        assert "a.png" in outputs
        database.execute("UPDATE images SET outputs = ?", (outputs.replace("a.png", recorded),))
    database.close()
    assert fcnseg(*arguments, "--overwrite").code == 0
    assert victim.exists()
    assert (out / "a.png").exists()
