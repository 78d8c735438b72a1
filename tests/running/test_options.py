from pathlib import Path
from typing import Any

import pytest

from fcnseg.errors import SettingsError
from fcnseg.running.options import RunOptions, check_options


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"probabilities_dtype": "int8"}, "float16 or float32"),
        ({"resume": "again"}, "auto, continue or overwrite"),
        ({"num_parts": 2, "part_id": 2}, "0 to 1"),
        ({"top_k": 2}, "--save-probabilities"),
        ({"out": "x.h5", "probabilities": "./x.h5"}, "give two files"),
        ({"num_parts": 2, "out": "x.h5"}, "a file for each part"),
        ({"tile": "small"}, "auto, off"),
    ],
)
def test_values_that_no_run_can_have_are_named(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        check_options(RunOptions("photos", **({"out": "masks"} | values)))


def test_all_faults_are_named_together() -> None:
    with pytest.raises(SettingsError, match=r"float16 or float32.*0 to 0"):
        check_options(RunOptions("photos", Path("masks"), probabilities_dtype="int8", part_id=1))
    check_options(RunOptions("photos", Path("masks"), tile=640))
