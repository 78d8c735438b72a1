"""`fcnseg.train` as Python calls it."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import pytest

import fcnseg
from fcnseg.errors import SettingsError
from fcnseg.training import train as module

ROOT = Path(__file__).parents[2]


def test_the_example_of_the_docstring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(fcnseg.train, "train", module)
    assert len(example.examples) == 3
    failures, _ = doctest.DocTestRunner().run(example)
    assert failures == 0
    settings = json.loads((tmp_path / "runs/mine/train.json").read_text())
    assert (settings["recipe"], settings["seed"]) == ("street-fcn8s", 1)
    assert (settings["preset"]["steps"], settings["preset"]["crop"]) == ([2], [64, 64])
    (tmp_path / "runs/mine/train.json").write_text(json.dumps({"recipe": "street-fcn8s"}))
    with pytest.raises(SettingsError, match="begun by an earlier version of fcnseg; give another --out"):
        fcnseg.train("examples/street", "runs/mine")


def test_keywords_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"epoch: unknown key; did you mean epochs\?; rate: .* did you mean lr\?"):
        fcnseg.train(ROOT / "examples/street", tmp_path / "run", epoch=3, rate=1e-3)
