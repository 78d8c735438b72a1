"""`fcnseg train` as its user types it: from a folder to a model that the other commands take."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fcnseg.recipes import load_recipe
from fcnseg.training.datasets import KINDS
from tests.conftest import Outcome, TinyModel, make_tiny, photograph

Run = Callable[..., Outcome]
ROOT = Path(__file__).parents[2]


def labelled(folder: Path, count: int, classes: int = 5, first: int = 0, size: tuple[int, int] = (64, 48)) -> Path:
    """Images of so many pixels across and down, and label maps of theirs."""
    for number in range(first, first + count):
        image = photograph(folder / "images" / f"{number}.jpg", *size, seed=number)
        values = np.asarray(Image.open(image).convert("L")) // (256 // classes + 1)
        (folder / "labels").mkdir(exist_ok=True)
        Image.fromarray(values).save(folder / "labels" / f"{number}.png")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    labelled(tmp_path / "data" / "train", 4)
    labelled(tmp_path / "data" / "val", 2, first=10)
    return tmp_path / "data"


def command(tiny: TinyModel, data: Path, out: Path, *more: object) -> list[str]:
    words = ["train", tiny.recipe, "--data", data, "--out", out, "--weights", tiny.weights, "-b", 2, *more]
    return [str(word) for word in words]


def test_a_model_comes_out_that_run_and_score_take(fcnseg: Run, tiny: TinyModel, data: Path, tmp_path: Path) -> None:
    (data / "classes.txt").write_text("dark\ndim\nmiddle\nlight\nbright\n")
    for file in data.glob("*/labels/*.png"):  # in colours of their own
        image = Image.open(file)
        image.putpalette([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9])
        image.save(file)
    out = tmp_path / "my model é"  # no name for a recipe
    done = fcnseg(*command(tiny, data, out, "--epochs", 2))
    assert done.code == 0, done.err
    assert "mean IoU" in done.out
    assert str(out / "model.toml") in done.out
    assert load_recipe(out / "model.toml").name == "my-model"
    labels = data / "val" / "labels"
    ran = fcnseg(
        "run", data / "val" / "images", "--model", out / "model.toml", "--backend", "torch", "--out", tmp_path / "maps"
    )
    assert ran.code == 0, ran.err
    assert fcnseg("score", tmp_path / "maps", labels, "--json-file", tmp_path / "score.json").code == 0
    result = json.loads((tmp_path / "score.json").read_text())
    assert [row["name"] for row in result["per_class"]] == ["dark", "dim", "middle", "light", "bright"]
    found = json.loads((out / "figures.json").read_text())["heads"]["labels"]
    for name in ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu"):
        assert result[name] == pytest.approx(found[name], abs=0.02)  # trained and validated in bfloat16
    again = fcnseg(*command(tiny, data, out, "--epochs", 2))
    assert again.code == 0
    assert again.out == done.out
    other = fcnseg(*command(tiny, data, out, "--epochs", 3))
    assert other.code == 2
    assert "epochs" in other.error_line
    assert "--overwrite" in other.error_line


def started(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, "-m", "fcnseg", *words], stderr=file, stdout=file, env=environment)


def rows(out: Path) -> int:
    return len((out / "log.csv").read_text().splitlines()) if (out / "log.csv").exists() else 0


def test_killed_at_random_moments_it_ends_with_the_same_weights(tiny: TinyModel, data: Path, tmp_path: Path) -> None:
    more = ("--steps", 20, "--save-every", 0, "--log-every", 1, "--precision", "fp32", "--crop", "48x32")
    log = tmp_path / "log"
    assert started(command(tiny, data, tmp_path / "whole", *more), log).wait(120) == 0, log.read_text()
    words = command(tiny, data, tmp_path / "killed", *more)
    rng, kills = np.random.default_rng(0), 0
    while True:
        process = started(words, log)
        wanted = rows(tmp_path / "killed") + int(rng.integers(5, 9))
        while process.poll() is None and rows(tmp_path / "killed") < wanted:
            time.sleep(0.01)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL if kills % 2 == 0 else signal.SIGTERM)
        code = process.wait(60)
        if code == 0:  # it was at its end
            break
        assert code in (-signal.SIGKILL, 130), log.read_text()
        if code == 130:
            assert "the same command goes on" in log.read_text()
        kills += 1
    assert process.returncode == 0, log.read_text()
    assert kills >= 2
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(value, killed[name]) for name, value in whole.items())
    assert (tmp_path / "whole" / "log.csv").read_text() == (tmp_path / "killed" / "log.csv").read_text()


def test_a_staged_chain_from_an_imagenet_like_trunk(fcnseg: Run, data: Path, tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path, geometry="caffe")
    trunk = {name: value for name, value in load_file(tiny.weights).items() if name.startswith(("conv", "fc"))}
    torch.save(trunk, tmp_path / "trunk.pth")
    words = ["train", tiny.recipe, "--data", data, "--out", tmp_path / "run", "--weights", tmp_path / "trunk.pth"]
    done = fcnseg(*words, "--preset", "heavy", "--steps", 2)
    assert done.code == 0, done.err
    for stage in ("stage 32s begins with trunk.pth", "stage 16s", "stage 8s"):
        assert stage in done.err
    assert (tmp_path / "run" / "stage-32s.safetensors").exists()
    assert (tmp_path / "run" / "stage-16s.safetensors").exists()


def test_torchrun_trains_in_two_processes(tiny: TinyModel, data: Path, tmp_path: Path) -> None:
    words = command(tiny, data, tmp_path / "run", "--epochs", 1)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fcnseg"]
    done = subprocess.run([*torchrun, *words], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mean IoU") == 1
    assert (tmp_path / "run" / "model.toml").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--scratch",), "--scratch and --weights contradict"),
        (("--staged",), "no stages left"),
        (("--preset", "fast"), "there is no preset 'fast'"),
        (("--crop", "big"), "--crop is 'big'"),
        (("--split", "nothing"), "nothing"),
        (("--val-split", "train"), "for training and for validation"),
        (("--lr", "-1"), "numbers above 0"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    fcnseg: Run, tiny: TinyModel, data: Path, tmp_path: Path, more: tuple[str, ...], says: str
) -> None:
    done = fcnseg(*command(tiny, data, tmp_path / "run", *more))
    assert done.code in (1, 2)
    assert says in done.error_line
    assert not (tmp_path / "run").exists()


def test_help_names_every_kind_of_data_set(fcnseg: Run) -> None:
    said = fcnseg("train", "--help").out
    assert all(f"{kind}," in said or f"{kind} " in said or f"{kind}." in said for kind in KINDS)


def test_published_presets_ask_for_their_start(fcnseg: Run, data: Path, tmp_path: Path) -> None:
    done = fcnseg("train", "street-fcn8s", "--data", data, "--out", tmp_path / "run", "--preset", "heavy")
    assert done.code == 2
    assert "--weights" in done.error_line


def test_labels_of_no_class_stop_it_with_the_file(fcnseg: Run, tiny: TinyModel, data: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 64), 9, np.uint8)).save(data / "train" / "labels" / "2.png")
    done = fcnseg(*command(tiny, data, tmp_path / "run"))
    assert done.code == 2
    assert "2.png" in done.error_line
    assert "9" in done.error_line


@pytest.mark.parametrize(("part", "workers"), [("train/images/2.jpg", 0), ("val/images/11.jpg", 2)])
def test_a_damaged_image_stops_it_with_one_line(
    fcnseg: Run, tiny: TinyModel, data: Path, tmp_path: Path, part: str, workers: int
) -> None:
    photo = data / part
    photo.write_bytes(photo.read_bytes()[:400])
    done = fcnseg(*command(tiny, data, tmp_path / "run", "--workers", workers, "--lr", 0.001))
    assert done.code == 1
    assert photo.name in done.error_line
    assert "stage" not in done.err  # before the first step
    assert "Traceback" not in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_interrupted_with_workers_it_ends_after_its_step(
    tiny: TinyModel, data: Path, tmp_path: Path, number: signal.Signals
) -> None:
    words = command(tiny, data, tmp_path / "run", "--steps", 3000, "--log-every", 1, "--workers", 2)
    process = subprocess.Popen(
        [sys.executable, "-m", "fcnseg", *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while rows(tmp_path / "run") < 4 and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, number)  # as a terminal does: to all processes
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    assert "Traceback" not in said


def test_a_disk_that_is_full_is_one_line(tiny: TinyModel, data: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "fcnseg", *command(tiny, data, tmp_path / "run", "--steps", 4, "--save-every", 0)]
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (10_000, 10_000))
    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=limit, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "run cannot be written: File too large" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").glob(".*"))
    assert subprocess.run(words, capture_output=True, check=False, timeout=120).returncode == 0


def test_a_terminal_shows_how_far_it_is_and_that_it_heard(tiny: TinyModel, data: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "fcnseg", *command(tiny, data, tmp_path / "run", "--steps", 3000)]
    ours, theirs = os.openpty()
    process = subprocess.Popen(words, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"})
    os.close(theirs)
    seen = b""
    with suppress(OSError):  # how the end is told
        while more := os.read(ours, 1 << 16):
            seen += more
            if b"images/s" in seen and process.poll() is None and b"stopping" not in seen:
                process.send_signal(signal.SIGINT)
    os.close(ours)
    said = seen.decode()
    assert process.wait(60) == 130, said
    for part in ("reading the training images", "8s", "/3000 steps", "images/s", "the same command goes on"):
        assert part in said
    assert "Traceback" not in said


def test_a_training_logs_events_and_prints_its_result(fcnseg: Run, tiny: TinyModel, data: Path, tmp_path: Path) -> None:
    done = fcnseg(*command(tiny, data, tmp_path / "run", "--steps", 2, "--json-logs", "--json"))
    assert done.code == 0
    events = [json.loads(line) for line in done.err.splitlines()]
    kinds = [event["event"] for event in events]
    assert next(kind for kind in kinds if kind in ("stage", "validation", "end")) == "stage"
    assert {"progress", "stage", "step", "validation"} <= set(kinds)
    assert (kinds[-1], events[-1]["exit_code"]) == ("end", 0)
    assert [event["step"] for event in events if event["event"] == "step"][-1] == 2
    result = json.loads(done.out)
    assert (result["stopped_at"], Path(result["model"]).exists()) == ("", True)
    assert 0 <= result["figures"]["labels"]["mean_iu"] <= 1
    assert "copied: conv1_1.weight" in fcnseg(*command(tiny, data, tmp_path / "other", "--steps", 1, "-v")).err


def test_a_long_stage_is_shown_without_a_terminal(
    fcnseg: Run, tiny: TinyModel, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcnseg.cli.train_progress.PLAIN_SECONDS", 0.0)
    done = fcnseg(*command(tiny, data, tmp_path / "run", "--steps", 2))
    assert "8s step 2 of 2, loss " in done.err
    assert "step 1" not in fcnseg(*command(tiny, data, tmp_path / "quiet", "--steps", 2, "-q")).err
    monkeypatch.undo()
    assert "8s step 1 of 1, loss " in fcnseg(*command(tiny, data, tmp_path / "short", "--steps", 1)).err


def test_label_values_are_said_as_to_score_and_absent_classes_are_named(
    fcnseg: Run, tiny: TinyModel, data: Path, tmp_path: Path
) -> None:
    for file in data.glob("*/labels/*.png"):  # 0 is void, classes are 1 to 4
        values = np.asarray(Image.open(file))
        Image.fromarray(np.where(values == 3, 1, values)).save(file)
    (data / "classes.txt").write_text("dark\ndim\nmiddle\nlight\nbright\n")
    (tmp_path / "map.txt").write_text("0: void\n1-2: dim\n3: middle\n4: bright\n")
    out = tmp_path / "run"
    done = fcnseg(*command(tiny, data, out, "--steps", 1, "--label-map", tmp_path / "map.txt"))
    assert done.code == 0, done.err
    assert "no pixel for training has 3 of the 5 classes: dark, middle, light;" in done.err
    assert json.loads((out / "train.json").read_text())["label_values"] == {"label_map": str(tmp_path / "map.txt")}
    other = fcnseg(*command(tiny, data, out, "--steps", 1))
    assert other.code == 2  # other values are another training
    twice = fcnseg(*command(tiny, data, tmp_path / "b", "--labels", "voc", "--reduce-labels"))
    assert "each say how values are read" in twice.error_line
    unknown = fcnseg(*command(tiny, data, tmp_path / "c", "--labels", "kitti"))
    assert "--labels is 'kitti'; known are ade20k, camvid" in unknown.error_line
