"""Texts of strangers on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.table import Table

from fcnseg.cli import console
from tests.conftest import Outcome


def printed(capsys: pytest.CaptureFixture[str], *texts: object) -> str:
    console.out.cache_clear()
    capsys.readouterr()
    console.out().print(*texts, markup=False)
    return capsys.readouterr().out


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=())))
def test_nothing_unprintable_is_printed(capsys: pytest.CaptureFixture[str], text: str) -> None:
    for out in (printed(capsys, text), printed(capsys, "x", text)):
        assert out.replace("\n", "").isprintable()


def test_cells_of_tables_and_names_of_no_encoding(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name\x1b[2J", box=None)
    table.add_row("a\x1b]0;title\x07\u202e\udcff")
    out = printed(capsys, table)
    assert out.replace("\n", "").isprintable()
    assert r"a\x1b]0;title\x07\u202e\xff" in out


@pytest.mark.parametrize("key", ["name", "title", "\\u001b[2J"])
def test_the_error_line_is_printable(key: str, fcnseg: Callable[..., Outcome], tmp_path: Path) -> None:
    recipe = tmp_path / "a\x1b[2J\udcff.toml"
    recipe.write_text(f'"{key}" = "\\u001b[2J\\u202e"\n')
    for command in (["run", tmp_path, "--out", tmp_path / "o"], ["weights", "import", tmp_path], ["build-engine"]):
        done = fcnseg(*command, *([] if command[0] == "build-engine" else ["--model"]), recipe)
        assert done.code == 2
        assert done.error_line.isprintable()
