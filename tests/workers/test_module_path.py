"""No command executes a Python file that lies in the current folder, in none of its processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import TinyModel, photograph
from tests.scoring.maps import data_set

ROOT = Path(__file__).parents[2]
MODULES = ("json", "pickle", "random", "selectors", "signal", "socket", "struct", "tempfile", "threading", "numpy")
COMMAND = "import sys\nfrom fcnseg.cli import main\nif __name__ == '__main__':\n    main()\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A current folder with files named like modules that every process imports; each leaves a marker."""
    here = tmp_path / "here"
    here.mkdir()
    for name in MODULES:
        (here / f"{name}.py").write_text(
            f"open({str(tmp_path / 'executed')!r}, 'a').write('{name} ')\nimport nowhere\n"
        )
    return here


def run(folder: Path, *arguments: object) -> None:
    """The installed command, whose module path begins with the folder of its script."""
    script = folder.parent / "bin" / "fcnseg"
    script.parent.mkdir()
    script.write_text(COMMAND)
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    executed = folder.parent / "executed"
    assert not executed.exists(), executed.read_text()
    assert done.returncode == 0, done.stderr


def test_score_with_processes(folder: Path) -> None:
    run(folder, "score", *data_set(folder / "maps", 1, 3), "--classes", "3", "--workers", 2)


def test_build_engine(folder: Path, tiny: TinyModel) -> None:
    sizes = ["--min-shape", "64x64", "--opt-shape", "80x80", "--max-shape", "96x96", "--max-batch", 1]
    more = ["--precision", "fp32", "--out", folder / "tiny.engine", *sizes]
    run(folder, "build-engine", tiny.recipe, "--weights", tiny.weights, "--backend", "openvino", *more)


def test_bench(folder: Path, tiny: TinyModel) -> None:
    more = ["--engines", "torch:fp32", "--size", "40x30", "--repeat", 1]
    run(folder, "bench", "--model", tiny.recipe, "--weights", tiny.weights, "--device", "cpu", *more)


def test_train_with_workers(folder: Path, tiny: TinyModel, tmp_path: Path) -> None:
    for first, part in enumerate(("train", "val")):
        for number in range(2):
            photograph(tmp_path / part / "images" / f"{number}.jpg", 48, 32, seed=2 * first + number)
            (tmp_path / part / "labels").mkdir(exist_ok=True)
            labels = np.full((32, 48), number, np.uint8)
            Image.fromarray(labels).save(tmp_path / part / "labels" / f"{number}.png")
    words = ["--data", tmp_path, "--out", tmp_path / "run", "--weights", tiny.weights, "--steps", 1, "-j", 1]
    run(folder, "train", tiny.recipe, *words)
