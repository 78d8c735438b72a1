"""Benchmarks are run by hand; here each is imported, so that none is left behind when the package changes."""

from importlib import import_module
from pathlib import Path

import pytest

import benchmarks

SCRIPTS = sorted(path.stem for path in Path(next(iter(benchmarks.__path__))).glob("[!_]*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_imports(name: str) -> None:
    import_module(f"benchmarks.{name}")
