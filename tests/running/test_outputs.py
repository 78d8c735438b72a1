"""The places of outputs, known before any engine."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fcnseg.errors import OutputError, SettingsError
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.running.intact import recorded_names
from fcnseg.running.options import RunOptions
from fcnseg.running.outputs import Outputs
from fcnseg.running.picture_sinks import shown_modality
from fcnseg.running.preflight import check_places
from fcnseg.types import EngineInfo


def info_of(recipe: Recipe) -> EngineInfo:
    heads = {head.name: head.labels for head in recipe.heads}
    return EngineInfo("fake", "cpu", "fp32", recipe.name, "0", heads, recipe.modalities, {})


@pytest.mark.parametrize("model", ["street-fcn8s", "siftflow-fcn8s"])
@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize(
    ("out", "probabilities"),
    [("masks", None), ("masks", "probs"), ("masks.h5", "probs"), ("masks", "probs.h5"), ("m.h5", "p.h5")],
)
def test_names_are_those_of_the_sinks(
    tmp_path: Path, model: str, top_k: int | None, out: str, probabilities: str | None
) -> None:
    recipe = find_recipe(model)
    options = RunOptions(
        tmp_path,
        tmp_path / out,
        probabilities=tmp_path / probabilities if probabilities else None,
        top_k=top_k,
        overlay=tmp_path / "drawn",
    )
    outputs = Outputs(options, recipe)
    sinks = outputs.sinks(info_of(recipe))
    written = [f"{sink.storage.root}{os.sep}{name.of('a/b')}" for sink in sinks for name in sink.names]
    assert written == [name.of("a/b") for name in outputs.names]
    assert written[0].startswith(f"{tmp_path}/drawn/")  # it refuses large images before others are written
    assert len(set(written)) == (2 + bool(probabilities)) * len(recipe.heads)
    recorded = [os.path.normpath(outputs.folder / n.of("a/b")) for n in recorded_names(str(outputs.folder), sinks)]
    assert recorded == written
    assert set(outputs.hdf5_files.values()) == {tmp_path / n for n in (out, probabilities) if n and n.endswith("h5")}


def test_records_lie_in_the_folder_or_beside_the_file(tmp_path: Path) -> None:
    recipe = find_recipe("street-fcn8s")
    options = RunOptions(tmp_path, tmp_path / "masks", num_parts=3, part_id=1)
    assert Outputs(options, recipe).ledger_file == tmp_path / "masks/.fcnseg/ledger-1-of-3.sqlite"
    options = replace(options, out=tmp_path / "masks.h5", num_parts=1, part_id=0)
    assert Outputs(options, recipe).ledger_file == tmp_path / ".masks.h5.fcnseg/ledger.sqlite"


@pytest.mark.parametrize("out", ["masks", "masks.h5"])
@pytest.mark.parametrize("link", ["", "ledger.sqlite", "run.json", "gone"])
def test_records_that_are_a_link_are_refused(tmp_path: Path, out: str, link: str) -> None:
    outputs = Outputs(RunOptions(tmp_path, tmp_path / out), find_recipe("street-fcn8s"))
    elsewhere = tmp_path / "elsewhere"
    outputs.records.parent.mkdir(exist_ok=True)
    if link:
        outputs.records.mkdir()
    if link != "gone":
        elsewhere.mkdir()
    (outputs.records / link if link else outputs.records).symlink_to(elsewhere)
    for check in (outputs.make, lambda: check_places(outputs)):
        with pytest.raises(OutputError, match="is a symbolic link, and records"):
            check()
    assert link == "gone" or not list(elsewhere.iterdir())


def test_a_model_without_pictures_has_no_overlays() -> None:
    assert shown_modality("net", ("depth", "color"), "--overlay") == "color"
    assert shown_modality("net", ("hha",), "--overlay") == "hha"
    with pytest.raises(SettingsError, match="leave out --cutout"):
        shown_modality("net", ("depth",), "--cutout")
