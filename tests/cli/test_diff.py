"""`fcnseg diff` as typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import fcnseg as library
from tests.conftest import Outcome
from tests.scoring.test_diff import runs

Command = Callable[..., Outcome]


def test_changes_are_shown_and_written(fcnseg: Command, tmp_path: Path) -> None:
    before, after, truth = runs(tmp_path)
    files = "--json-file", tmp_path / "d.json", "--report", tmp_path / "d.html"
    done = fcnseg("diff", before, after, "--classes", 4, "--gt", truth, *files)
    assert done.code == 0
    found = library.diff(before, after, classes=4, truth=truth)
    assert json.loads((tmp_path / "d.json").read_text()) == found.as_dict()
    assert (tmp_path / "d.html").exists()
    assert f"{found.changed:,} of {found.pixels:,} pixels changed" in done.out
    assert "became right" in done.out


def test_json_goes_to_standard_output_alone(fcnseg: Command, tmp_path: Path) -> None:
    before, after, _ = runs(tmp_path)
    assert json.loads(fcnseg("diff", before, after, "--classes", 4, "--json").out)["identical_images"] == 1


def test_left_out_images_are_named(fcnseg: Command, tmp_path: Path) -> None:
    before, after, _ = runs(tmp_path)
    Path(before, "a.png").unlink()
    assert "--allow-missing" in fcnseg("diff", before, after, "--classes", 4).error_line
    done = fcnseg("diff", before, after, "--classes", 4, "--allow-missing")
    assert (done.code, "1 only in the second run: a" in done.err) == (3, True)


def test_options_that_would_do_nothing_are_refused(fcnseg: Command, tmp_path: Path) -> None:
    before, after, _ = runs(tmp_path)
    assert "--report" in fcnseg("diff", before, after, "--images", tmp_path).error_line
    assert "--gt" in fcnseg("diff", before, after, "--ignore", 3).error_line
