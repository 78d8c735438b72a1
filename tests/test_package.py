"""The package as others get it: the sdist and the wheel, in an empty environment, outside the clone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "mkdocs.yml")
FOLDERS = ("fcnseg", "docs", "engines", "examples", "benchmarks", "tests")


@cache
def uv() -> str:
    """The path of uv, which runs the tests: it names itself to what it runs."""
    path = os.environ.get("UV") or shutil.which("uv")
    if not path:
        pytest.skip("uv is not here")
    return path


def call(*words: str | Path, cwd: Path, **variables: str) -> str:
    """The standard output of a command, in an environment without the one of the tests."""
    hidden = ("VIRTUAL_ENV", "PYTHONPATH", "UV_PROJECT_ENVIRONMENT", "PYTEST_CURRENT_TEST")
    env = {name: value for name, value in os.environ.items() if name not in hidden} | variables
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of a copy of the sources, and the wheel that is made of the sdist."""
    copy = tmp_path_factory.mktemp("copy")
    for name in SHIPPED:
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    call(uv(), "build", "--out-dir", "dist", cwd=copy)
    return copy / "dist"


def names_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.mark.slow
def test_the_wheel_of_the_sdist_has_all_that_is_needed(built: Path) -> None:
    (wheel,), (_,) = list(built.glob("*.whl")), list(built.glob("*.tar.gz"))
    sources = {f"fcnseg/{p.relative_to(ROOT / 'fcnseg')}" for p in (ROOT / "fcnseg").rglob("*") if p.is_file()}
    recipes = {f"fcnseg/engines/{p.name}" for p in (ROOT / "engines").iterdir()}
    scenes = {f"fcnseg/examples/{p.name}" for p in (ROOT / "examples/street/images").iterdir()}
    expected = {name for name in sources if "__pycache__" not in name} | recipes | scenes
    assert names_of(wheel) == expected


@pytest.mark.slow
def test_the_wheel_works_outside_the_clone(built: Path, tmp_path: Path, home: Path) -> None:
    pins = tmp_path / "pins.txt"  # what is installed here is in uv's cache: nothing is downloaded
    ours = {d.name: d.version for d in distributions() if d.name != "fcnseg"}
    pins.write_text("".join(f"{name}=={version}\n" for name, version in ours.items()))
    python = tmp_path / "env" / "bin" / "python"
    call(uv(), "venv", "-q", "--python", sys.executable, "env", cwd=tmp_path)
    (wheel,) = built.glob("*.whl")
    call(uv(), "pip", "install", "-q", "--python", python, "--constraint", pins, wheel, cwd=tmp_path)
    place = tmp_path / "elsewhere"
    place.mkdir()
    shutil.copy(ROOT / "examples/street/images/scene_0000.jpg", place / "photo.jpg")
    fcnseg = python.with_name("fcnseg")
    where = call(python, "-c", "import fcnseg; print(fcnseg.__file__)", cwd=place)
    assert Path(where.strip()).is_relative_to(tmp_path / "env")
    summary = json.loads(call(fcnseg, "run", "photo.jpg", "-o", "masks", "--json", cwd=place, FCNSEG_HOME=str(home)))
    assert (summary["done"], summary["failed"]) == (1, 0)
    assert (place / "masks" / "photo.png").exists()
    assert "street-fcn8s" in call(fcnseg, "models", cwd=place)
    assert "unrestricted use" in call(fcnseg, "models", "voc-fcn8s", cwd=place)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["Dockerfile", "Dockerfile.nvidia"])
def test_images_are_made_of_files_that_suffice(file: str, built: Path, tmp_path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text()
    for line in re.findall(r"^COPY (?!--from)(.*)$", (ROOT / file).read_text(), re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            assert f"!{source}\n" in ignored
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, tmp_path / target)
    call(uv(), "build", "--wheel", "--out-dir", "dist", cwd=tmp_path)
    (wheel,), (other,) = (tmp_path / "dist").glob("*.whl"), built.glob("*.whl")
    assert names_of(wheel) == names_of(other)
