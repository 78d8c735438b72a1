"""Round trips of every form, and damaged files of every form."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fuzz_weights import fuzz
from fcnseg.weights.importing import import_weights
from tests.weights.conftest import MakeRecipe, check, numbers
from tests.weights.forms import FORMS, coarse


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_imported_bit_for_bit(form: str, recipe: MakeRecipe, tmp_path: Path) -> None:
    """And what was imported is imported again to the same bytes."""
    small = recipe()
    arrays = coarse(numbers(small))
    FORMS[form](tmp_path / "weights", arrays)
    import_weights(tmp_path / "weights", small, tmp_path / "out")
    check(tmp_path / "out", arrays)
    import_weights(tmp_path / "out", small, tmp_path / "again")
    check(tmp_path / "again", arrays)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_damaged_files_are_read_or_refused_in_one_line(form: str) -> None:
    assert fuzz(form, 100) == 0
