"""What works without torch and the other extras, and what the base installation weighs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fcnseg
from fcnseg.weights.safetensors_file import read
from tests.caffe_files import write_caffemodel
from tests.conftest import TinyModel, photograph
from tests.imports import ROOT
from tests.test_dependencies import BASE
from tests.test_dependencies import distribution as distribution_name
from tests.weights.conftest import as_caffe

EXTRAS = (
    *("torch", "torchvision", "tensorboardX", "matplotlib", "scipy", "nncf", "onnxscript", "onnx_ir", "pillow_heif"),
    *("cv2", "pycocotools"),
)

WITHOUT_EXTRAS = f"""
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {EXTRAS} else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [f for f in sys.meta_path if f not in (BuiltinImporter, FrozenImporter, PathFinder)]
sys.meta_path += [BuiltinImporter, FrozenImporter, Without]
"""
"""A module that Python imports at its start: then those packages are not there, in no subprocess either."""

WATCHED = """
import atexit, os, sys
from pathlib import Path
atexit.register(lambda: "torch" in sys.modules and Path(os.environ["SEEN"]).write_text(repr(sys.argv)))
"""
"""The same, which tells of processes that have imported torch."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny: TinyModel) -> Path:
    """Photographs, weights in Caffe's format, a home, and the two modules."""
    place = tmp_path_factory.mktemp("place")
    for i in range(2):
        photograph(place / "photos" / f"{i}.png", seed=i)
    weights_first = sorted(read(tiny.weights).tensors.items(), key=lambda item: item[0].endswith(".bias"))
    write_caffemodel(place / "tiny.caffemodel", as_caffe(dict(weights_first)))
    for name, text in (("without", WITHOUT_EXTRAS), ("watched", WATCHED)):
        (place / name).mkdir()
        (place / name / "sitecustomize.py").write_text(text)
    return place


def fcnseg_in(place: Path, mode: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run fcnseg: see `in_place`."""
    return in_place(place, mode, sys.executable, "-m", "fcnseg", *words)


def in_place(place: Path, mode: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command where the extras are not installed ("without"), or where no process may import torch."""
    seen = place / "torch was imported"
    own = {"FCNSEG_HOME": str(place / "home"), "PYTHONPATH": str(place / mode), "SEEN": str(seen)}
    done = subprocess.run(command, env={**os.environ, **own}, cwd=place, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert not seen.exists(), seen.read_text()
    return done


@pytest.mark.parametrize("mode", ["without", "watched"])
def test_everything_on_processors(mode: str, place: Path, tiny: TinyModel, tmp_path: Path) -> None:
    masks, own = tmp_path / "masks", tmp_path / "own.safetensors"

    def run(*words: str | Path) -> str:
        done = fcnseg_in(place, mode, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("weights", "import", place / "tiny.caffemodel", "--model", tiny.recipe, "--out", own)
    run("weights", "inspect", own)
    run("build-engine", tiny.recipe, "--weights", own, "--precision", "fp32")
    run("run", "photos", "--out", masks, "--model", tiny.recipe, "--weights", own, "--precision", "fp32")
    assert len(list(masks.glob("*.png"))) == 2
    assert "2 of 2" in run("status", masks)
    run("score", masks, masks, "--classes", "5")
    run("diff", masks, masks)
    run("view", "photos/0.png", masks / "0.png", "--out", tmp_path / "seen.png")
    run("export", tiny.recipe, "--weights", own, "--out", tmp_path / "model.onnx")
    run("models")
    run("doctor")
    run("engines", "list")
    code = "import fcnseg; print(fcnseg.load('street-fcn8s', precision='fp32')('photos/0.png').labels['labels'].shape)"
    done = in_place(place, mode, sys.executable, "-c", code)
    assert (done.returncode, done.stdout[:1]) == (0, "("), done.stderr
    if mode == "without":  # elsewhere it measures torch too
        run("bench", "--engines", "openvino:fp32", "--model", tiny.recipe, "--weights", own, "--images", "1")


def test_label_maps_are_those_of_torch(place: Path, tiny: TinyModel, tmp_path: Path) -> None:
    for backend in ("openvino", "torch"):
        options = {"model": str(tiny.recipe), "weights": tiny.weights, "backend": backend, "precision": "fp32"}
        fcnseg.run(place / "photos", tmp_path / backend, **options)
    diff = fcnseg.diff(tmp_path / "openvino", tmp_path / "torch")
    assert diff.changed <= 2


@pytest.mark.parametrize(
    ("words", "packages"),
    [
        (["train", "street-fcn8s", "--data", ".", "--out", "t"], "tensorboardx torch"),
        (["run", "photos", "--out", "m", "--backend", "torch"], "torch"),
        (["weights", "inspect", "w.pth"], "torch"),
        (["score", "photos", "photos", "--report", "r.html"], "matplotlib scipy"),
        (["score", "photos", "photos", "--boundary"], "scipy"),
        (["hha", "photos", "--camera", "nyud", "--out", "h"], "scipy"),
        (["run", "photos", "--out", "m", "--polygons", "p.json"], "opencv-python-headless pycocotools"),
        (["run", "photos", "--out", "m", "--yolo", "y"], "opencv-python-headless"),
        (["build-engine", "--precision", "int8", "--calibrate", "photos"], "nncf"),
    ],
)
def test_what_needs_an_extra_names_it(place: Path, words: list[str], packages: str) -> None:
    (place / "w.pth").write_bytes(b"\x80\x02}q\x00.")
    done = fcnseg_in(place, "without", *words)
    assert done.returncode in (1, 2)
    assert f"`pip install {packages}` installs" in done.stderr.splitlines()[-1]


def test_the_base_installation_is_light() -> None:
    """Without torch, at most 45 packages of 450 MB."""
    names, wanted = set(), ["fcnseg"]
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name not in names:
            names.add(name)
            needed = (Requirement(text) for text in distribution(name).requires or ())
            wanted += [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    assert not names & {"torch", "torchvision", "scipy", "matplotlib", "onnxscript", "tensorboardx"}
    assert len(names) <= 45
    files = [file for name in names - {"fcnseg"} for file in distribution(name).files or ()]
    assert sum(Path(f.locate()).stat().st_size for f in files if Path(f.locate()).is_file()) < 450e6


def test_each_package_of_the_base_is_explained() -> None:
    page = (ROOT.parent / "docs" / "install.md").read_text().partition("## What the base installation weighs")[2]
    rows = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    explained = {name for row in rows for name in re.findall("`([^`]+)`", row)}
    assert explained == {distribution_name(requirement) for requirement in BASE}
