"""Files that give the classes of label values and of colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcnseg.errors import LabelsError, SettingsError
from tests.scoring.maps import save, score_pair, scored


def test_a_label_map_translates_ground_truth(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("road\ncar\n")
    (tmp_path / "map.txt").write_text("# cityscapes\n7: road\n26 = car\n0, void\n-1: 255\n")
    options = {"classes": str(tmp_path / "classes.txt"), "label_map": tmp_path / "map.txt"}
    assert score_pair(tmp_path, [[7, 26, 0]], [[0, 0, 1]], **options).confusion.tolist() == [[1, 0], [1, 0]]
    with pytest.raises(LabelsError, match="label 8 on 1 pixels, but the label map"):
        score_pair(tmp_path, [[7, 8]], [[0, 0]], **options)
    (tmp_path / "map.json").write_text('{"7": "road", "26": 1, "0": "void"}')
    in_json = options | {"label_map": tmp_path / "map.json"}
    assert score_pair(tmp_path, [[7, 26, 0]], [[0, 0, 1]], **in_json).confusion.tolist() == [[1, 0], [1, 0]]
    (tmp_path / "map.json").write_text("[7, 26]")
    with pytest.raises(SettingsError, match="no JSON object"):
        score_pair(tmp_path, [[7, 26, 0]], [[0, 0, 1]], **in_json)
    (tmp_path / "map.txt").write_text("7: road\nseven: car\n7: car\n9: boat\n")
    with pytest.raises(SettingsError, match="'seven: car', '7: car', '9: boat' is not understood"):
        score_pair(tmp_path, [[7, 26]], [[0, 0]], **options)


def test_a_label_map_may_make_void_a_class_and_classes_void(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("0: 0\n1: 1\n7: 1\n255: 2\n")
    options = {"classes": "3", "label_map": tmp_path / "map.txt"}
    assert score_pair(tmp_path, [[0, 1, 255, 255]], [[0, 1, 2, 0]], **options).confusion.tolist() == [
        [1, 0, 0], [0, 1, 0], [1, 0, 1]
    ]  # fmt: skip
    score = score_pair(tmp_path, [[0, 1, 7]], [[0, 1, 2]], ignore=(7,), **options)
    assert (score.pixels, score.excluded_classes) == (2, ())  # 1 is class 1 still
    with pytest.raises(SettingsError, match="255 is both a class and ignored"):
        score_pair(tmp_path, [[0, 1]], [[0, 1]], ignore=(255,), **options)


def test_a_label_map_translates_predictions_too(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("7: 0\n26: 1\n0: void\n")
    options = {"classes": "2", "pred_label_map": tmp_path / "map.txt"}
    assert score_pair(tmp_path, [[0, 1, 255]], [[7, 7, 0]], **options).confusion.tolist() == [[1, 0], [1, 0]]
    with pytest.raises(LabelsError, match=r"pred/x.png has label 8 on 1 pixels, but the label map has no class"):
        score_pair(tmp_path, [[0, 1]], [[7, 8]], **options)
    (tmp_path / "pred/x.png").unlink()
    np.save(tmp_path / "pred/x.npy", np.ones((2, 1, 2)))
    with pytest.raises(LabelsError, match=r"holds planes of classes; .*--pred-label-map .*are for label maps"):
        scored(tmp_path / "pred", tmp_path / "gt", **options)


def test_colours_are_read_by_a_palette_file(tmp_path: Path) -> None:
    save(tmp_path / "gt/x.png", np.array([[(64, 128, 64), (0, 0, 0), (1, 2, 3)]], np.uint8))
    save(tmp_path / "pred/x.png", np.array([[5, 3, 0]], np.uint8))
    (tmp_path / "colors.txt").write_text("64 128 64\tTree\n1 2 3 0\nvoid 0 0 0\n")
    score = scored(tmp_path / "pred", tmp_path / "gt", model="street-fcn8s", palette=tmp_path / "colors.txt")
    assert (score.pixels, score.void_pixels, score.pixel_accuracy) == (2, 1, 1)
    (tmp_path / "colors.txt").write_text("\n".join(f"{i} {i} {i + 1}" for i in range(11)))  # in the classes' order
    save(tmp_path / "gt/x.png", np.array([[(5, 5, 6), (0, 0, 1), (10, 10, 11)]], np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", model="street-fcn8s", palette=tmp_path / "colors.txt")
    assert [score.confusion[i, j] for i, j in ((5, 5), (0, 3), (10, 0))] == [1, 1, 1]
    (tmp_path / "colors.txt").write_text("64 128 Tree\n")
    with pytest.raises(SettingsError, match="not understood"):
        scored(tmp_path / "pred", tmp_path / "gt", model="street-fcn8s", palette=tmp_path / "colors.txt")
