"""Engine files that are loaded, and those that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fcnseg.engine.load import instantiate, model_of
from fcnseg.engine.record import read_record, record_path, write_record
from fcnseg.recipes import load_recipe
from tests.conftest import TinyModel
from tests.engine.tiny_engines import refused


def test_an_engine_for_a_range_of_sizes_says_so(coarse: TinyModel, built: Path) -> None:
    recipe, record = load_recipe(coarse.recipe), read_record(built)
    fixed = replace(record, identity=replace(record.identity, backend="tensorrt"))
    found = [instantiate(recipe, built, record).info for record in (record, fixed)]
    assert [(info.largest, info.max_batch) for info in found] == [(None, 1), ((70, 90), 2)]


def test_a_model_whose_recipe_is_gone_is_known_by_name(copied: Path) -> None:
    record = read_record(copied)
    assert model_of(copied) == record.model_source
    write_record(copied, replace(record, model_source="/gone.toml"))
    assert model_of(copied) == record.identity.model


def test_damaged_engines_are_refused(coarse: TinyModel, copied: Path) -> None:
    whole = copied.read_bytes()
    copied.write_bytes(whole[:-1])
    refused(coarse, copied, "instead of the recorded")
    copied.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(coarse, copied, "was changed since it was built")
    copied.unlink()
    refused(coarse, copied, "cannot be read")


def test_unrecorded_and_foreign_engines_are_refused(
    coarse: TinyModel, copied: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("own_home")  # another machine's: another key
    refused(coarse, copied, "not written on this machine")
    record_path(copied).write_text("{}")
    refused(coarse, copied, "is no engine record")
    record_path(copied).write_text("no json")
    refused(coarse, copied, "cannot be read")
    record_path(copied).unlink()
    refused(coarse, copied, "is not trusted")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"device": "Another CPU"}, "was built for Another CPU"),
        ({"library": "openvino 1.0"}, "built with openvino 1.0, here is openvino"),
        ({"recipe": "0" * 64}, "another recipe"),
        ({"backend": "abacus"}, "does not know"),
        ({"code": "0" * 64}, "another version of fcnseg"),
    ],
)
def test_engines_for_something_else_are_refused(
    coarse: TinyModel, copied: Path, change: dict[str, str], says: str
) -> None:
    record = read_record(copied)
    write_record(copied, replace(record, identity=replace(record.identity, **change)))
    refused(coarse, copied, says)


def test_an_edited_record_is_refused(coarse: TinyModel, copied: Path) -> None:
    path = record_path(copied)
    path.write_text(path.read_text().replace('"fp32"', '"bf16"'))
    refused(coarse, copied, "or was edited")
