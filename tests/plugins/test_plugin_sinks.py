"""Sinks of other packages in a run: whole or absent with all other outputs of an image, resumed, told by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import SettingsError
from fcnseg.plugins import SINKS
from fcnseg.running.options import RunOptions
from fcnseg.running.plugin_sinks import open_sink, parse_sinks
from fcnseg.testing import check_sink
from tests.conftest import Outcome, TinyModel, photograph
from tests.plugins.conftest import Install
from tests.snippets import ROOT

Command = Callable[..., Outcome]

SINK = """
from fcnseg import OutputName
class plugin:
    def __init__(self, storage, heads, argument):
        self.storage, self.heads, self.argument = storage, heads, argument
        self.names = {names}
    def encode(self, frame, prediction):
        {encode}
"""
SOUND = {
    "names": "[OutputName('', '.txt')]",
    "encode": "yield f'{frame.stem}.txt', [f'{self.argument} {prediction.labels[\"labels\"].mean()}'.encode()]",
}


def code(**parts: str) -> str:
    return SINK.format(**{**SOUND, **parts})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a", "b/c"):
        photograph(tmp_path / "photos" / f"{name}.png", seed=len(name))
    return tmp_path / "photos"


def outputs(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".fcnseg" not in path.parts)
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


@pytest.mark.usefixtures("install")  # its modules are forgotten afterwards
def test_the_example_keeps_to_the_contract(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(example)
    from fcnseg_example.boundaries import BoundarySink  # type: ignore[import-not-found]

    check_sink(BoundarySink, "3")
    check_sink(lambda storage, heads, argument: open_sink(f"boundaries:{argument}", storage, heads))
    with pytest.raises(AssertionError, match="places files itself"):
        check_sink(_placing(BoundarySink))


def _placing(kind: type) -> type:
    class Placing(kind):  # type: ignore[misc]
        def encode(self, frame, prediction):  # type: ignore[no-untyped-def]
            for name, content in super().encode(frame, prediction):
                self.storage.place(name, content)
                yield name, content

    return Placing


def test_the_example_is_installed_and_runs(example: Path, tmp_path: Path, tiny: TinyModel) -> None:
    pages = [Image.open(photograph(tmp_path / f"{i}.png", seed=i)) for i in range(3)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    words = [
        "run",
        f"pages://{tmp_path / 'scan.tif'}",
        "--out",
        "masks",
        "--sink",
        "boundaries:3=edges",
        *tiny.arguments,
    ]
    for expected in ("3 label maps in masks", "0 label maps in masks, 3 were there already"):
        done = subprocess.run(
            [sys.executable, "-m", "fcnseg", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (example, ROOT)))},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert expected in done.stderr
    for page in range(3):
        labels = np.asarray(Image.open(tmp_path / "masks" / "scan.tif" / f"{page:04}.png"))
        edges = np.asarray(Image.open(tmp_path / "edges" / "scan.tif" / f"{page:04}.png"))
        assert set(np.unique(edges)) == {0, 255}
        differ = labels[:, 1:] != labels[:, :-1]
        assert (edges[:, 1:][differ] == 255).all()
        assert edges.shape == labels.shape == (30, 40)


def test_it_is_resumed_and_its_loss_is_mended(
    install: Install, fcnseg: Command, photos: Path, tmp_path: Path, tiny: TinyModel
) -> None:
    install(SINKS, "text", code())
    words = ["run", photos, "--out", tmp_path / "m", "--sink", f"text:hi={tmp_path / 't'}", *tiny.arguments]
    assert fcnseg(*words).code == 0
    before = outputs(tmp_path / "t")
    assert sorted(before) == ["a.txt", "b/c.txt"]
    assert (tmp_path / "t" / "a.txt").read_text().startswith("hi ")
    (tmp_path / "t" / "a.txt").unlink()
    assert "1 label map in" in fcnseg(*words).err
    after = outputs(tmp_path / "t")
    assert after.keys() == before.keys()
    assert after["b/c.txt"] == before["b/c.txt"]
    assert "with other settings: sink was text:hi in" in fcnseg(*words[:4], *tiny.arguments).error_line
    assert fcnseg(*words, "--overwrite").code == 0
    listed = json.loads((tmp_path / "m" / ".fcnseg" / "run.json").read_text())
    assert listed["settings"]["sinks"] == {"text:hi": str(tmp_path / "t")}


def test_runs_in_shards_have_it_too(
    install: Install, fcnseg: Command, photos: Path, tmp_path: Path, tiny: TinyModel
) -> None:
    install(SINKS, "text", code())
    places = [(tmp_path / name).as_uri() for name in "mt"]
    for form in ("files", "tar"):
        words = ["run", photos, "--out", places[0] + form, "--sink", f"text={places[1] + form}", "--out-format", form]
        assert fcnseg(*words, *tiny.arguments).code == 0
        assert "2 were there already" in fcnseg(*words, *tiny.arguments).err
    assert sorted(outputs(tmp_path / "tfiles")) == ["a.txt", "b/c.txt"]
    (tar,) = (tmp_path / "ttar").glob("*.tar")
    assert b"b/c.txt" in tar.read_bytes()


@pytest.mark.parametrize(
    ("encode", "says"),
    [
        ("raise KeyError('lost')", "failed to encode it: KeyError: 'lost'"),
        ("yield 'a.txt', self.broken()", "AttributeError"),
        ("yield 'a.txt', (1 / 0 for i in range(2))", "ZeroDivisionError"),
        ("yield 'a.txt', ['text']", "TypeError"),
        ("yield '../a.txt', []", "encoded ../a.txt in place of a.txt"),
        ("yield 'a.txt', []; yield 'b.txt', []", "in place of a.txt"),
        ("pass", "encoded nothing in place of a.txt"),
        ("prediction.labels['labels'][:] = 0; yield 'a.txt', []", "read-only"),
        ("raise OSError(28, 'No space left on device')", "No space left on device"),
    ],
)
def test_what_it_fails_at_fails_the_image_and_writes_nothing_of_it(
    encode: str, says: str, install: Install, fcnseg: Command, photos: Path, tmp_path: Path, tiny: TinyModel
) -> None:
    failing = f"if frame.stem == 'a':\n            {encode}; return\n        {SOUND['encode']}"
    package = install(SINKS, "text", code(encode=failing))
    words = ["run", photos, "--out", tmp_path / "m", "--overlay", tmp_path / "o", "--sink", f"text={tmp_path / 't'}"]
    done = fcnseg(*words, *tiny.arguments)
    assert done.code == 3
    assert "Traceback" not in done.err
    (told,) = (line for line in done.err.splitlines() if says in line)
    assert f"the plug-in text of {package} 1.5" in told
    assert "a.png" in told
    assert [list(outputs(tmp_path / name)) for name in "mot"] == [["b/c.png"], ["b/c.jpg"], ["b/c.txt"]]
    assert "1 failed in an earlier run" in fcnseg(*words, *tiny.arguments).err


@pytest.mark.parametrize(
    ("code_", "sink", "says"),
    [
        ("import nothing_of_that_name", "text={}", "does not import: ModuleNotFoundError"),
        ("plugin = lambda storage: 1", "text={}", "failed to make --sink text: TypeError"),
        ("plugin = lambda *a: 1", "text={}", "gave a int, which is no sink"),
        (code(names="[OutputName('../', '.txt')]"), "text={}", "would write ../a.txt"),
        (code(names="[OutputName('.fcnseg/', '')]"), "text={}", "would write .fcnseg/a"),
        (code(names="[OutputName('', '.png')]"), "text={}/../m", "would both write"),
        (code(), "txet={}", "no plug-in has a sink txet, did you mean text?"),
        (code(), "text={}.h5", "is an HDF5 file; give a folder"),
        (code(), "text=s3://bucket/t", "outputs go to URLs, all of them, or to folders"),
        (code(), "text", "names no place; give NAME=DIR"),
    ],
)
def test_faults_are_one_line_before_anything_is_written(
    code_: str, sink: str, says: str, install: Install, fcnseg: Command, photos: Path, tmp_path: Path, tiny: TinyModel
) -> None:
    install(SINKS, "text", code_)
    option = sink.format(tmp_path / "t")
    done = fcnseg("run", photos, "--out", tmp_path / "m", "--sink", option, *tiny.arguments)
    assert done.code == 2
    assert says in done.error_line
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "t").exists()


def test_a_dry_run_measures_it(
    install: Install, fcnseg: Command, photos: Path, tmp_path: Path, tiny: TinyModel
) -> None:
    install(SINKS, "text", code())
    words = ["run", photos, "--out", tmp_path / "m", "--sink", f"text:../../x={tmp_path / 't'}", "--dry-run", "--json"]
    done = fcnseg(*words, *tiny.arguments)
    assert done.code == 0
    assert json.loads(done.out)["bytes_written"]["sink text:../../x"] > 0
    assert not (tmp_path / "t").exists()


def test_places_are_parsed() -> None:
    assert parse_sinks(["a=x", "b:c:d=e=f"]) == {"a": "x", "b:c:d": "e=f"}
    assert RunOptions("in", "out", sinks={"a": "x"}).places["sink a"] == Path("x")
    with pytest.raises(SettingsError, match="twice"):
        parse_sinks(["a=x", "a=y"])
