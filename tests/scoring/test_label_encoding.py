"""Label values and colours as classes or void."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

import fcnseg
from fcnseg.errors import LabelsError
from fcnseg.io.conventions import CONTEXT_LABELS
from fcnseg.labels import voc_color
from tests.scoring.maps import save, score_pair, scored


def test_binary_masks(tmp_path: Path) -> None:
    score = score_pair(tmp_path, [[0, 255, 255]], [[0, 1, 0]], binary=True)
    assert score.confusion.tolist() == [[1, 0], [1, 1]]
    assert score.per_class[1].name == "foreground"


def test_ignored_values_do_not_count(tmp_path: Path) -> None:
    score = score_pair(tmp_path, [[0, 1, 11, 12]], [[0, 1, 2, 2]], classes="3", ignore=(11, 12))
    assert (score.pixels, score.void_pixels) == (2, 2)
    score = score_pair(tmp_path, [[0, 1, 1]], [[0, 0, 1]], classes="3", ignore=(0,))
    assert score.excluded_classes == ("class 0",)
    assert score.mean_iu == 0.5


def test_reduced_labels(tmp_path: Path) -> None:
    score = score_pair(tmp_path, [[0, 1, 3, 255]], [[0, 0, 2, 1]], classes="3", reduce_labels=True)
    assert score.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    score = score_pair(tmp_path, [[0, 254, 255]], [[0, 253, 254]], classes="255", reduce_labels=True)
    assert (score.pixels, score.pixel_accuracy, score.excluded_classes) == (2, 1, ())  # 255 is a class, not void
    with pytest.raises(LabelsError, match="label 4 on 1 pixels, but labels are 1 to 3, and 0 for void"):
        score_pair(tmp_path, [[0, 1, 4]], [[0, 0, 2]], classes="3", reduce_labels=True)


def test_masks_saved_as_colours_are_masks(tmp_path: Path) -> None:
    mask = np.array([[0, 255, 255]], np.uint8)
    assert score_pair(tmp_path, np.repeat(mask[..., None], 3, 2), mask, binary=True).pixel_accuracy == 1


def test_colours_of_two_classes_are_of_none(tmp_path: Path) -> None:
    save(tmp_path / "gt/x.png", np.array([[voc_color(1), voc_color(299 - 256)]], np.uint8))
    save(tmp_path / "pred/x.png", np.array([[1, 299]], np.uint16))
    with pytest.raises(LabelsError, match="2 colours that no one class has"):
        scored(tmp_path / "pred", tmp_path / "gt", classes="300")


def test_options_for_labels_do_not_pass_over_colours(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="has colours; --label-map and --reduce-labels are for labels"):
        score_pair(tmp_path, [[voc_color(1)]], [[1]], classes="3", reduce_labels=True)


def test_colours_are_read_by_the_models_palette(tmp_path: Path) -> None:
    colors = np.array([[voc_color(0), voc_color(15), voc_color(255)]], np.uint8)
    save(tmp_path / "gt/x.png", colors)
    save(tmp_path / "pred/x.png", np.array([[0, 15, 3]], np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", model="voc-fcn8s")
    assert (score.pixels, score.pixel_accuracy) == (2, 1)
    colors[0, 0] = (9, 8, 7)
    save(tmp_path / "gt/x.png", colors)
    with pytest.raises(LabelsError, match=r"gt/x.png has 1 colour .* on 1 pixels, the commonest \(9, 8, 7\)"):
        scored(tmp_path / "pred", tmp_path / "gt", model="voc-fcn8s")


def test_indexed_images_must_show_the_models_colours(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2]], np.uint8)
    street, voc = (fcnseg.find_recipe(name).heads[0].labels for name in ("street-fcn8s", "voc-fcn8s"))
    save(tmp_path / "pred/x.png", labels, street.palette)
    save(tmp_path / "gt/x.png", labels, voc.palette)
    with pytest.raises(LabelsError, match=r"draws label 0 in .*, but sky is"):
        scored(tmp_path / "pred", tmp_path / "gt", model="street-fcn8s")
    assert scored(tmp_path / "pred", tmp_path / "gt", model="street-fcn8s", any_palette=True).images == 1


def test_nyud_and_pascal_context_by_their_variables(tmp_path: Path) -> None:
    (tmp_path / "gt").mkdir()
    scipy.io.savemat(tmp_path / "gt/x.mat", {"segmentation": np.array([[0, 1, 40]], np.uint8)})
    save(tmp_path / "pred/x.png", np.array([[7, 0, 39]], np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", model="nyud-fcn32s-color")
    assert (score.pixels, score.pixel_accuracy) == (2, 1)
    labels = [[1, CONTEXT_LABELS["aeroplane"], CONTEXT_LABELS["wood"], CONTEXT_LABELS["diningtable"]]]
    scipy.io.savemat(tmp_path / "gt/x.mat", {"LabelMap": np.array(labels, np.uint16)})
    save(tmp_path / "pred/x.png", np.array([[0, 1, 59, 11]], np.uint8))
    assert scored(tmp_path / "pred", tmp_path / "gt", model="pascalcontext-fcn8s").pixel_accuracy == 1
    score = scored(tmp_path / "pred", tmp_path / "gt", model="pascalcontext-fcn8s", ignore=(458,))
    assert (score.pixels, score.excluded_classes) == (3, ("wood",))
    (tmp_path / "gt/x.mat").unlink()
    scipy.io.savemat(tmp_path / "gt/x.mat", {"segmentation": np.array([[0, 1, 40]], np.uint8)})
    save(tmp_path / "pred/x.png", np.array([[7, 0, 39]], np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", model="nyud-fcn32s-color", ignore=(1,))
    assert (score.pixels, score.excluded_classes) == (1, ("wall",))


def test_labels_of_matlab_count_from_one_only_in_the_data_sets_that_do(tmp_path: Path) -> None:
    (tmp_path / "gt").mkdir()
    save(tmp_path / "pred/x.png", np.array([[0, 0, 2]], np.uint8))
    for variable, value, model in (
        ("S", -5.0, "siftflow-fcn8s"), ("S", np.inf, "siftflow-fcn8s"), ("segmentation", -1.0, "nyud-fcn32s-color")
    ):  # fmt: skip
        scipy.io.savemat(tmp_path / "gt/x.mat", {variable: np.array([[value, 1, 3]])})
        with pytest.raises(LabelsError, match=r"label -[15] on 1 pixels, but labels are 1 to |whole numbers"):
            scored(tmp_path / "pred", tmp_path / "gt", model=model, head="semantic" if variable == "S" else None)
    scipy.io.savemat(tmp_path / "gt/x.mat", {"segmentation": np.array([[0, 0, 2]])})
    assert scored(tmp_path / "pred", tmp_path / "gt", classes="3").pixel_accuracy == 1
    scipy.io.savemat(tmp_path / "gt/x.mat", {"segmentation": np.array([[1, 1, 3]])})
    with pytest.raises(LabelsError, match=r"label 3 on 1 pixels, .*--reduce-labels"):
        scored(tmp_path / "pred", tmp_path / "gt", classes="3")
    assert scored(tmp_path / "pred", tmp_path / "gt", classes="3", reduce_labels=True).pixel_accuracy == 1


def test_volumes_of_matlab_are_read_column_by_column(tmp_path: Path) -> None:
    labels = np.array([[[0, 1, 2], [2, 1, 0]], [[1, 1, 1], [0, 0, 0]]], np.uint16)  # N x H x W
    with h5py.File(tmp_path / "labeled.mat", "w") as h5:
        h5["labels"] = labels.transpose(0, 2, 1)
        h5["depths"] = np.zeros((2, 3, 2), np.float32)
    for number, values in enumerate(labels):
        save(tmp_path / f"pred/{number:06}.png", values.astype(np.uint8))
    score = scored(tmp_path / "pred", Path(f"{tmp_path}/labeled.mat::/labels"), classes=3)
    assert (score.images, score.pixel_accuracy) == (2, 1)


def test_negative_values_may_be_void(tmp_path: Path) -> None:
    predictions, truth = tmp_path / "pred.npy", tmp_path / "gt.npy"
    np.save(truth, np.array([[-1, 0, 1]], np.int32))
    np.save(predictions, np.array([[0, 0, 1]], bool))
    with pytest.raises(LabelsError, match="label -1 on 1 pixels"):
        scored(predictions, truth, classes=2)
    assert scored(predictions, truth, classes=2, ignore=(-1,)).pixels == 2
