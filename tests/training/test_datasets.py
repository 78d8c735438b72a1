"""Every data set in its on-disk format: what it gives, and what it refuses by name."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image
from torch.utils.data import DataLoader

from fcnseg.errors import FcnsegError, LabelsError, SettingsError, SourceError
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.recipes import find_recipe
from fcnseg.training.datasets import KINDS, check_apart, open_samples, own_labels
from fcnseg.training.datasets.splits import HELD_OUT, held_out
from fcnseg.training.preparation import with_labels
from tests.training.data_sets import (
    CATEGORIES,
    COPIES,
    SIZE,
    camvid,
    context,
    depth_of,
    hdf5_groups,
    hdf5_split,
    indexed,
    labels_of,
    mat,
    nyud,
    nyud_original,
    pairs,
    pairs_inside,
    pairs_listed,
    photo,
    pixels_of,
    sbd,
    siftflow,
    text,
    voc,
)

STREET = find_recipe("street-fcn8s")
VOC = find_recipe("voc-fcn8s")


def gone_through(data: Path, model: str, split: str, read: bool) -> None:
    samples = open_samples(data, find_recipe(model), split)
    for i in range(len(samples) if read else 0):
        samples[i]


def fault(data: Path, model: str, split: str = "train", read: bool = False) -> str:
    """The one line that opening a split, or reading all of it, ends with."""
    with pytest.raises(FcnsegError) as caught:
        gone_through(data, model, split, read)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------------- what all give


@pytest.mark.parametrize("name", COPIES)
def test_every_data_set_gives_its_images_and_labels(name: str, tmp_path: Path) -> None:
    kind, write = COPIES[name]
    copy = write(tmp_path / "data")
    recipe = find_recipe(copy.model)
    for split, names in copy.splits.items():
        samples = open_samples(copy.data, recipe, split)
        assert list(samples.names) == names
        assert len(samples) == len(names)
        for i, sample_name in enumerate(names):
            sample = samples[i]
            assert sample.name == sample_name
            assert set(sample.inputs) == set(recipe.modalities)
            assert set(sample.labels) == {head.name for head in recipe.heads}
            for head, values in copy.labels[sample_name].items():
                assert sample.labels[head].dtype == np.uint8
                np.testing.assert_array_equal(sample.labels[head], values)
            size = next(iter(sample.labels.values())).shape
            for modality, pixels in sample.inputs.items():
                assert pixels.shape == (*size, 1 if modality == "depth" else 3)
                assert pixels.dtype == (np.float32 if modality == "depth" else np.uint8)
        named = open_samples(copy.data, recipe, split, kind)
        assert list(named.names) == names
    assert set(KINDS) >= {kind for kind, _ in COPIES.values()}


@pytest.mark.parametrize("name", COPIES)
def test_training_and_validation_do_not_overlap(name: str, tmp_path: Path) -> None:
    copy = COPIES[name][1](tmp_path)
    train, val = (open_samples(copy.data, find_recipe(copy.model), split) for split in ("train", "val"))
    seen = {train[i].inputs[next(iter(train[i].inputs))].tobytes() for i in range(len(train))}
    if name != "hdf5-groups":  # of the same made-up pixels
        assert not seen & {val[i].inputs[next(iter(val[i].inputs))].tobytes() for i in range(len(val))}


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("pairs", "fork"),
        ("nyud-original", "fork"),
        ("hdf5-split", "fork"),
        pytest.param("nyud-original", "spawn", marks=pytest.mark.slow),
    ],
)
def test_worker_processes_read_the_same(name: str, method: str, tmp_path: Path) -> None:
    copy = COPIES[name][1](tmp_path)
    samples: Any = open_samples(copy.data, find_recipe(copy.model), "train")
    samples[0]  # opens files before the fork
    loader = DataLoader(
        samples, batch_size=None, num_workers=2, multiprocessing_context=method, collate_fn=pickle.dumps
    )
    for i, sample in enumerate(pickle.loads(each) for each in loader):
        for head, values in sample.labels.items():
            np.testing.assert_array_equal(values, copy.labels[copy.splits["train"][i]][head])


def test_no_hdf5_file_is_open_in_two_processes(tmp_path: Path) -> None:
    copy = hdf5_groups(tmp_path)
    open_samples(copy.data, VOC, "train")[0]
    with pytest.raises(OSError, match="already open"):
        h5py.File(copy.data, "r+")
    pid = os.fork()
    if not pid:
        with contextlib.suppress(OSError), h5py.File(copy.data, "r+"):
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_pixels_are_those_of_the_run(tmp_path: Path) -> None:
    nyud(tmp_path)
    sample = open_samples(tmp_path, find_recipe("nyud-fcn32s-color-hha"), "train")[0]
    np.testing.assert_array_equal(sample.inputs["color"], pixels_of("img_5003"))
    np.testing.assert_array_equal(sample.inputs["hha"], pixels_of("hha img_5003"))


@pytest.mark.parametrize("write", [nyud, nyud_original])
def test_depth_is_in_millimetres(write: Callable[..., Any], tmp_path: Path) -> None:
    copy = write(tmp_path, "nyud-fcn32s-color-d")
    sample = open_samples(copy.data, find_recipe(copy.model), "train")[0]
    np.testing.assert_allclose(sample.inputs["depth"][..., 0], depth_of(sample.name), rtol=1e-6)
    np.testing.assert_array_equal(sample.inputs["color"], pixels_of(sample.name))


def test_images_are_taken_upright(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in "ab":
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.fromarray(pixels_of(name, (SIZE[1], SIZE[0])))
        image.save(tmp_path / "images" / f"{name}.png", exif=exif)
        indexed(tmp_path / "labels" / f"{name}.png", labels_of(name, 21))
    samples = open_samples(tmp_path, VOC, "val")
    assert samples[0].inputs["color"].shape == (*SIZE, 3)


# ---------------------------------------------------------------------- missing, malformed, out of range


BROKEN_FILES = {
    "pairs": (pairs, "train/images/a.png", "train/labels/b/c.png"),
    "pairs-inside": (pairs_inside, "images/train/a.png", "labels/train/b/c.png"),
    "pairs-listed": (pairs_listed, "images/b/c.jpg", "labels/a.png"),
    "camvid": (camvid, "train/0006R0_2.png", "trainannot/0001TP_1.png"),
    "voc": (
        voc,
        "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg",
        "VOCdevkit/VOC2012/SegmentationClass/2007_000039.png",
    ),
    "sbd": (sbd, "benchmark_RELEASE/dataset/img/s2.jpg", "benchmark_RELEASE/dataset/cls/v1.mat"),
    "context": (context, "VOCdevkit/VOC2010/JPEGImages/2008_000002.jpg", "trainval/2008_000002.mat"),
    "siftflow": (
        siftflow,
        f"Images/{CATEGORIES}/coast_natu975.jpg",
        f"GeoLabels/{CATEGORIES}/forest_cdmc304.mat",
    ),
    "nyud": (nyud, "data/hha/img_5003.png", "segmentation/img_5003.mat"),
}
"""An image and a label map of the training split of each."""


@pytest.mark.parametrize("which", [1, 2], ids=["image", "labels"])
@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_missing_file_is_named_before_the_first_step(name: str, which: int, tmp_path: Path) -> None:
    write, path = BROKEN_FILES[name][0], BROKEN_FILES[name][which]
    copy = write(tmp_path)  # type: ignore[operator]
    (tmp_path / str(path)).unlink()
    assert re.search(rf"\b{re.escape(Path(str(path)).stem)}\b", fault(copy.data, copy.model))


@pytest.mark.parametrize("which", [1, 2], ids=["image", "labels"])
@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_damaged_file_is_named(name: str, which: int, tmp_path: Path) -> None:
    write, path = BROKEN_FILES[name][0], BROKEN_FILES[name][which]
    copy = write(tmp_path)  # type: ignore[operator]
    (tmp_path / str(path)).write_bytes(b"no such thing")
    said = fault(copy.data, copy.model, read=path.endswith(".mat"))  # type: ignore[union-attr]
    assert str(tmp_path / str(path)) in said


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_another_size_is_refused(name: str, tmp_path: Path) -> None:
    write, image, _ = BROKEN_FILES[name]
    copy = write(tmp_path)  # type: ignore[operator]
    photo(tmp_path / str(image), "other", (SIZE[0] + 1, SIZE[1]))
    said = fault(copy.data, copy.model, read=name == "sbd")
    assert str(tmp_path / str(image)) in said
    assert f"{SIZE[1]} x {SIZE[0] + 1}" in said
    assert f"{SIZE[1]} x {SIZE[0]}" in said


def test_a_label_of_no_class_is_named_with_its_value_and_count(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    values = labels_of("a", 21)
    values[0, :3] = 21
    path = indexed(tmp_path / "train/labels/a.png", values)
    said = fault(copy.data, copy.model, read=True)
    assert f"{path} has label 21 on 3 pixels" in said
    assert "21 classes" in said


@pytest.mark.parametrize(
    ("write", "path", "values", "value"),
    [
        (sbd, "benchmark_RELEASE/dataset/cls/s1.mat", {"GTcls": {"Segmentation": np.full(SIZE, 21, np.uint8)}}, 21),
        (context, "trainval/2008_000002.mat", {"LabelMap": np.full(SIZE, 460, np.uint16)}, 460),
        (siftflow, f"SemanticLabels/{CATEGORIES}/coast_natu975.mat", {"S": np.full(SIZE, 34, np.uint8)}, 34),
        (siftflow, f"GeoLabels/{CATEGORIES}/coast_natu975.mat", {"S": np.full(SIZE, 4, np.int16)}, 4),
        (nyud, "segmentation/img_5003.mat", {"segmentation": np.full(SIZE, 41, np.uint16)}, 41),
    ],
)
def test_wrong_ranges_of_published_data_sets(
    write: Callable[[Path], Any], path: str, values: dict[str, Any], value: int, tmp_path: Path
) -> None:
    copy = write(tmp_path)
    mat(tmp_path / path, **values)
    assert f"{tmp_path / path} has label {value} on {SIZE[0] * SIZE[1]} pixels" in fault(
        copy.data, copy.model, read=True
    )


def test_labels_beyond_the_894_of_nyud_are_refused(tmp_path: Path) -> None:
    copy = nyud_original(tmp_path)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "r+") as file:
        file["labels"][2, 0, 0] = 81
    assert "nyu_depth_v2_labeled.mat::/labels[2] has label 81 on 1 pixels" in fault(copy.data, copy.model, read=True)


def test_11_is_void_in_camvid_alone(tmp_path: Path) -> None:
    camvid(tmp_path / "a")
    assert (open_samples(tmp_path / "a", STREET, "train")[0].labels["labels"] == 255).any()
    sample = open_samples(tmp_path / "a", VOC, "train")[0]  # of 21 classes in the same layout
    assert (sample.labels["labels"] == labels_of(sample.name, 11, 11)).all()
    for split, name in (("train", "x"), ("val", "y")):
        photo(tmp_path / "b" / split / "images" / f"{name}.png", name)
        indexed(tmp_path / "b" / split / "labels" / f"{name}.png", labels_of(name, 11, 11))
    assert (open_samples(tmp_path / "b", STREET, "train")[0].labels["labels"] == 255).any()
    assert "label 11 on" in fault_of_pairs(tmp_path / "b")


def fault_of_pairs(data: Path) -> str:
    """What is said when a folder of CamVid's classes is not taken for CamVid."""
    samples = open_samples(data, STREET, "train", "pairs")
    with pytest.raises(LabelsError) as caught:
        samples[0]
    return str(caught.value)


# ---------------------------------------------------------------------- splits


@pytest.mark.parametrize("kind", ["pairs", "pairs-inside"])
def test_a_split_without_folder_is_named(kind: str, tmp_path: Path) -> None:
    copy = COPIES[kind][1](tmp_path)
    assert "no split test" in fault(copy.data, copy.model, "test")
    shutil.rmtree(tmp_path / ("val" if kind == "pairs" else "images/val"))
    assert "no split val" in fault(copy.data, copy.model, "val")


@pytest.mark.parametrize("name", ["voc", "context", "siftflow", "nyud", "nyud-original", "hdf5-groups", "hdf5-split"])
def test_an_unknown_split_is_named(name: str, tmp_path: Path) -> None:
    copy = COPIES[name][1](tmp_path)
    assert "night" in fault(copy.data, copy.model, "night")


def test_an_image_in_both_lists_is_named(tmp_path: Path) -> None:
    copy = pairs_listed(tmp_path)
    text(tmp_path / "val.txt", ["d", "a"])
    for split in ("train", "val"):
        assert "the first a;" in fault(copy.data, copy.model, split)


def test_a_copy_of_a_training_image_in_validation_is_named(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    photo(tmp_path / "val/images/other.png", "a")
    indexed(tmp_path / "val/labels/other.png", labels_of("a", 21))
    said = fault(copy.data, copy.model)
    assert f"{tmp_path}/train/images/a.png and {tmp_path}/val/images/other.png" in said


def test_images_that_only_begin_alike_are_two(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    for split, name, last in (("train", "x", 0), ("train", "y", 1), ("val", "z", 2)):
        pixels = np.zeros((60, 80, 3), np.uint8)
        pixels[-1, -1] = last
        Image.fromarray(pixels).save(tmp_path / split / "images" / f"{name}.bmp")
        indexed(tmp_path / split / "labels" / f"{name}.png", labels_of(name, 21, size=(60, 80)))
    assert len(open_samples(copy.data, VOC, "train")) == 4
    shutil.copy(tmp_path / "train/images/x.bmp", tmp_path / "val/images/z.bmp")
    assert f"{tmp_path}/train/images/x.bmp and {tmp_path}/val/images/z.bmp" in fault(copy.data, copy.model, "val")


def test_data_sets_are_kept_apart(tmp_path: Path) -> None:
    one, other = voc(tmp_path / "one"), pairs_listed(tmp_path / "other")
    val = open_samples(one.data, VOC, "val")
    check_apart(open_samples(one.data, VOC, "train"), val)
    check_apart(open_samples(other.data, VOC, "train"), val)
    with pytest.raises(SourceError, match=r"1 images .*2007_000033\.jpg"):
        check_apart(open_samples(one.data, VOC, "val"), val)
    shutil.copy(one.data / "VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg", other.data / "images/a.jpg")
    with pytest.raises(SourceError, match=r"images/a\.jpg and .*2007_000033\.jpg are one image"):
        check_apart(open_samples(other.data, VOC, "train"), val)
    rows = open_samples(hdf5_groups(tmp_path).data, VOC, "train")
    check_apart(rows, val)
    with pytest.raises(SourceError, match=r"2 images .*data\.h5::/train/images\[0\]"):
        check_apart(rows, rows)


def test_label_maps_of_other_kinds(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    values = copy.labels["a"]["labels"]
    (tmp_path / "train/labels/a.png").unlink()
    np.save(tmp_path / "train/labels/a.npy", values)
    colors = np.array([voc_color(i) for i in range(256)], np.uint8)[copy.labels["b/c"]["labels"]]
    Image.fromarray(colors).save(tmp_path / "train/labels/b/c.png")
    samples = open_samples(copy.data, VOC, "train")
    for i, name in enumerate(("a", "b/c")):
        np.testing.assert_array_equal(samples[i].labels["labels"], copy.labels[name]["labels"])
    colors[0, 0] = 3, 5, 7
    Image.fromarray(colors).save(tmp_path / "train/labels/b/c.png")
    assert re.search(r"c\.png has 1 colour .*\(3, 5, 7\); .*classes\.txt", fault(copy.data, copy.model, read=True))
    np.save(tmp_path / "train/labels/a.npy", values.T)
    assert "one of them is turned" in fault(copy.data, copy.model)
    (tmp_path / "train/labels/a.npy").unlink()
    Image.fromarray(values).save(tmp_path / "train/labels/a.jpg")
    assert "a.jpg" in fault(copy.data, copy.model)
    (tmp_path / "train/labels/a.jpg").rename(tmp_path / "train/labels/a.png")
    assert "JPEG changes labels" in fault(copy.data, copy.model)


@pytest.mark.parametrize("name", ["siftflow", "nyud"])
def test_lists_that_overlap_are_refused(name: str, tmp_path: Path) -> None:
    copy = COPIES[name][1](tmp_path)
    twin = copy.splits["train"][0].removeprefix("img_")
    with next(path for path in (tmp_path / "val.txt", tmp_path / "test.txt") if path.is_file()).open("a") as file:
        file.write(f"{twin}\n")
    assert twin in fault(copy.data, copy.model)


def test_a_fifth_is_held_out_by_the_hash_of_its_name() -> None:
    names = [f"photo {i}" for i in range(2000)]
    chosen = held_out(names)
    assert abs(len(chosen) / 2000 - HELD_OUT) < 0.03
    assert held_out(names[::-1]) == chosen
    assert held_out(names[:900]) == chosen & set(names[:900])  # none changes sides as images are added
    assert all(0 < len(held_out(names[:i])) < i for i in range(2, 30))
    assert all(len(held_out([f"{i} a", f"{i} b"])) == 1 for i in range(100))
    assert chosen & set(names[:10]) == {"photo 5", "photo 6", "photo 8"}  # whatever the machine


def test_one_folder_is_divided(tmp_path: Path) -> None:
    names = [f"{i:02}" for i in range(20)]
    for name in names:
        photo(tmp_path / "images" / f"{name}.png", name)
        indexed(tmp_path / "labels" / f"{name}.png", labels_of(name, 21))
    train, val = (open_samples(tmp_path, VOC, split) for split in ("train", "val"))
    assert sorted([*train.names, *val.names]) == names
    assert set(val.names) == held_out(names)
    assert "no split test" in fault(tmp_path, "voc-fcn8s", "test")


def test_one_image_cannot_be_divided(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.png", "a")
    indexed(tmp_path / "labels/a.png", labels_of("a", 21))
    assert "one image" in fault(tmp_path, "voc-fcn8s")


def test_a_label_map_without_image_is_named(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    indexed(tmp_path / "train/labels/z.png", labels_of("z", 21))
    assert "z.png" in fault(copy.data, copy.model)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    photo(tmp_path / "train/images/a.jpg", "a")
    assert "a.jpg" in fault(copy.data, copy.model)


def test_what_is_understood_is_said(tmp_path: Path) -> None:
    (tmp_path / "stuff").mkdir()
    said = fault(tmp_path, "voc-fcn8s")
    assert all(kind in said for kind in KINDS)
    assert "does not exist" in fault(tmp_path / "nothing", "voc-fcn8s")
    with pytest.raises(SettingsError, match="pairs"):
        open_samples(tmp_path, VOC, "train", "cityscapes")


# ---------------------------------------------------------------------- VOC and SBD


def test_seg11valid_is_voc_2011_val_without_sbd_train(tmp_path: Path) -> None:
    sbd(tmp_path)
    for split in ("val", "seg11valid"):
        assert open_samples(tmp_path, VOC, split).names == ("v2", "v3")
    assert not {"v2", "v3"} & set(open_samples(tmp_path, VOC, "trainval").names)


def test_validation_labels_are_those_of_voc(tmp_path: Path) -> None:
    sbd(tmp_path)
    assert (open_samples(tmp_path, VOC, "seg11valid")[0].labels["labels"] == 255).any()  # which SBD has not


def test_the_list_seg11valid_counts_more(tmp_path: Path) -> None:
    sbd(tmp_path)
    text(tmp_path / "seg11valid.txt", ["v3", "v1"])
    assert open_samples(tmp_path, VOC, "seg11valid").names == ("v3", "v1")
    assert open_samples(tmp_path, VOC, "train").names == ("s1", "s2")


def test_seg11valid_is_not_of_another_year(tmp_path: Path) -> None:
    sbd(tmp_path)
    (tmp_path / "VOCdevkit/VOC2011").rename(tmp_path / "VOCdevkit/VOC2012")
    assert "VOC2011" in fault(tmp_path, "voc-fcn8s", "seg11valid")
    assert open_samples(tmp_path, VOC, "val").names == ("v2", "v3")


def test_sbd_without_voc_validates_on_its_own(tmp_path: Path) -> None:
    sbd(tmp_path)
    shutil.rmtree(tmp_path / "VOCdevkit")
    assert open_samples(tmp_path, VOC, "val").names == ("s3", "v2")
    assert "VOC2011" in fault(tmp_path, "voc-fcn8s", "seg11valid")


def test_any_folder_of_the_devkit_will_do(tmp_path: Path) -> None:
    voc(tmp_path)
    for place in (tmp_path, tmp_path / "VOCdevkit", tmp_path / "VOCdevkit/VOC2012"):
        assert open_samples(place, VOC, "val").names == ("2007_000033",)


# ---------------------------------------------------------------------- the others


def test_context_is_read_by_names(tmp_path: Path) -> None:
    context(tmp_path)
    with pytest.raises(SettingsError, match="street-fcn8s has classes that PASCAL-Context has not"):
        open_samples(tmp_path, STREET, "train", "pascalcontext")
    text(tmp_path / "labels.txt", [f"{i}: thing" for i in range(1, 460)])
    assert "does not give aeroplane the number 2" in fault(tmp_path, "pascalcontext-fcn8s")


def test_context_without_its_images(tmp_path: Path) -> None:
    context(tmp_path)
    shutil.rmtree(tmp_path / "VOCdevkit")
    assert "VOC2010" in fault(tmp_path, "pascalcontext-fcn8s")


def test_unannotated_images_of_siftflow_are_left_out(tmp_path: Path) -> None:
    copy = siftflow(tmp_path)
    for split in ("trainval", "test"):
        names = open_samples(copy.data, find_recipe(copy.model), split).names
        assert not {"highway_bost181", "street_urb506"} & set(names)


@pytest.mark.parametrize("name", ["classMapping40.mat", "splits.mat"])
def test_what_lies_beside_the_file_of_nyud_is_named(name: str, tmp_path: Path) -> None:
    copy = nyud_original(tmp_path)
    (tmp_path / name).write_bytes(b"")
    assert name in fault(copy.data, copy.model)
    (tmp_path / name).unlink()
    assert f"there is no {tmp_path / name}" in fault(copy.data, copy.model)
    scipy.io.savemat(tmp_path / name, {"other": 1})
    assert name in fault(copy.data, copy.model)


def test_the_file_of_nyud_without_labels(tmp_path: Path) -> None:
    copy = nyud_original(tmp_path)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "r+") as file:
        del file["labels"]
    assert "labels" in fault(copy.data, copy.model)


def test_splits_of_nyud_that_count_beyond_the_file(tmp_path: Path) -> None:
    copy = nyud_original(tmp_path)
    mat(tmp_path / "splits.mat", trainNdxs=np.array([[5]]), testNdxs=np.array([[1]]))
    assert "counts from 5 to 5" in fault(copy.data, copy.model)


def test_hha_of_the_original_file_must_be_there(tmp_path: Path) -> None:
    copy = nyud_original(tmp_path, "nyud-fcn32s-color-hha")
    shutil.rmtree(tmp_path / "hha")
    assert "hha/depths/000002.png" in fault(copy.data, copy.model)


@pytest.mark.parametrize("name", ["voc", "sbd", "context", "siftflow"])
def test_inputs_that_a_data_set_has_not(name: str, tmp_path: Path) -> None:
    kind, write = COPIES[name]
    write(tmp_path)
    with pytest.raises((SettingsError, SourceError)):
        open_samples(tmp_path, find_recipe("nyud-fcn32s-color-hha"), "train", kind)


def test_companions_and_heads_of_pairs(tmp_path: Path) -> None:
    recipe = find_recipe("siftflow-fcn8s")
    for name in "ab":
        photo(tmp_path / "images" / f"{name}.png", name)
        for head in recipe.heads:
            indexed(tmp_path / "labels" / head.name / f"{name}.png", labels_of(name, head.labels.classes))
    samples = open_samples(tmp_path, recipe, "train")
    assert set(samples[0].labels) == {"semantic", "geometric"}
    nyud_pairs = find_recipe("nyud-fcn32s-color-hha")
    for name in "ab":
        photo(tmp_path / "new/images" / f"{name}.png", name)
        photo(tmp_path / "new/hha" / f"{name}.png", f"hha {name}")
        indexed(tmp_path / "new/labels" / f"{name}.png", labels_of(name, 40))
    sample = open_samples(tmp_path / "new", nyud_pairs, "train")[0]
    np.testing.assert_array_equal(sample.inputs["hha"], pixels_of(f"hha {sample.name}"))
    (tmp_path / "new/hha/b.png").unlink()
    assert "no hha image named b" in fault(tmp_path / "new", nyud_pairs.name)


# ---------------------------------------------------------------------- HDF5


def test_hdf5_pieces_that_are_missing(tmp_path: Path) -> None:
    copy = hdf5_split(tmp_path)
    with h5py.File(copy.data, "r+") as file:
        del file["labels/b"]
    assert "has no b" in fault(copy.data, copy.model)
    with h5py.File(copy.data, "r+") as file:
        file["labels/b"] = labels_of("b", 21, size=(5, 4))
    assert "labels/b 4 x 5 px" in fault(copy.data, copy.model, "val")
    with h5py.File(copy.data, "r+") as file:
        del file["split"]
        file["split"] = ["train"]
    assert "1 texts for 3 images" in fault(copy.data, copy.model)
    with h5py.File(copy.data, "r+") as file:
        del file["labels"]
    assert "labels" in fault(copy.data, copy.model)
    copy.data.write_bytes(b"cut short")
    assert str(copy.data) in fault(copy.data, copy.model)


def test_hdf5_labels_out_of_range(tmp_path: Path) -> None:
    copy = hdf5_groups(tmp_path)
    with h5py.File(copy.data, "r+") as file:
        file["train/labels"][1, 0, :2] = 77
    assert "data.h5::/train/labels[1] has label 77 on 2 pixels" in fault(copy.data, copy.model, read=True)


def test_hdf5_without_split_is_divided(tmp_path: Path) -> None:
    copy = hdf5_split(tmp_path)
    with h5py.File(copy.data, "r+") as file:
        del file["split"]
    train, val = (open_samples(copy.data, VOC, split) for split in ("train", "val"))
    assert {*train.names, *val.names} == {"a", "b", "c"}
    assert not set(train.names) & set(val.names)


# ---------------------------------------------------------------------- the user's own classes


def test_classes_of_a_text_file(tmp_path: Path) -> None:
    assert own_labels(tmp_path) is None
    text(tmp_path / "classes.txt", ["# mine", "grass", "hay bale", "tractor"])
    assert own_labels(tmp_path) == LabelSpace(("grass", "hay bale", "tractor"), tuple(map(voc_color, range(3))))
    text(tmp_path / "classes.txt", ["grass", "tractor", "void"])
    assert own_labels(tmp_path) == LabelSpace(("grass", "tractor"), tuple(map(voc_color, range(2))), 2)
    for lines in (["a", "a"], ["void", "a"], ["void"], []):
        text(tmp_path / "classes.txt", lines)
        with pytest.raises(SettingsError, match=r"classes\.txt"):
            own_labels(tmp_path)


def test_classes_as_a_run_writes_them(tmp_path: Path) -> None:
    from fcnseg.running.finish import write_legend
    from fcnseg.types import EngineInfo

    info = EngineInfo("torch", "cpu", "fp32", "m", "", {"labels": STREET.heads[0].labels}, ("color",), {})
    write_legend(tmp_path, info)
    assert own_labels(tmp_path) == STREET.heads[0].labels
    good = json.loads((tmp_path / "classes.json").read_text())
    for bad in (
        "{}",
        "[]",
        json.dumps(good | {"second": {}}),
        json.dumps({"labels": {"ignore": 255, "classes": [{}]}}),
    ):
        (tmp_path / "classes.json").write_text(bad)
        with pytest.raises(SettingsError, match=r"classes\.json"):
            own_labels(tmp_path)


def test_classes_as_attributes(tmp_path: Path) -> None:
    copy = hdf5_groups(tmp_path)
    assert own_labels(copy.data) is None
    with h5py.File(copy.data, "r+") as file:
        file["train/labels"].attrs.update({"classes": ["a", "b"], "colors": np.array([[1, 2, 3], [4, 5, 6]], np.uint8)})
    assert own_labels(copy.data) == LabelSpace(("a", "b"), ((1, 2, 3), (4, 5, 6)))
    with h5py.File(copy.data, "r+") as file:
        file["train/labels"].attrs["colors"] = np.array([[1, 2, 3]], np.uint8)
    with pytest.raises(SettingsError, match="1 colours for 2 classes"):
        own_labels(copy.data)


@pytest.mark.parametrize("write", [nyud, nyud_original, siftflow])
def test_published_data_sets_leave_classes_to_the_recipe(write: Callable[[Path], Any], tmp_path: Path) -> None:
    write(tmp_path)
    text(tmp_path / "classes.txt", ["prose of the release"])
    assert own_labels(tmp_path) is None


def test_own_mat_files_are_counted_from_zero_whatever_their_variable_is_called(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("one\ntwo\nthree\n")
    for part in ("train", "val"):
        photo(tmp_path / part / "images" / "a.png", part)
        values = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8) % 3
        mat(tmp_path / part / "labels" / "a.mat", segmentation=values)
    labels = own_labels(tmp_path)
    assert labels is not None
    recipe = with_labels(find_recipe("street-fcn8s"), labels, tmp_path)
    np.testing.assert_array_equal(open_samples(tmp_path, recipe, "train")[0].labels["labels"], values)
