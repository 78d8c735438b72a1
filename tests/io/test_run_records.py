"""Records of runs, as scores and reports read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fcnseg.errors import SettingsError
from fcnseg.io.run_records import key_lookup, recorded_keys
from fcnseg.running.ledger import SqliteLedger
from fcnseg.types import Failure, Settled


def ledger(file: Path, *keys: str) -> Path:
    """A ledger with a row for each of these keys."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with SqliteLedger(file, file.parent) as opened:
        opened.settle([Settled(key, "s", failure=Failure(key, "load", "why")) for key in keys])
    return file


def test_names_of_label_maps_are_the_keys_of_their_images(tmp_path: Path) -> None:
    ledger(tmp_path / ".fcnseg/ledger-0-of-2.sqlite", "a/x.jpg", "a/y.tif")
    ledger(tmp_path / ".fcnseg/ledger-1-of-2.sqlite", "b/x.png", os.fsdecode(b"b/\xe9.jpg"), "b/z.jpg")
    for source in (tmp_path, tmp_path / "semantic", Path(f"{tmp_path}/labels.h5::/semantic")):
        key_of = key_lookup(str(source))
        assert [key_of(name) for name in ("a/x", "b/x", "a/y", "y")] == ["a/x.jpg", "b/x.png", "a/y.tif", "a/y.tif"]
        assert key_of(os.fsdecode(b"b/\xe9")) == os.fsdecode(b"b/\xe9.jpg")
        assert [key_of(name) for name in ("a/new", "x")] == ["a/new.jpg", "x.jpg"]  # as most; of two images


def test_patterns_lead_to_the_names_of_images(tmp_path: Path) -> None:
    ledger(tmp_path / ".fcnseg/ledger.sqlite", "city/1_leftImg8bit.png")
    assert key_lookup(str(tmp_path), "{stem}_leftImg8bit.png")("city/1") == "city/1_leftImg8bit.png"


def test_without_a_ledger_names_are_keys(tmp_path: Path) -> None:
    assert key_lookup(str(tmp_path), "{stem}_ids.png")("a/b") == "a/b"


def test_the_records_of_a_volume_lie_beside_it(tmp_path: Path) -> None:
    ledger(tmp_path / ".masks.h5.fcnseg/ledger.sqlite", "a.jpg")
    assert list(recorded_keys(f"{tmp_path}/masks.h5")) == ["a.jpg"]


def test_ledgers_are_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    file = ledger(tmp_path / ".fcnseg/ledger.sqlite", "a.jpg")
    file.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert list(recorded_keys(str(tmp_path))) == ["a.jpg"]
    finally:
        file.parent.chmod(stat.S_IRWXU)
    assert [path.name for path in file.parent.glob("*.sqlite*") if not path.name.endswith("-opening")] == [file.name]


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / ".fcnseg").mkdir()
    (tmp_path / ".fcnseg/ledger.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(SettingsError, match=r"ledger.sqlite cannot be read: .*score without --num-parts"):
        list(recorded_keys(str(tmp_path)))
