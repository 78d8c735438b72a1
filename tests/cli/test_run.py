import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.labels import voc_color
from fcnseg.running import run as run_module
from tests.conftest import Outcome, TinyModel, make_tiny, mounted, photograph

Command = Callable[..., Outcome]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photographs in a tree, of three sizes."""
    folder = tmp_path / "photos"
    for i, name in enumerate(["a.jpg", "sub/b.png", "sub/deep/c.webp"]):
        photograph(folder / name, width=40 + 7 * i, height=30 + 5 * i, seed=i)
    return folder


def label_maps(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*.png") if ".fcnseg" not in p.parts]


def test_a_folder_becomes_a_mirrored_tree_of_label_maps(
    fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    done = fcnseg("run", photos, "--out", masks, *tiny.arguments)
    assert (done.code, done.out) == (0, "")
    assert f"3 label maps in {masks}" in done.err
    files = (p.relative_to(masks).as_posix() for p in masks.rglob("*") if p.is_file())
    written = sorted(name for name in files if not name.endswith("-opening"))
    records = [".fcnseg/classes.json", ".fcnseg/ledger.sqlite", ".fcnseg/legend.png", ".fcnseg/run.json"]
    assert written == [*records, "a.png", "sub/b.png", "sub/deep/c.png"]
    with Image.open(masks / "sub/deep/c.png") as image:
        assert (image.mode, image.size) == ("P", (54, 40))
        assert image.getpalette()[3:6] == list(voc_color(1))
        assert np.asarray(image).max() < 5


def test_the_record_says_what_was_done(fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path) -> None:
    done = fcnseg("run", photos, "--out", tmp_path / "masks", "--json", "-q", *tiny.arguments)
    summary = json.loads(done.out)
    assert (summary["total"], summary["done"], summary["failures"], summary["exit_code"]) == (3, 3, [], 0)
    record = json.loads((tmp_path / "masks/.fcnseg/run.json").read_text())
    assert record["engine"]["backend"] == "torch"
    assert len(record["engine"]["weights_sha256"]) == 64
    assert record["settings"]["source"] == str(photos)


def test_bad_images_are_reported_and_the_rest_is_done(
    fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path
) -> None:
    (photos / "zero.jpg").touch()
    (photos / "lies.png").write_bytes(b"<html>")
    (photos / "cut.png").write_bytes((photos / "sub/b.png").read_bytes()[:80])
    done = fcnseg("run", photos, "--out", tmp_path / "masks", *tiny.arguments)
    assert done.code == 3
    for name, reason in (("zero.jpg", "0 bytes"), ("lies.png", "HTML"), ("cut.png", "")):
        assert any(name in line and reason in line for line in done.err.splitlines() if "failed" in line)
    assert len(label_maps(tmp_path / "masks")) == 3


def test_one_image_and_a_list(fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path) -> None:
    assert fcnseg("run", photos / "a.jpg", "--out", tmp_path / "one", *tiny.arguments).code == 0
    assert (tmp_path / "one/a.png").is_file()
    listed = tmp_path / "list.txt"
    listed.write_text("photos/a.jpg\nphotos/sub/b.png\n")
    assert fcnseg("run", listed, "--out", tmp_path / "listed", *tiny.arguments).code == 0
    assert (tmp_path / "listed/a.png").read_bytes() == (tmp_path / "one/a.png").read_bytes()
    assert (tmp_path / "listed/sub/b.png").is_file()


def test_workers_and_company_change_no_byte(fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path) -> None:
    for j in (1, 4):
        assert fcnseg("run", photos, "--out", tmp_path / str(j), "-j", j, *tiny.arguments).code == 0
    assert label_maps(tmp_path / "1")
    for path in label_maps(tmp_path / "1"):
        assert path.read_bytes() == (tmp_path / "4" / path.relative_to(tmp_path / "1")).read_bytes()


def test_probabilities_beside_the_labels(fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path) -> None:
    probs = tmp_path / "probs"
    arguments = ["run", photos, "--out", tmp_path / "masks", "--save-probabilities", probs, *tiny.arguments]
    assert fcnseg(*arguments, "--probabilities-dtype", "float32").code == 0
    values = np.load(probs / "sub/b.npy")
    assert (values.dtype, values.shape) == (np.float32, (5, 35, 47))
    labels = np.asarray(Image.open(tmp_path / "masks/sub/b.png"))
    assert (np.take_along_axis(values, labels[None].astype(int), 0)[0] == values.max(0)).all()
    assert "probabilities-dtype was float32, is float16" in fcnseg(*arguments).error_line
    assert fcnseg(*arguments, "--overwrite").code == 0
    assert np.load(probs / "a.npy").dtype == np.float16
    assert "float16 or float32" in fcnseg(*arguments, "--probabilities-dtype", "int8").error_line


def test_depth_goes_in_by_name(fcnseg: Command, photos: Path, tmp_path: Path) -> None:
    model = make_tiny(tmp_path, streams="depth", stride=32)
    for path in photos.rglob("*.*"):
        target = tmp_path / "depth" / path.relative_to(photos).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        width, height = Image.open(path).size
        Image.fromarray(np.full((height, width), 2000, np.uint16)).save(target)
    run = ["run", photos, "--out", tmp_path / "masks", *model.arguments]
    assert "--depth DIR" in fcnseg(*run).error_line
    assert fcnseg(*run, "--depth", tmp_path / "depth").code == 0
    (tmp_path / "depth/a.png").unlink()
    done = fcnseg(*run, "--depth", tmp_path / "depth")
    assert done.code == 3
    assert "no depth image named a" in done.err


REFUSALS = [
    (["absent/"], 1, "does not exist"),
    (["{empty}"], 1, "no images"),
    (["{photos}", "--model", "voc-fcn9s"], 2, "did you mean voc-fcn8s"),
    (["{photos}", "--model", "absent.toml"], 2, "no recipe file"),
    (["{photos}", "--device", "gpu"], 2, "auto, cpu, cuda"),
    (["{photos}", "--precision", "fp4"], 2, "auto, fp32, bf16"),
    (["{photos}", "--backend", "caffe"], 2, "use auto, torch"),
    (["{photos}", "--backend", "openvino", "--device", "cuda"], 2, "use --device cpu"),
    (["{photos}", "--backend", "openvino", "--precision", "fp16"], 2, "fp32, bf16, int8"),
    (["{photos}", "--backend", "openvino", "--precision", "int8"], 2, "--calibrate DIR"),
    (["{photos}", "--engine", "absent.engine"], 2, "is not there"),
    (["{photos}", "--num-parts", "2", "--part-id", "2"], 2, "0 to 1"),
    (["{photos}", "--tile", "small"], 2, "auto, off"),
    (["{photos}", "--top-k", "2"], 2, "--save-probabilities"),
    (["{photos}", "--continue", "--overwrite"], 2, "one of them"),
    (["{photos}", "--num-parts", "2", "--save-probabilities", "p.h5"], 2, "a file for each part"),
    (["{photos}", "--config", "absent.toml"], 2, "absent.toml"),
    (["{photos}", "--nonsense"], 2, "--nonsense"),
    (["{photos}", "-j", "0"], 2, "--help"),
    (["{photos}", "--depth", "{empty}"], 2, "leave out --depth"),
    (["{photos}", "--weights", "absent.safetensors"], 1, "absent.safetensors"),
    (["{photos}", "--out", "{photos}/a.jpg"], 1, "is a file"),
    (["{photos}", "--out", "{photos}/a.jpg/masks"], 1, "is a file"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    REFUSALS,
    ids=[" ".join(r[0]).replace("{photos}", "").strip() or "photos" for r in REFUSALS],
)
def test_what_cannot_be_done_is_one_line_and_a_code(
    fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [a.format(photos=photos, empty=tmp_path / "empty") for a in arguments]
    out = [] if "--out" in filled else ["--out", tmp_path / "masks"]
    model = tiny.arguments[: 4 if "--weights" not in filled else 2] if "--model" not in filled else []
    done = fcnseg("run", *filled, *out, *model)
    assert done.code == code
    assert says in done.error_line
    assert not (tmp_path / "masks").exists()


def test_colliding_outputs_are_refused_before_any_work(
    fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path
) -> None:
    photograph(photos / "a.png")
    done = fcnseg("run", photos, "--out", tmp_path / "masks", *tiny.arguments)
    assert done.code == 2
    assert "a.jpg and a.png" in done.error_line
    assert not (tmp_path / "masks").exists()
    assert fcnseg("run", photos, "--out", tmp_path / "masks", "--glob", "*.jpg", *tiny.arguments).code == 0


def test_inputs_and_others_files_are_never_overwritten(
    fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path
) -> None:
    before = (photos / "sub/b.png").read_bytes()
    assert (
        "would replace an input" in fcnseg("run", photos / "sub", "--out", photos / "sub", *tiny.arguments).error_line
    )
    assert (
        "would replace an input"
        in fcnseg("run", photos / "sub", "--out", photos / "sub", "--overwrite", *tiny.arguments).error_line
    )
    assert (photos / "sub/b.png").read_bytes() == before
    masks = tmp_path / "masks"
    photograph(masks / "a.png", seed=9)
    mine = (masks / "a.png").read_bytes()
    run = ["run", photos, "--out", masks, *tiny.arguments]
    assert "use --overwrite" in fcnseg(*run).error_line
    assert (masks / "a.png").read_bytes() == mine
    assert fcnseg(*run, "--overwrite").code == 0
    assert fcnseg(*run).code == 0  # the folder is ours now


def test_an_output_inside_the_source_is_not_read_as_input(fcnseg: Command, tiny: TinyModel, photos: Path) -> None:
    for _ in range(2):
        assert fcnseg("run", photos, "--out", photos / "masks", *tiny.arguments).code == 0
    assert len(label_maps(photos / "masks")) == 3


def test_weights_of_another_model_are_refused(fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path) -> None:
    other = make_tiny(tmp_path, stride=16)
    done = fcnseg("run", photos, "--out", tmp_path / "m", "--model", tiny.recipe, "--weights", other.weights)
    assert done.code == 2
    assert "tiny-vgg16-16" in done.error_line
    foreign = photograph(tmp_path / "w.png")
    done = fcnseg("run", photos, "--out", tmp_path / "m", "--model", tiny.recipe, "--weights", foreign)
    assert done.code == 1
    assert done.error_line


def python_fcnseg(*arguments: object, **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", "from fcnseg.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.slow
def test_ctrl_c_leaves_whole_files_and_says_so(tiny: TinyModel, tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for i in range(400):
        photograph(photos / f"{i:03d}.png", 300, 200, seed=i)
    process = python_fcnseg("run", photos, "--out", masks, "-q", *tiny.arguments)
    deadline = time.monotonic() + 120
    while len(list(masks.glob("*.png"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    written = list(masks.glob("*.png"))
    assert 3 <= len(written) < 400
    assert all(Image.open(path).size == (300, 200) and np.asarray(Image.open(path)).size for path in written)
    assert not [p for p in masks.rglob("*") if "part" in p.name]


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_loses_nothing(tiny: TinyModel, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for i in range(3):
        photograph(photos / f"{i}.png", 200, 150, seed=i)
    with mounted(tmp_path / "small", "size=200k") as small:
        probs = small / "probs"
        run = ["run", photos, "--out", small / "m", "--save-probabilities", probs, *tiny.arguments]
        process = python_fcnseg(*run, "--no-space-check")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "No space left" in err
        assert "Traceback" not in err
        assert not [p for p in small.rglob("*") if "part" in p.name]


def test_an_output_that_may_not_be_written(
    fcnseg: Command, tiny: TinyModel, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounted(tmp_path / "locked", "ro") as locked:
        monkeypatch.setattr(run_module, "engine_of", None)  # found out before anything is built
        done = fcnseg("run", photos, "--out", locked / "masks", *tiny.arguments)
        assert done.code == 1
        assert "cannot write to" in done.error_line
        assert "Read-only file system" in done.error_line
