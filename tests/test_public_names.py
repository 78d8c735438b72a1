"""The public functions: each has a docstring with an example, and the example runs."""

import doctest
import inspect
from pathlib import Path

import pytest

import fcnseg

FUNCTIONS = {name: getattr(fcnseg, name) for name in fcnseg.__all__ if inspect.isfunction(getattr(fcnseg, name))}
EXECUTED_ELSEWHERE = {"run", "score", "diff", "compare", "train", "load"}
"""By the tests of their files, on data that their examples name."""


def examples(name: str) -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(recurse=False)
    return [found for found in finder.find(FUNCTIONS[name], name, globs={}) if found.examples]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_public_function_has_an_example(name: str) -> None:
    assert examples(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - EXECUTED_ELSEWHERE))
def test_the_example_of_a_public_function_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = examples(name)
    assert doctest.DocTestRunner().run(example).failed == 0
