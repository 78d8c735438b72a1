"""The store of imported weights."""

from __future__ import annotations

from fcnseg.weights.store import store_folder, stored_path


def test_a_recipe_name_cannot_leave_the_store() -> None:
    assert stored_path("../../x/y").parent == store_folder()
