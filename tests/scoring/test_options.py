"""Options of `score` and `diff`: the keywords are the fields of dataclasses, and contradictions are refused."""

from __future__ import annotations

import doctest
import inspect
import shutil
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

import fcnseg
from fcnseg.errors import SettingsError
from fcnseg.scoring.options import ComparisonOptions, DiffOptions, ScoreOptions
from tests.scoring.maps import data_set

VERBS = [(fcnseg.score, ScoreOptions), (fcnseg.diff, DiffOptions)]


@pytest.mark.parametrize(("verb", "options"), VERBS)
def test_the_keywords_are_the_options(verb: Callable[..., Any], options: type[ComparisonOptions]) -> None:
    parameters = inspect.signature(verb).parameters.values()
    keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "on_progress"}
    assert keywords == {field.name: field.default for field in fields(options)}
    assert all(p.annotation is not p.empty for p in parameters)
    assert all(p.default is p.empty for p in parameters if p.kind is not p.KEYWORD_ONLY)
    assert MISSING not in keywords.values()


@pytest.mark.parametrize("verb", [verb for verb, _ in VERBS])
def test_the_examples_of_docstrings_run(
    verb: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path("examples/street/labels").absolute()
    for name in ("gt", "masks", "masks-int8"):
        for file in sorted(source.iterdir())[:3]:
            (tmp_path / name).mkdir(exist_ok=True)
            shutil.copy(file, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(verb, verb.__name__, globs={})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


def test_python_may_name_files_as_text(tmp_path: Path) -> None:
    options = ScoreOptions.of({"list": "a.txt", "counted": "parts", "ignore": [3], "classes": 4, "unknown": 1})
    assert options == ScoreOptions(list=Path("a.txt"), counted=(Path("parts"),), ignore=(3,), classes="4")
    assert DiffOptions.of({"truth": tmp_path}) == DiffOptions(truth=str(tmp_path))


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 3)
    for options in (
        {"model": "voc-fcn8s", "classes": "3"},
        {"classes": "3", "binary": True},
        {"reduce_labels": True, "binary": True},
        {"part_id": 2, "num_parts": 2},
        {"pair": "size"},
        {"classes": "0"},
        {"classes": str(tmp_path / "none.txt")},
        {"model": "voc-fcn9s"},
    ):
        with pytest.raises(SettingsError):
            fcnseg.score(predictions, truth, **options)
