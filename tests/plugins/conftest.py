"""Packages with plug-ins, installed for one test."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import invalidate_caches
from pathlib import Path

import pytest

from tests.snippets import ROOT
from tests.test_package import uv

Install = Callable[..., str]
NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of a plug-in, installed into a folder as its users install it; nothing is downloaded."""
    folder = tmp_path_factory.mktemp("example")
    words = [uv(), "pip", "install", "--quiet", "--offline", "--no-deps", "--no-build-isolation"]
    words += ["--python", sys.executable, "--target", str(folder), str(ROOT / "examples" / "plugin_example")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package of one module with an entry point `plugin` in it, and returns its name."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path / "site")

    def install(group: str, name: str, code: str, version: str = "1.5") -> str:
        package = f"package_{name.replace('-', '_')}_{next(NUMBERS)}"
        info = tmp_path / "site" / f"{package}-{version}.dist-info"
        info.mkdir(parents=True)
        (tmp_path / "site" / f"{package}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {package}:plugin\n")
        invalidate_caches()
        return package

    yield install
    for module in set(sys.modules) - before:
        if module.startswith(("package_", "fcnseg_example")):
            del sys.modules[module]
