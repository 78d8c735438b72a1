"""`fcnseg score` as typed."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import fcnseg as library
from tests.conftest import Outcome, TinyModel, photograph
from tests.scoring.maps import data_set, save

Command = Callable[..., Outcome]

KEYS = {
    "pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu", "mean_dice", "kappa", "images", "pixels",
    "void_pixels", "intervals", "per_class", "confusion", "absent", "excluded_classes", "missing", "extra", "invalid",
    "all_void", "excluded_images", "boundary_iu", "bands", "calibration", "settings", "image_scores", "averaged_over",
    "predicted_only", "per_image", "predicted_void_pixels", "thresholds", "warnings",
}  # fmt: skip


def test_the_files_hold_what_python_gives(fcnseg: Command, tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 4)
    done = fcnseg(
        "score", predictions, truth, "--classes", 4, "--json-file", tmp_path / "s.json", "--csv", tmp_path / "s.csv",
        "--images-csv", tmp_path / "i.csv", "--boundary",
    )  # fmt: skip
    assert done.code == 0
    score = library.score(predictions, truth, classes="4", boundary=True)
    values = json.loads((tmp_path / "s.json").read_text())
    assert values == score.as_dict()
    assert set(values) == KEYS
    assert values["confusion"] == score.confusion.tolist()
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert [float(row["iu"]) for row in rows] == [c.iu for c in score.per_class]
    rows = list(csv.DictReader((tmp_path / "i.csv").open()))
    assert [(row["key"], float(row["mean_iu"])) for row in rows] == [(s.key, s.mean_iu) for s in score.image_scores]
    assert f"{100 * score.mean_iu:.2f}" in done.out


def test_every_key_is_documented(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/scoring.md").read_text()
    values = library.score(*data_set(tmp_path, 1, 4), classes=4).as_dict()
    for key in (*values, *values["per_class"][0], *values["image_scores"][0]):
        assert f"`{key}`" in page


def test_json_goes_to_standard_output_alone(fcnseg: Command, tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 4)
    done = fcnseg("score", predictions, truth, "--classes", 4, "--json")
    assert json.loads(done.out)["images"] == 3


def test_bad_data_is_one_line_and_leaves_no_file(fcnseg: Command, tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 4)
    save(predictions / "b.png", np.full((13, 17), 77, np.uint8))
    command = ["score", predictions, truth, "--classes", 4, "--json-file", tmp_path / "s.json"]
    done = fcnseg(*command)
    assert done.code == 2
    assert "b.png has label 77 on 221 pixels" in done.error_line
    assert not list(tmp_path.glob("*.json"))
    done = fcnseg(*command, "--allow-invalid")
    assert done.code == 3
    assert "left out: 1 that cannot be compared: b" in done.err
    values = json.loads((tmp_path / "s.json").read_text())
    assert values["images"] == 2
    assert values["invalid"][0]["key"] == "b"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "voc-fcn8x"], "did you mean voc-fcn8s"),
        (["--classes", "4", "--num-parts", "2", "--part-id", "2"], "part-id"),
        (["--classes", "4", "--list", "none.txt"], "none.txt"),
        (["--classes", "many"], "many"),
    ],
)
def test_wrong_options_are_one_line(fcnseg: Command, tmp_path: Path, arguments: list[str], reason: str) -> None:
    done = fcnseg("score", *data_set(tmp_path, 1, 4), *arguments)
    assert done.code == 2
    assert reason in done.error_line


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (["--json", "--csv", "-"], "--json and --csv are both -"),
        (["--json-file", "{0}/s", "--images-csv", "{0}/s"], "--json-file and --images-csv are both"),
        (["--json-file", "{0}"], "which is a folder"),
        (["--csv", "{0}/gt/a.png/s.csv"], "a.png is no folder"),
        (["--report", "-"], "--report FILE.html"),
    ],
)
def test_files_that_cannot_be_written_are_refused_before_the_start(
    fcnseg: Command, tmp_path: Path, outputs: list[str], reason: str
) -> None:
    predictions, truth = data_set(tmp_path, 1, 4)
    done = fcnseg("score", predictions, truth, "--classes", 4, *(word.format(tmp_path) for word in outputs))
    assert (done.code, done.out) == (2, "")
    assert reason in done.error_line


def test_parts_are_scored_together(fcnseg: Command, tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 4, ("a", "b", "g"))
    command = ["score", predictions, truth, "--classes", 4]
    for part in range(2):
        done = fcnseg(*command, "--num-parts", 2, "--part-id", part, "--json-file", tmp_path / f"parts/{part}.json")
        assert done.code == 0
    whole, together = (
        json.loads(fcnseg(*command, "--json", *more).out) for more in ([], ["--counted", tmp_path / "parts"])
    )
    assert together["settings"]["counted"] == [str(tmp_path / "parts")]
    assert {k: v for k, v in together.items() if k != "settings"} == {k: v for k, v in whole.items() if k != "settings"}


def test_a_part_of_a_run_is_a_part_of_its_score(fcnseg: Command, tiny: TinyModel, tmp_path: Path) -> None:
    names = [f"{i}" for i in range(6)]
    for i, name in enumerate(names):
        photograph(tmp_path / f"photos/{name}.{'jpg' if i % 2 else 'tif'}", seed=i)
        save(tmp_path / f"gt/{name}.png", np.zeros((30, 40), np.uint8))
    scored: list[str] = []
    for part in range(2):  # each into a folder of its own, as on two machines
        words = "--num-parts", 2, "--part-id", part
        masks = tmp_path / f"masks{part}"
        assert fcnseg("run", tmp_path / "photos", "--out", masks, *words, *tiny.arguments).code == 0
        done = fcnseg("score", masks, tmp_path / "gt", "--model", tiny.recipe, *words, "--allow-missing", "--json")
        keys = [image["key"] for image in json.loads(done.out)["image_scores"]]
        assert keys == sorted(path.stem for path in masks.glob("*.png"))
        scored += keys
    assert sorted(scored) == names


def test_two_heads_are_shown_and_written(fcnseg: Command, tmp_path: Path) -> None:
    for side in ("pred", "gt"):
        for head in ("semantic", "geometric"):
            save(tmp_path / side / head / "x.png", np.array([[0, 1, 2]], np.uint8))
    done = fcnseg(
        "score", tmp_path / "pred", tmp_path / "gt", "-m", "siftflow-fcn8s", "--json-file", tmp_path / "s.json"
    )
    assert done.code == 0
    assert "geometric" in done.out
    values = json.loads((tmp_path / "s.json").read_text())
    assert values["geometric_accuracy"] == values["heads"]["semantic"]["mean_iu"] == 1
    assert set(values["heads"]) == {"semantic", "geometric"}


def test_predictions_of_a_run_are_scored_as_typed(fcnseg: Command, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    assert fcnseg("run", "examples/street/images/scene_0000.jpg", "--out", masks, "--backend", "torch").code == 0
    (tmp_path / "list.txt").write_text("scene_0000\n")
    done = fcnseg("score", masks, "examples/street/labels", "--list", tmp_path / "list.txt", "--json")
    assert done.code == 0
    values = json.loads(done.out)
    assert values["settings"]["model"] == "street-fcn8s"
    assert values["pixel_accuracy"] > 0.8


def test_the_report_is_written_and_images_belong_to_it(fcnseg: Command, tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 4)
    command = ["score", predictions, truth, "--classes", 4]
    assert fcnseg(*command, "--report", tmp_path / "r.html").code == 0
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert "--report" in fcnseg(*command, "--images", tmp_path).error_line


@pytest.mark.parametrize("form", ["zip", "hdf5"])
def test_reports_of_runs_over_archives_and_hdf5_show_photographs(
    fcnseg: Command, tiny: TinyModel, tmp_path: Path, form: str
) -> None:
    files = [photograph(tmp_path / f"photos/{name}.png", 40, 30, seed) for seed, name in enumerate("abc")]
    if form == "zip":
        source = str(tmp_path / "photos.zip")
        with zipfile.ZipFile(source, "w") as archive:
            for file in files:
                archive.write(file, f"street/{file.name}")
    else:
        source = f"{tmp_path}/photos.he5::/images"
        with h5py.File(tmp_path / "photos.he5", "w") as h5:
            h5["images"] = np.stack([np.asarray(Image.open(file)) for file in files])
    masks, report = tmp_path / ("masks" if form == "zip" else "masks.hdf"), tmp_path / "report.html"
    assert fcnseg("run", source, "--out", masks, *tiny.arguments).code == 0
    assert masks.is_file() == (form == "hdf5")
    assert fcnseg("score", masks, masks, "--classes", 5, "--report", report).code == 0
    assert report.read_text().count("Photograph</span>") == len(files)
    assert fcnseg("diff", masks, masks, "--classes", 5, "--report", report).code == 0
    assert report.read_text().count("Photograph</span>") == len(files)
