"""What the values of label maps mean, said by options, class files and published layouts; as `score` reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.labels import LabelSpace
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.scoring.label_options import LabelOptions
from fcnseg.scoring.named_labels import named_labels
from fcnseg.training.datasets import open_samples, own_labels
from fcnseg.training.preparation import with_labels
from tests.scoring.maps import scored
from tests.training.data_sets import Array, photo, text, voc
from tests.training.datasets.helpers import STREET, VOC, fault, folder_of, read


def recipe_for(data: Path, options: LabelOptions | None = None, base: Recipe = STREET) -> Recipe:
    return with_labels(base, own_labels(data, base, options), data)


def labels_read(data: Path, options: LabelOptions | None = None, split: str = "train") -> dict[str, Array]:
    return read(open_samples(data, recipe_for(data, options), split, options=options))


def saved(values: object, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(values)
    Image.fromarray(array.astype(np.uint8)).save(path)
    return path


def test_void_may_be_the_first_class(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [2, 1, 0]])
    data = folder_of(tmp_path, {"a": values})
    text(data / "classes.txt", ["void", "wall", "sky"])
    assert own_labels(data) == LabelSpace(("wall", "sky"), ((0, 0, 0), (128, 0, 0)))
    assert labels_read(data)["a"].tolist() == [[255, 0, 1], [1, 0, 255]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (LabelOptions(reduce_labels=True), [255, 0, 1, 255]),
        (LabelOptions(ignore=(0, 2)), [255, 1, 255, 255]),
    ],
)
def test_train_reads_values_as_score_does(tmp_path: Path, options: LabelOptions, expected: list[int]) -> None:
    data = folder_of(tmp_path, {"a": np.array([[0, 1, 2, 255]])})
    text(data / "classes.txt", ["wall", "sky", "tree"])
    assert labels_read(data, options)["a"].tolist() == [expected]
    saved(np.where(np.array([expected]) == 255, 0, [expected]), tmp_path / "pred/a.png")
    score = scored(
        tmp_path / "pred", data / "labels", classes=data / "classes.txt", ignore=options.ignore,
        reduce_labels=options.reduce_labels,
    )  # fmt: skip
    assert (score.pixel_accuracy, score.pixels) == (1, sum(value != 255 for value in expected))


def test_minus_one_is_void_if_said_so(tmp_path: Path) -> None:
    data = folder_of(tmp_path, {"a": np.array([[0, 1, 2]])})
    (data / "labels/a.png").unlink()
    np.save(data / "labels/a.npy", np.array([[-1, 1, 2]]))
    assert labels_read(data, LabelOptions(ignore=(-1,)))["a"].tolist() == [[255, 1, 2]]
    (tmp_path / "map.txt").write_text("-1: void\n1-2: car\n")
    assert labels_read(data, LabelOptions(label_map=tmp_path / "map.txt"))["a"].tolist() == [[255, 8, 8]]


def test_masks_of_255_train_with_binary(tmp_path: Path) -> None:
    data = folder_of(tmp_path, {"a": np.array([[0, 255, 255]])})
    (data / "labels").rename(data / "masks")
    assert labels_read(data, LabelOptions(binary=True))["a"].tolist() == [[0, 1, 1]]
    assert recipe_for(data, LabelOptions(binary=True)).heads[0].labels.names == ("background", "foreground")


@pytest.mark.parametrize("folder", ["masks", "annotations"])
def test_label_maps_may_lie_in_folders_of_other_names(tmp_path: Path, folder: str) -> None:
    data = folder_of(tmp_path, {"a": np.array([[0, 1, 2]])})
    (data / "labels").rename(data / folder)
    assert labels_read(data)["a"].tolist() == [[0, 1, 2]]


def test_cityscapes_as_it_unpacks(tmp_path: Path) -> None:
    for split in ("train", "val"):
        stem = f"{split}/aachen/aachen_000000_000019"
        photo(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png", split, (1, 5))
        saved([[7, 26, 33, 4, 0]], tmp_path / f"gtFine/{stem}_gtFine_labelIds.png")
        saved([[0, 0, 0, 0, 0]], tmp_path / f"gtFine/{stem}_gtFine_instanceIds.png")
    recipe = recipe_for(tmp_path)
    assert recipe.heads[0].labels.classes == 19
    for split in ("train", "val"):
        (labels,) = labels_read(tmp_path, split=split).values()
        assert labels.tolist() == [[0, 13, 18, 255, 255]]
    assert "beside it there is train, val" in fault(tmp_path, "street-fcn8s", "test")
    photo(tmp_path / "leftImg8bit/train/bochum/bochum_000000_000001_leftImg8bit.png", "b", (1, 5))
    assert "has no label map" in fault(tmp_path, "street-fcn8s")


def test_ade20k_as_it_unpacks(tmp_path: Path) -> None:
    for part in ("training", "validation"):
        photo(tmp_path / f"images/{part}/ADE_1.jpg", part, (1, 3))
        saved([[0, 1, 150]], tmp_path / f"annotations/{part}/ADE_1.png")
    assert recipe_for(tmp_path).heads[0].labels.names[::149] == ("wall", "flag")
    for split in ("train", "val"):
        assert labels_read(tmp_path, split=split)["ADE_1"].tolist() == [[255, 0, 149]]


@pytest.mark.parametrize("layout", ["stills", "splits"])
@pytest.mark.parametrize("described", [False, True])
def test_camvid_in_its_32_colours(tmp_path: Path, layout: str, described: bool) -> None:
    colors = np.array([[(128, 128, 128), (128, 0, 192), (64, 128, 192), (0, 0, 0)]], np.uint8)
    for name, split in (("0001TP_1", "train"), ("0006R0_2", "val")):
        stills = layout == "stills"
        photo(tmp_path / ("701_StillsRaw_full" if stills else split) / f"{name}.png", name, (1, 4))
        saved(colors, tmp_path / ("LabeledApproved_full" if stills else f"{split}_labels") / f"{name}_L.png")
        text(tmp_path / f"{split}.txt", [name])
    if described:  # by the file that often comes with it
        rows = ["name,r,g,b", "LaneMkgsDriv,128,0,192", "Void,0,0,0", "Sky,128,128,128", "SUVPickupTruck,64,128,192"]
        text(tmp_path / "class_dict.csv", rows)
    expected = [[1, 0, 2, 255]] if described else [[0, 3, 8, 255]]  # by their 11 classes: sky, road, car
    assert labels_read(tmp_path)["0001TP_1"].tolist() == expected
    assert labels_read(tmp_path, split="val")["0006R0_2"].tolist() == expected


def test_voc_of_any_year(tmp_path: Path) -> None:
    copy = voc(tmp_path, "VOC2007")
    samples = open_samples(tmp_path, VOC, "train")
    assert list(samples.names) == copy.splits["train"]


def test_named_labels_are_the_recipes_or_bring_their_own(tmp_path: Path) -> None:
    values = np.array([[7, 26, 0]])
    data = folder_of(tmp_path, {"a": values})
    options = LabelOptions(labels="cityscapes")
    assert recipe_for(data, options).heads[0].labels == named_labels("cityscapes").space
    assert labels_read(data, options)["a"].tolist() == [[0, 13, 255]]
    voc_recipe = find_recipe("voc-fcn8s")
    assert own_labels(data, voc_recipe, LabelOptions(labels="voc")) is None
