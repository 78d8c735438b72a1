"""Outputs beside label maps, over the command line: they combine, and are resumed with them."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Outcome, TinyModel, photograph

Command = Callable[..., Outcome]
STATS = ("--stats", "tables/stats.csv")
EVERYTHING = (
    *(
        "--overlay",
        "o",
        "--colour-png",
        "out/colours",
        "--mask",
        "a,c",
        "m",
        "--cutout",
        "b,e",
        "cut",
        "--yolo",
        "yolo",
    ),
    *(*STATS, "--polygons", "tables/p.json"),
)


@pytest.fixture
def run(fcnseg: Command, tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    for i in range(4):
        photograph(tmp_path / f"photos/{i % 2}/{i}.png", width=30 + i % 3, height=20, seed=i)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: fcnseg("run", "photos", "--out", "out", *tiny.arguments, *arguments)


def pictures() -> dict[str, bytes]:
    roots = map(Path, ("out", "o", "m", "cut", "tables", "yolo"))
    files = (p for root in roots for p in root.rglob("*") if p.is_file() and ".fcnseg" not in p.parts)
    return {p.as_posix(): p.read_bytes() for p in files}


def test_everything_at_once_and_again(run: Command) -> None:
    assert run(*EVERYTHING).code == 0
    before = pictures()
    assert len(before) == 4 * 7 + 2
    labels = np.asarray(Image.open("out/1/3.png"))
    assert np.array_equal(np.asarray(Image.open("m/c/1/3.png")) == 255, labels == 2)
    assert np.array_equal(np.asarray(Image.open("cut/1/3.png"))[..., 3] == 255, np.isin(labels, (1, 4)))
    assert np.array_equal(
        np.asarray(Image.open("out/colours/1/3.png")), np.asarray(Image.open("out/1/3.png").convert("RGB"))
    )
    Path("m/c/1/3.png").unlink()
    Path("cut/0/2.png").write_bytes(b"cut short")
    done = run(*EVERYTHING)
    assert (done.code, "2 label maps" in done.err, "2 were there already" in done.err) == (0, True, True)
    assert pictures() == before
    assert run(*EVERYTHING, "--overwrite").code == 0
    assert pictures() == before


def test_a_dry_run_tells_of_each(run: Command) -> None:
    done = run(*EVERYTHING, "--dry-run")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines() if " are free there" in line] == [
        "labels",
        "overlay",
        "colours",
        "masks",
        "cutouts",
        "yolo",
        "stats",
        "polygons",
    ]
    assert not pictures()


def test_classes_that_are_kept(run: Command) -> None:
    assert run("--classes", "b,d", "--mask", "d", "m").code == 0
    kept = [np.asarray(Image.open(p)) for p in Path("out").glob("[01]/*.png")]
    assert run("--overwrite").code == 0
    for few, path in zip(kept, Path("out").glob("[01]/*.png"), strict=True):
        labels = np.asarray(Image.open(path))
        assert np.array_equal(few, np.where(np.isin(labels, (1, 3)), labels, 255))
    assert "classes was None, is b,d" in run("--classes", "b,d").error_line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--mask", "A", "m"], "--mask: the model has no class 'A'; did you mean a?"),
        (["--cutout", "a,z", "m"], "--cutout: the model has no class 'z'"),
        (["--classes", "background"], "--classes: the model has no class 'background'"),
        (["--mask", "a", "out"], "--out and --mask would both write"),
        (["--mask", "a", "m", "--cutout", "a", "./photos/../m"], "--mask and --cutout would both write"),
        (["--colour-png", "x.h5"], "--colour-png writes a file for each image"),
        (["--mask", "a", "photos"], "photos is an input"),
        (["--colour-png", "s3://bucket/x"], "all of them, or to folders"),
        (["--polygon-tolerance", "1"], "give --polygons or --yolo"),
        (["--polygons", "p.json", "--polygon-tolerance", "-1"], "-1.0 is no number of pixels"),
        (["--polygons", "p.txt"], "give a name that ends with .json"),
        (["--model", "siftflow-fcn8s", "--polygons", "p.json"], "has the heads"),
        (["--colour-png", "out/1"], "1/1.png would be written among the files of --colour-png"),
    ],
)
def test_what_cannot_be_is_a_line_before_anything_is_written(run: Command, arguments: list[str], says: str) -> None:
    refused = run(*arguments)
    assert (refused.code, says in refused.error_line) == (2, True), refused.err
    assert not pictures()


def test_a_settings_file_has_classes_and_a_folder_as_a_list(run: Command) -> None:
    Path("settings.toml").write_text('mask = ["a,b", "m"]\ncolor-png = "rgb"')
    assert run("--config", "settings.toml").code == 0
    assert Path("m/b/0/0.png").is_file()
    assert Path("rgb/0/0.png").is_file()
    Path("settings.toml").write_text('mask = "a"')
    assert "give a list of 2 texts" in run("--config", "settings.toml").error_line


def rows() -> list[dict[str, str]]:
    with Path("tables/stats.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_has_each_image_once_whatever_happened(run: Command) -> None:
    Path("photos/bad.png").touch()
    assert run(*STATS, "--save-probabilities", "p").code == 3
    before = Path("tables/stats.csv").read_bytes()
    assert [row["key"] for row in rows()] == ["0/0.png", "0/2.png", "1/1.png", "1/3.png"]
    for row in rows():
        labels, sure = np.asarray(Image.open(f"out/{row['key']}")), np.load(f"p/{row['key'][:-4]}.npy").max(0)
        assert [int(row[f"pixels/{name}"]) for name in "abcde"] == np.bincount(labels.ravel(), minlength=5).tolist()
        assert float(row["confidence"]) == pytest.approx(sure.mean(dtype=float), abs=1e-3)  # kept as float16
    for damage in (Path.unlink, lambda path: path.write_bytes(b"mine"), lambda path: None):
        damage(Path("tables/stats.csv"))
        assert run(*STATS, "--save-probabilities", "p").code == 3
        assert Path("tables/stats.csv").read_bytes() == before
    Path("photos/1/1.png").unlink()
    photograph(Path("photos/0/2.png"), width=50, height=7)
    photograph(Path("photos/bad.png"))
    assert run(*STATS, "--save-probabilities", "p").code == 0
    assert [row["key"] for row in rows()] == ["0/0.png", "0/2.png", "1/3.png", "bad.png"]
    assert (rows()[1]["width"], rows()[1]["height"]) == ("50", "7")
    assert run("--overwrite").code == 0
    assert Path("tables/stats.csv").exists(), "only what a run writes to is cleared"


def test_parts_have_tables_of_their_own(run: Command) -> None:
    for part in (0, 1):
        assert run(*STATS, "--num-parts", 2, "--part-id", part).code == 0
    lines = [Path(f"tables/stats-{part}-of-2.csv").read_text().splitlines() for part in (0, 1)]
    assert run("--overwrite", *STATS).code == 0
    assert sorted(lines[0][1:] + lines[1][1:]) == Path("tables/stats.csv").read_text().splitlines()[1:]
    assert lines[0][0] == lines[1][0]


@pytest.mark.parametrize(
    ("file", "code", "says"),
    [
        ("stats.txt", 2, "give a name that ends with .csv or .parquet"),
        ("s3://bucket/x.csv", 2, "--stats can be at a URL where --out is"),
        ("mine.csv", 2, "mine.csv exists and no run of fcnseg made it"),
        ("folder.csv", 1, "folder.csv is a folder"),
        ("mine.csv/x.csv", 1, "mine.csv is a file"),
    ],
)
def test_a_table_that_cannot_be_is_a_line(run: Command, file: str, code: int, says: str) -> None:
    Path("mine.csv").write_text("a,b")
    Path("folder.csv").mkdir()
    refused = run("--stats", file)
    assert (refused.code, says in refused.error_line) == (code, True), refused.err
    assert Path("mine.csv").read_text() == "a,b"
    assert not pictures()
