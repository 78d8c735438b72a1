"""Parts, heads and conventions of data sets: which pairs a score is made of."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.io.parts import Part
from fcnseg.running.ledger import SqliteLedger
from fcnseg.types import Failure, Settled
from tests.scoring.maps import data_set, save, scored


def test_a_part_without_pairs_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="part 1 of 3 has no pair"):
        scored(*data_set(tmp_path, 3, 5, ("a", "b")), classes="5", num_parts=3, part_id=1)


def test_parts_are_those_of_the_run_that_predicted(tmp_path: Path) -> None:
    names = [f"{i:02}" for i in range(20)]
    sides = data_set(tmp_path, 3, 5, tuple(names))
    images = [f"{name}{'.tif' if int(name) % 3 == 0 else '.jpg'}" for name in names]
    parts = {part: list(filter(part.has, images)) for part in (Part(0, 2), Part(1, 2))}
    (sides[0] / ".fcnseg").mkdir()
    for part, keys in parts.items():
        with SqliteLedger(sides[0] / f".fcnseg/ledger{part.name}.sqlite", sides[0]) as ledger:
            ledger.settle([Settled(key, "s", failure=Failure(key, "load", "why")) for key in keys])
    for part, keys in parts.items():
        score = scored(*sides, classes="5", num_parts=2, part_id=part.index)
        assert [image.key for image in score.image_scores] == [key[:2] for key in keys]


def test_only_what_is_missing_of_the_part_is_an_error(tmp_path: Path) -> None:
    sides = data_set(tmp_path, 3, 5, tuple("abgh"))
    (sides[0] / "a.png").unlink()
    (sides[1] / "b.png").unlink()
    part = scored(*sides, classes="5", num_parts=2, part_id=0)
    assert ([image.key for image in part.image_scores], part.exit_code) == (["g", "h"], 0)
    with pytest.raises(LabelsError, match=r"1 without a prediction: a .*1 without a ground truth: b"):
        scored(*sides, classes="5", num_parts=2, part_id=1)


def test_heads_in_a_volume_are_scored(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "pred.h5", "w") as h5:
        for head in ("semantic", "geometric"):
            h5[f"{head}/x.jpg"] = np.array([[0, 1, 2, 2]], np.uint8)
            save(tmp_path / "gt" / head / "x.png", np.array([[0, 1, 2, 1]], np.uint8))
    assert scored(tmp_path / "pred.h5", tmp_path / "gt", model="siftflow-fcn8s").geometric_accuracy == 0.75


def test_siftflow_by_its_conventions(tmp_path: Path) -> None:
    for head, folder in (("semantic", "SemanticLabels"), ("geometric", "GeoLabels")):
        for name in ("coast_1", "highway_bost181"):
            (tmp_path / f"gt/{folder}/spatial").mkdir(parents=True, exist_ok=True)
            values = np.array([[0, 6, 2]]) if head == "semantic" else np.array([[-1, 1, 3]])
            values = np.zeros_like(values) if name != "coast_1" else values
            scipy.io.savemat(tmp_path / f"gt/{folder}/spatial/{name}.mat", {"S": values.astype(float)})
            save(
                tmp_path / f"pred/{head}/{name}.png",
                np.array([[0, 5, 8]] if head == "semantic" else [[0, 0, 2]], np.uint8),
            )
    score = scored(tmp_path / "pred", tmp_path / "gt", model="siftflow-fcn16s")
    assert set(score.heads) == {"semantic", "geometric"}
    assert score.geometric_accuracy == 1
    assert score.excluded_images == ("highway_bost181",)
    assert score.excluded_classes == ("cow", "desert", "moon")
    assert score.mean_iu == 0.5  # building 1, balcony 0; cow, which was predicted, does not count
    assert score.exit_code == 0
    assert scored(tmp_path / "pred", tmp_path / "gt", model="siftflow-fcn16s", head="geometric").pixel_accuracy == 1
    with pytest.raises(SettingsError, match="has no head depth"):
        scored(tmp_path / "pred", tmp_path / "gt", model="siftflow-fcn16s", head="depth")
