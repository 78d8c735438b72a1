"""Scores of parts, and of the whole from their counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnseg
from fcnseg.errors import SettingsError
from fcnseg.scoring.result import score_json
from tests.scoring.maps import data_set, save, scored


def parts_of(folder: Path, sides: tuple[Path, Path], count: int, **options: Any) -> list[fcnseg.Score]:
    """The scores of parts, and their files in `folder`."""
    folder.mkdir()
    parts = [fcnseg.score(*sides, num_parts=count, part_id=i, **options) for i in range(count)]
    for number, part in enumerate(parts):
        (folder / f"{number}.json").write_text(score_json(part))
    return parts


def test_parts_together_are_the_whole(tmp_path: Path) -> None:
    sides = data_set(tmp_path, 3, 5, tuple("abcdefgh"))
    save(sides[0] / "c.png", np.full((13, 17), 9, np.uint8))
    save(sides[1] / "e.png", np.full((13, 17), 255, np.uint8))
    options = {"classes": "5", "boundary": True, "allow_invalid": True, "allow_void": True}
    whole = fcnseg.score(*sides, **options)
    parts = parts_of(tmp_path / "parts", sides, 3, **options)
    assert (sum(p.confusion for p in parts) == whole.confusion).all()
    assert sum(p.images for p in parts) == whole.images == 6
    for path in sides[0].iterdir():
        path.write_bytes(b"")  # nothing is read again
    together = fcnseg.score(*sides, counted=str(tmp_path / "parts"), **options)
    assert whole.intervals["mean_iu"][0] < whole.mean_iu
    assert (together.all_void, together.exit_code) == (("e",), 3)
    assert _figures(together) == _figures(whole)


def _figures(score: fcnseg.Score) -> dict[str, Any]:
    values = score.as_dict()
    settings = values.pop("settings")
    values["settings"] = {k: v for k, v in settings.items() if k not in ("counted", "num_parts", "part_id")}
    return values


def test_parts_of_probabilities_and_heads_are_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "abgh":  # two in each of two parts
        for head, classes in (("semantic", 33), ("geometric", 3)):
            save(tmp_path / f"gt/{head}/{name}.png", rng.integers(0, classes, (5, 6)).astype(np.uint8))
            (tmp_path / f"pred/{head}").mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / f"pred/{head}/{name}.npy", rng.dirichlet(np.ones(classes), (5, 6)).transpose(2, 0, 1))
    sides = tmp_path / "pred", tmp_path / "gt"
    parts_of(tmp_path / "parts", sides, 2, model="siftflow-fcn8s")
    whole = fcnseg.score(*sides, model="siftflow-fcn8s")
    (tmp_path / "parts/1.json").unlink()  # what is missing is counted
    together = fcnseg.score(*sides, model="siftflow-fcn8s", counted=[tmp_path / "parts"])
    for name, head in whole.heads.items():
        again = together.heads[name]
        assert head.calibration is not None
        assert again.calibration is not None
        assert again.calibration.expected_error == pytest.approx(head.calibration.expected_error, abs=1e-12)
        assert (again.confusion == head.confusion).all()
        assert again.intervals == head.intervals


def test_foreign_counts_are_refused(tmp_path: Path) -> None:
    sides = data_set(tmp_path, 3, 5, tuple("abgh"))
    parts_of(tmp_path / "parts", sides, 2, classes="5")
    first = tmp_path / "parts/0.json"
    for options, reason in (
        ({"ignore": (3,)}, r"0.json was scored with another ignore and ignored_values; score its images again"),
        ({"boundary": True}, "another boundary"),
        ({"counted": [first, first]}, "2 images that are in another file too: g, h"),
        ({"num_parts": 2, "part_id": 1}, "2 images that are not to be scored: g, h"),
        ({"counted": [tmp_path / "none.json"]}, "none.json cannot be read: No such file"),
        ({"counted": [sides[0]]}, "holds no .json files"),
        ({"counted": [sides[0] / "a.png"]}, "a.png is no score"),
    ):
        with pytest.raises(SettingsError, match=reason):
            scored(*sides, **({"classes": "5", "counted": [first]} | options))
    values = json.loads(first.read_text())
    values["image_scores"][0]["class_counts"] = [[7, 1, 1, 1]]
    first.write_text(json.dumps(values))
    with pytest.raises(SettingsError, match="is no score"):
        scored(*sides, classes="5", counted=[first])
