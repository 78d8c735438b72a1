import doctest
import inspect
import json
import shutil
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fcnseg
from fcnseg.engine.options import EngineOptions
from fcnseg.errors import SettingsError
from fcnseg.running.options import RunOptions
from fcnseg.running.run import run
from tests.conftest import TinyModel, photograph
from tests.snippets import ROOT


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for file in sorted((ROOT / "examples/street/images").glob("*.jpg"))[:2]:
        shutil.copy(file, "photos")
    (example,) = doctest.DocTestFinder(recurse=False).find(run, "run", globs={})
    assert doctest.DocTestRunner().run(example).failed == 0
    assert len(list(Path("masks").glob("*.png"))) == 2


def test_arguments_are_the_fields_of_the_options() -> None:
    parameters = inspect.signature(run).parameters
    by_name: dict[str, Any] = {f.name: f for f in (*fields(RunOptions), *fields(EngineOptions))}
    assert list(parameters)[:2] == ["source", "out"]
    assert set(parameters) == {*by_name, "hooks"}
    for name, parameter in list(parameters.items())[2:-1]:
        if name not in ("model", "companions", "sinks", "storage_options"):  # None: as the engine file says, and none
            default = by_name[name].default
            assert default is not MISSING
            assert parameter.default == default, name


def test_plain_paths_and_keywords(tmp_path: Path, tiny: TinyModel) -> None:
    photograph(tmp_path / "photos/a.jpg")
    (tmp_path / "photos/bad.jpg").touch()
    heard: list[str] = []
    summary = fcnseg.run(
        str(tmp_path / "photos"),
        str(tmp_path / "masks"),
        model=str(tiny.recipe),
        weights=str(tiny.weights),
        backend="torch",
        probabilities=str(tmp_path / "probabilities"),
        hooks=fcnseg.Hooks(on_result=lambda key, failure: heard.append(key)),
    )
    assert (summary.done, summary.failed, summary.exit_code) == (1, 1, 3)
    assert sorted(heard) == ["a.jpg", "bad.jpg"]
    assert Image.open(tmp_path / "masks/a.png").size == (40, 30)
    assert (tmp_path / "probabilities/a.npy").is_file()
    settings = json.loads((tmp_path / "masks/.fcnseg/run.json").read_text())["settings"]
    assert list(settings) == [f.name for f in fields(RunOptions)]
    assert (settings["source"], settings["engine"]["weights"]) == (str(tmp_path / "photos"), str(tiny.weights))


def test_all_faults_of_the_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"float16 or float32.*auto, continue or overwrite.*--tile 'small'"):
        fcnseg.run(tmp_path, tmp_path / "masks", probabilities_dtype="int8", resume="again", tile="small")
