"""Several runs against one ground truth: figures, paired intervals, tables and the page."""

from __future__ import annotations

import csv
import doctest
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fcnseg as library
from fcnseg.errors import LabelsError, SettingsError
from fcnseg.scoring.compare import short_names
from fcnseg.scoring.intervals import paired_intervals
from fcnseg.scoring.tables import TextTable, compared_tables, latex, markdown
from tests.conftest import Outcome
from tests.scoring.browser import opened
from tests.scoring.maps import data_set, random_maps, save, scored

Command = Callable[..., Outcome]
NAMES = tuple(f"{i:02}" for i in range(12))


def runs(folder: Path) -> tuple[list[Path], Path]:
    """Three runs, each better than the one before."""
    _, truth = data_set(folder, 1, 4, NAMES)
    paths = []
    for run, share in enumerate((0.0, 0.1, 0.5)):
        paths.append(folder / f"run{run}")
        for number, name in enumerate(NAMES):
            true, predicted = random_maps(1 + number, 4)
            mended = np.random.default_rng(number).random(true.shape) < share
            save(paths[-1] / f"{name}.png", np.where(mended & (true != 255), true, predicted).astype(np.uint8))
    return paths, truth


def test_each_run_has_its_own_score(tmp_path: Path) -> None:
    paths, truth = runs(tmp_path)
    compared = library.compare(paths, truth, classes=4)
    assert [run.name for run in compared.runs] == ["run0", "run1", "run2"]
    assert [run.score.mean_iu for run in compared.runs] == [scored(path, truth, classes=4).mean_iu for path in paths]
    assert compared.runs[0].differences == {}
    for run in compared.runs[1:]:
        low, high = run.differences["mean_iu"]
        assert 0 < low < run.score.mean_iu - compared.runs[0].score.mean_iu < high


def test_paired_intervals_are_the_percentiles_of_differences_resampled_together() -> None:
    rng = np.random.default_rng(3)
    hits = rng.integers(0, 50, (2, 9, 3))
    truth = rng.integers(50, 80, (9, 3))
    before, after = (np.stack([side, truth, truth], axis=1) for side in hits)
    found = paired_intervals(before, after, np.ones(3, bool), 300)
    draws = np.random.default_rng(0)
    differences = []
    for _ in range(300):
        drawn = draws.integers(0, 9, 9)
        right = hits[:, drawn].sum((1, 2)) / truth[drawn].sum()
        differences.append(right[1] - right[0])
    np.testing.assert_allclose(found["pixel_accuracy"], np.percentile(differences, (2.5, 97.5)), atol=1e-12)
    assert paired_intervals(before, before, np.ones(3, bool), 50)["mean_iu"] == (0, 0)
    assert paired_intervals(before[:1], after[:1], np.ones(3, bool)) == {}


def test_runs_of_other_images_are_refused(tmp_path: Path) -> None:
    paths, truth = runs(tmp_path)
    (paths[1] / "03.png").unlink()
    with pytest.raises(LabelsError, match="not scored on the same images: 03 only in one of them; --list"):
        library.compare(paths, truth, classes=4, allow_missing=True)
    with pytest.raises(SettingsError, match="one run is no comparison"):
        library.compare(paths[:1], truth)
    with pytest.raises(SettingsError, match="colour is no option"):
        library.compare(paths, truth, colour=3)
    with pytest.raises(SettingsError, match="3 runs need as many different names"):
        library.compare(paths, truth, names=["a", "b"])


def test_names_are_the_ends_that_differ() -> None:
    assert short_names(["a/masks", "b/masks"]) == ("a/masks", "b/masks")
    assert short_names(["x/a", "y/b.h5::/labels"]) == ("a", "labels")
    assert short_names(["m", "m"]) == ("m (1)", "m (2)")


def test_tables_escape_what_their_languages_mean() -> None:
    table = TextTable("t", ("run", "mean_iu, %"), (("a_b|c & {d}", "1"), ("x^~\\", "2")), frozenset({(1, 1)}))
    text = latex([table])
    assert r"a\_b|c \& \{d\} & 1 \\" in text
    assert r"x\textasciicircum{}\textasciitilde{}\textbackslash{} & \textbf{2} \\" in text
    rows = markdown([table]).splitlines()
    assert rows[2:] == [r"| run | mean_iu, % |", "|---|---:|", r"| a_b\|c & {d} | 1 |", r"| x^~\\ | **2** |"]


def test_the_best_is_bold_unless_all_are_equal(tmp_path: Path) -> None:
    paths, truth = runs(tmp_path)
    figures, classes = compared_tables(library.compare(paths, truth, classes=4, resamplings=0))
    assert figures.best == {(2, column) for column in range(1, 6)}
    assert classes.best == {(row, 3) for row in range(4)}
    same = compared_tables(library.compare([paths[0]] * 2, truth, classes=4, resamplings=0))
    assert not same[0].best | same[1].best


OPTIONS = {"json": "--json-file"}


def test_the_command_writes_every_form(fcnseg: Command, tmp_path: Path) -> None:
    paths, truth = runs(tmp_path)
    command = ["compare", *paths, "--gt", truth, "--classes", 4, "--name", "32s", "--name", "16s", "--name", "8s"]
    files = {name: tmp_path / f"c.{name}" for name in ("json", "latex", "markdown")}
    done = fcnseg(*command, *(word for name, file in files.items() for word in (OPTIONS.get(name, f"--{name}"), file)))
    assert done.code == 0
    assert done.out.splitlines()[1].startswith("32s")
    values = json.loads(files["json"].read_text())
    assert [run["name"] for run in values["runs"]] == ["32s", "16s", "8s"]
    assert f"{100 * values['runs'][2]['mean_iu']:.2f}" in done.out
    assert files["latex"].read_text().count(r"\begin{tabular}") == 2
    assert next(csv.reader(io.StringIO(files["markdown"].read_text()), delimiter="|"))
    alone = fcnseg(*command, "--markdown", "-")
    assert alone.out == files["markdown"].read_text()
    tables = fcnseg("score", paths[0], truth, "--classes", 4, "--latex", "-").out
    assert r"mean IoU & " in tables
    assert "4 of 4 classes" in tables


def test_the_page_of_runs(tmp_path: Path, fcnseg: Command) -> None:
    paths, truth = runs(tmp_path)
    page_file = tmp_path / "runs.html"
    assert fcnseg("compare", *paths, "--gt", truth, "--classes", 4, "--report", page_file).code == 0
    for width in (400, 1280):
        with opened(page_file, viewport={"width": width, "height": 800}) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            tables = page.locator("table.sortable")
            assert tables.nth(0).locator("tbody th").all_inner_texts() == ["run0", "run1", "run2"]
            tables.nth(0).locator("thead button").nth(1).click()
            assert tables.nth(0).locator("tbody th").all_inner_texts() == ["run2", "run1", "run0"]
            assert tables.nth(1).locator("tbody tr").count() == 4
            assert page.locator(".browse tbody tr").count() == len(NAMES)
            page.get_by_text("LaTeX").click()
            assert "tabular" in page.locator("pre").first.inner_text()


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path("examples/street/labels").absolute()
    for name in ("gt", "masks", "masks-int8"):
        (tmp_path / name).mkdir()
        for file in sorted(source.iterdir())[:2]:
            shutil.copy(file, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(library.compare, "compare", globs={})
    assert doctest.DocTestRunner().run(example).failed == 0
