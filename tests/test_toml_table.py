from typing import Any

import pytest

from fcnseg.toml_table import TomlTable


def table(**data: Any) -> TomlTable:
    return TomlTable(data)


def test_faults_of_all_tables_are_together_and_unknown_keys_come_with_the_nearest() -> None:
    root = table(name=3, nmae="x", inner={"b": [1], "colour": 1}, many=[{}, {"a": True}])
    assert root.text("name") == ""
    inner = root.table("inner")
    assert inner.numbers("b", 2) == ()
    assert inner.choice("color", ("red", "blue"), "red") == "red"
    assert [item.integer("a", lambda v: v > 0, "a number above 0") for item in root.tables("many")] == [0, 0]
    assert root.faults == [
        "name: 3; allowed is a text",
        "nmae: unknown key; did you mean name?",
        "inner.b: [1]; allowed is a list of 2 numbers",
        "inner.colour: unknown key; did you mean color?",
        "many[0].a: missing; allowed is a number above 0",
        "many[1].a: True; allowed is a number above 0",
    ]


def test_valid_values_leave_no_faults() -> None:
    root = table(words=["a", "b"], numbers=[1, 2.5], scale=2, only=[{"x": 1}])
    assert (root.texts("words"), root.numbers("numbers", 2)) == (("a", "b"), (1.0, 2.5))
    scale = root.number("scale", lambda v: v > 0, "a number above 0", 1.0)
    assert (scale, type(scale)) == (2.0, float)
    (only,) = root.tables("only")
    assert (only.path, only.integer("x", bool, "not 0")) == ("only.", 1)
    assert root.table("none", required=False).data == {}
    assert root.tables("nothing", required=False) == []
    assert root.faults == []


@pytest.mark.parametrize("value", [[], [1], {}, "x", 3])
def test_required_tables_are_at_least_one(value: Any) -> None:
    root = table(items=value)
    assert root.tables("items") == []
    assert root.faults == [f"items: {value!r}; allowed is at least one table [[items]]"]
