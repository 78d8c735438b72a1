"""MATLAB files: whole ones pass; damaged ones are refused before SciPy reads them, which would end the process."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csr_array

from fcnseg.errors import LabelsError
from fcnseg.io.label_maps_matlab import check_mat

VARIABLES = {
    "numbers": np.arange(6.0).reshape(2, 3),
    "complex": np.ones((2, 2)) * 1j,
    "bytes": np.arange(30, dtype=np.uint8).reshape(5, 6),
    "text": "a text",
    "texts": np.array(["a", "bc"], object),
    "cells": np.array([np.ones(3), "x", np.zeros((2, 2), np.int16)], object),
    "fields": {"a": 1, "b": {"c": np.ones((3, 2)), "d": "text"}},
    "sparse": csr_array(np.eye(3)),
    "empty": np.zeros((0, 3)),
    "logical": np.ones((2, 2), bool),
    "volume": np.zeros((2, 3, 4), np.float32),
}


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"oned_as": "column", "long_field_names": True}])
def test_whole_files_pass(tmp_path: Path, options: dict[str, object]) -> None:
    for name, value in VARIABLES.items():
        savemat(tmp_path / "a.mat", {name: value}, **options)  # type: ignore[arg-type]
        check_mat(tmp_path / "a.mat")
    savemat(tmp_path / "a.mat", VARIABLES, **options)  # type: ignore[arg-type]
    check_mat(tmp_path / "a.mat")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"x": VARIABLES["bytes"]})
    whole = (tmp_path / "a.mat").read_bytes()
    for at, value in ((176, 85), (177, 4), (144, 200), (136, 9), (128, 3), (132, 250)):
        (tmp_path / "b.mat").write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
        with pytest.raises((LabelsError, ValueError)):
            check_mat(tmp_path / "b.mat")
    deep: object = np.ones(2)
    for _ in range(30):
        deep = np.array([deep, 1], object)
    savemat(tmp_path / "c.mat", {"x": deep})
    with pytest.raises(ValueError, match="too many levels"):
        check_mat(tmp_path / "c.mat")
