"""build-engine, engines and export as users type them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.engine.cache import copy_engine
from fcnseg.engine.onnx_session import session_of
from fcnseg.engine.record import read_record, write_record
from tests.conftest import Outcome, TinyModel, make_tiny, photograph

Command = Callable[..., Outcome]

SIZES = ["--min-shape", "1x1", "--opt-shape", "80x60", "--max-shape", "90x70", "--max-batch", "2"]


@pytest.fixture
def small(tmp_path: Path) -> TinyModel:
    return make_tiny(tmp_path, stride=32)


@pytest.mark.slow
def test_from_a_model_to_label_maps_and_back_to_nothing(
    fcnseg: Command, small: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The life of an engine; one test, because every build costs seconds."""
    monkeypatch.setenv("FCNSEG_HOME", str(tmp_path / "home"))
    photograph(tmp_path / "photos" / "a.png", 70, 50)
    model = ["--model", small.recipe, "--weights", small.weights]
    build = ["build-engine", small.recipe, "--weights", small.weights, "--precision", "fp32", *SIZES]

    built = fcnseg(*build)
    assert built.code == 0, built.err
    assert "for openvino, fp32: first use" in built.err
    assert "verified: 100.000% of pixels" in built.err
    file = Path(built.out.strip())
    assert file.is_file()

    again = fcnseg(*build, "--json")
    record = json.loads(again.out)
    assert (record["path"], record["verification"]["passed"]) == (str(file), True)
    assert len(record["file_sha256"]) == len(record["identity"]["weights"]) == len(record["graph_sha256"]) == 64
    assert "building" not in again.err

    masks = tmp_path / "masks"
    run = fcnseg("run", tmp_path / "photos", "--out", masks, *model, "--precision", "fp32", "-v")
    assert run.code == 0, run.err
    assert "building" not in run.err
    assert "100.000% of pixels labelled as by the fp32 network" in run.err
    engine = json.loads((masks / ".fcnseg/run.json").read_text())["engine"]
    assert (engine["backend"], engine["file"]) == ("openvino", str(file))
    assert engine["verification"]["agreement"] == 1.0
    reference = fcnseg("run", tmp_path / "photos", "--out", tmp_path / "torch", *small.arguments)
    assert reference.code == 0
    assert (np.asarray(Image.open(masks / "a.png")) == np.asarray(Image.open(tmp_path / "torch/a.png"))).mean() > 0.999

    listed = json.loads(fcnseg("engines", "list", "--json").out)
    assert [entry["path"] for entry in listed] == [str(file)]
    assert "100.00%" in fcnseg("engines", "list").out
    assert fcnseg("engines", "verify", "-q").code == 0

    alone = fcnseg("run", tmp_path / "photos", "--out", tmp_path / "alone", "--engine", file)
    assert alone.code == 0, alone.err  # the engine knows its model
    assert (tmp_path / "alone/a.png").read_bytes() == (masks / "a.png").read_bytes()

    orphan = tmp_path / "orphan.engine"
    copy_engine(file, orphan)
    write_record(orphan, replace(read_record(orphan), weights_source="/gone"))
    file.write_bytes(file.read_bytes()[:-1])
    broken = fcnseg("engines", "verify", orphan, file)
    assert broken.code == 1
    assert "failed: orphan.engine: " in broken.err
    assert "instead of the recorded" in broken.err
    assert "2 of 2 engines failed" in broken.error_line
    with_it = fcnseg("run", tmp_path / "photos", "--out", masks, "--model", small.recipe, "--engine", file)
    assert with_it.code == 1
    assert "instead of the recorded" in with_it.error_line

    assert fcnseg("engines", "rm", listed[0]["name"]).code == 0
    assert json.loads(fcnseg("engines", "list", "--json").out) == []
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["build-engine", "voc-fcn9s"], 2, "did you mean voc-fcn8s"),
        (["build-engine", "--backend", "torch"], 2, "needs no engine"),
        (["build-engine", "--precision", "fp16"], 2, "fp16 is for GPUs"),
        (["build-engine", "--precision", "int8"], 2, "--calibrate DIR"),
        (["build-engine", "--precision", "int8", "--calibrate", "absent"], 1, "does not exist"),
        (["build-engine", "--opt-shape", "big"], 2, "WIDTHxHEIGHT"),
        (["build-engine", "--opt-shape", "0x5"], 2, "WIDTHxHEIGHT"),
        (["build-engine", "--min-shape", "900x900", "--max-shape", "90x90"], 2, "must not fall"),
        (["build-engine", "--profile-from", "absent"], 1, "does not exist"),
        (["build-engine", "--out", "."], 2, "is a folder"),
        (["build-engine", "--depth", "."], 2, "--depth go with --calibrate"),
        (["build-engine", "voc-fcn8s"], 1, "there are no weights"),
        (["engines", "rm"], 2, "no engine is named"),
        (["engines", "rm", "nothing"], 2, "engines list"),
        (["engines", "verify", "absent.engine"], 2, "engines list"),
        (["export", "--with-probabilities", "float8"], 2, "float32 or float16"),
        (["export", "--out", "/dev/null/model.onnx"], 1, "cannot write"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_code(
    fcnseg: Command, arguments: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FCNSEG_HOME", str(tmp_path / "home"))
    done = fcnseg(*arguments)
    assert says in done.error_line
    assert done.code == code
    assert not list(tmp_path.rglob("*.engine"))


def test_export_gives_a_file_that_another_runtime_runs(fcnseg: Command, small: TinyModel, tmp_path: Path) -> None:
    done = fcnseg("export", small.recipe, "--weights", small.weights, "--out", tmp_path / "m.onnx")
    assert done.code == 0, done.err
    assert "color: uint8, N x H x W x 3" in done.err
    assert "labels: uint8, N x H x W" in done.err
    session = session_of(str(tmp_path / "m.onnx"))
    (labels,) = session.run(None, {"color": np.zeros((2, 5, 7, 3), np.uint8)})
    assert labels.shape == (2, 5, 7)
    assert str(Path(__file__).parents[2]).encode() not in (tmp_path / "m.onnx").read_bytes()
