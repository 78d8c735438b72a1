"""Tiny synthetic copies of data sets, each in its exact on-disk format."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray
from PIL import Image

from fcnseg.io.conventions import CONTEXT_LABELS
from fcnseg.labels import voc_color

SIZE = (12, 17)
"""Height and width, px: no two axes alike."""

PALETTE = bytes(channel for i in range(256) for channel in voc_color(i))
CATEGORIES = "spatial_envelope_256x256_static_8outdoorcategories"
Array = NDArray[Any]


@dataclass
class Copy:
    """A data set on disk, the names of its splits, and the labels each name must give, by head."""

    data: Path
    model: str
    splits: dict[str, list[str]]
    labels: dict[str, dict[str, Array]]


def labels_of(name: str, classes: int, ignore: int = 255, size: tuple[int, int] = SIZE) -> Array:
    """A label map that differs from name to name, with every class and some void."""
    values = np.arange(size[0] * size[1]) + sum(name.encode())
    mapped = (values % (classes + 1)).reshape(size)
    return np.where(mapped == classes, ignore, mapped).astype(np.uint8)


def photo(path: Path, name: str, size: tuple[int, int] = SIZE) -> Path:
    """A picture that differs from name to name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels_of(name, size)).save(path)
    return path


def pixels_of(name: str, size: tuple[int, int] = SIZE) -> Array:
    return np.random.default_rng(sum(name.encode()) * len(name)).integers(0, 256, (*size, 3), dtype=np.uint8)


def indexed(path: Path, values: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    image.putpalette(PALETTE)
    image.save(path)
    return path


def mat(path: Path, **variables: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, variables, do_compression=True)
    return path


def text(path: Path, lines: Iterable[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


# ---------------------------------------------------------------------- folders of one's own


def pairs(folder: Path) -> Copy:
    copy = Copy(folder, "voc-fcn8s", {"train": ["a", "b/c"], "val": ["d"]}, {})
    for split, names in copy.splits.items():
        for name in names:
            photo(folder / split / "images" / f"{name}.png", name)
            copy.labels[name] = {"labels": labels_of(name, 21)}
            indexed(folder / split / "labels" / f"{name}.png", copy.labels[name]["labels"])
    return copy


def pairs_inside(folder: Path) -> Copy:
    """`images/train` + `labels/train`."""
    copy = pairs(folder)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
        for split in copy.splits:
            (folder / split / kind).rename(folder / kind / split)
    for split in copy.splits:
        (folder / split).rmdir()
    return copy


def pairs_listed(folder: Path) -> Copy:
    copy = Copy(folder, "voc-fcn8s", {"train": ["a", "b/c"], "val": ["d"], "test": ["e"]}, {})
    for split, names in copy.splits.items():
        for name in names:
            photo(folder / "images" / f"{name}.jpg", name)
            copy.labels[name] = {"labels": labels_of(name, 21)}
            indexed(folder / "labels" / f"{name}.png", copy.labels[name]["labels"])
        text(folder / f"{split}.txt", [f"{name}.jpg" for name in names])
    return copy


def camvid(folder: Path) -> Copy:
    """As SegNet's authors prepared it: 11 is void, and the lists' paths are those of their machine."""
    copy = Copy(folder, "street-fcn8s", {"train": ["0001TP_1", "0006R0_2"], "val": ["0016E5_3"]}, {})
    for split, names in copy.splits.items():
        for name in names:
            photo(folder / split / f"{name}.png", name)
            copy.labels[name] = {"labels": labels_of(name, 11)}
            values = labels_of(name, 11, 11)
            (folder / f"{split}annot").mkdir(exist_ok=True)
            Image.fromarray(values).save(folder / f"{split}annot" / f"{name}.png")
        root = "/SegNet/CamVid"
        text(folder / f"{split}.txt", [f"{root}/{split}/{n}.png {root}/{split}annot/{n}.png" for n in names])
    return copy


# ---------------------------------------------------------------------- published ones


def voc(folder: Path, year: str = "VOC2012", splits: dict[str, list[str]] | None = None) -> Copy:
    splits = splits or {"train": ["2007_000032", "2007_000039"], "val": ["2007_000033"]}
    copy = Copy(folder, "voc-fcn8s", splits, {})
    root = folder / "VOCdevkit" / year
    for split, names in splits.items():
        for name in names:
            photo(root / "JPEGImages" / f"{name}.jpg", name)
            copy.labels[name] = {"labels": labels_of(name, 21)}
            indexed(root / "SegmentationClass" / f"{name}.png", copy.labels[name]["labels"])
        text(root / "ImageSets/Segmentation" / f"{split}.txt", names)
    return copy


def sbd(folder: Path) -> Copy:
    """With VOC 2011, whose validation images v1 and v2 are also in SBD's train and val lists, and v3 in neither."""
    voc(folder, "VOC2011", {"train": ["s3"], "val": ["v1", "v2", "v3"]})
    copy = Copy(folder, "voc-fcn8s", {}, {})
    lists = {"train": ["s1", "s2", "v1"], "val": ["s3", "v2"]}
    root = folder / "benchmark_RELEASE/dataset"
    for split, names in lists.items():
        for name in names:
            photo(root / "img" / f"{name}.jpg", name)
            values = labels_of(name, 21, 0)  # SBD has no void
            copy.labels[name] = {"labels": values}
            structure = {"Segmentation": values, "Boundaries": np.zeros((20, 1), object), "CategoriesPresent": [1, 2]}
            mat(root / "cls" / f"{name}.mat", GTcls=structure)
        text(root / f"{split}.txt", names)
    copy.splits = {"train": lists["train"], "val": ["v2", "v3"], "trainval": ["s1", "s2", "v1", "s3"]}
    copy.labels |= {name: {"labels": labels_of(name, 21)} for name in ("v2", "v3")}
    return copy


def context(folder: Path) -> Copy:
    copy = Copy(folder, "pascalcontext-fcn8s", {"train": ["2008_000002"], "val": ["2008_000003", "2008_000007"]}, {})
    from fcnseg.recipes import find_recipe

    names_59 = find_recipe(copy.model).heads[0].labels.names
    raw_of = [1, *(CONTEXT_LABELS[name] for name in names_59[1:])]  # 1 is accordion, not of the task: background
    for split, names in copy.splits.items():
        for name in names:
            photo(folder / "VOCdevkit/VOC2010/JPEGImages" / f"{name}.jpg", name)
            values = labels_of(name, 60, 0)
            copy.labels[name] = {"labels": values}
            mat(folder / "trainval" / f"{name}.mat", LabelMap=np.array(raw_of)[values].astype(np.uint16))
        text(folder / "VOCdevkit/VOC2010/ImageSets/Main" / f"{split}.txt", names)
    numbers = {number: name for name, number in CONTEXT_LABELS.items()} | {397: "table", 19: "bedclothes", 80: "cloth"}
    text(folder / "labels.txt", [f"{i}: {numbers.get(i, f'thing {i}')}" for i in range(1, 460)])
    return copy


def siftflow(folder: Path) -> Copy:
    copy = Copy(folder, "siftflow-fcn8s", {"train": ["coast_natu975", "forest_cdmc304"], "val": ["street_urb500"]}, {})
    lists = {"trainval": [*copy.splits["train"], "highway_bost181"], "test": [*copy.splits["val"], "street_urb506"]}
    for split, names in lists.items():
        for name in names:
            photo(folder / "Images" / CATEGORIES / f"{name}.jpg", name)
            semantic, geometric = labels_of(name, 33), labels_of(name, 3)
            copy.labels[name] = {"semantic": semantic, "geometric": geometric}
            stored = np.where(semantic == 255, 0, semantic + 1).astype(np.uint8)
            class_names = np.array([["awning"], ["balcony"]], object)
            mat(folder / "SemanticLabels" / CATEGORIES / f"{name}.mat", S=stored, names=class_names)
            stored = np.where(geometric == 255, -1, geometric.astype(int) + 1).astype(np.int16)
            mat(folder / "GeoLabels" / CATEGORIES / f"{name}.mat", S=stored, names=class_names)
        text(folder / f"{split}.txt", names)
    return copy


def nyud(folder: Path, model: str = "nyud-fcn32s-color-hha") -> Copy:
    """The authors' prepared folder."""
    copy = Copy(folder, model, {"train": ["img_5003"], "val": ["img_5008"], "test": ["img_5001", "img_5002"]}, {})
    copy.splits["trainval"] = ["img_5003", "img_5008"]
    for split, names in copy.splits.items():
        for name in names:
            photo(folder / "data/images" / f"{name}.png", name)
            photo(folder / "data/hha" / f"{name}.png", f"hha {name}")
            depth = folder / "data/depth" / f"{name}.png"
            depth.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(depth_of(name).astype(np.uint16)).save(depth)
            values = labels_of(name, 40)
            copy.labels[name] = {"labels": values}
            stored = np.where(values == 255, 0, values + 1).astype(np.uint16)
            mat(folder / "segmentation" / f"{name}.mat", segmentation=stored)
        if split != "trainval":
            text(folder / f"{split}.txt", [name.removeprefix("img_") for name in names])
    text(folder / "classes.txt", ["wall", "floor", "", "and 0 is void"])
    return copy


def depth_of(name: str) -> Array:
    """Millimetres, H x W."""
    return 1000 + 10 * np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) + len(name)


def nyud_original(folder: Path, model: str = "nyud-fcn32s-color-d") -> Copy:
    """`nyu_depth_v2_labeled.mat`: MATLAB v7.3 as MATLAB writes it, cells as references; 894 labels, here 80."""
    names = [f"{i:06}" for i in range(4)]
    copy = Copy(folder, model, {"train": [names[2], names[0]], "val": [names[1], names[3]]}, {})
    copy.splits |= {"test": copy.splits["val"], "trainval": copy.splits["train"]}
    mapping = np.arange(80) % 40 + 1
    raw = [np.where((v := labels_of(n, 40)) == 255, 0, v + 1 + 40 * (sum(n.encode()) % 2)) for n in names]
    for name in names:
        copy.labels[name] = {"labels": labels_of(name, 40)}
        photo(folder / "hha/depths" / f"{name}.png", f"hha {name}")
    with matlab73(folder / "nyu_depth_v2_labeled.mat") as file:
        put(file, "images", np.stack([pixels_of(name) for name in names]).transpose(1, 2, 3, 0))
        put(file, "depths", np.stack([depth_of(n) / 1000 for n in names]).transpose(1, 2, 0).astype(np.float32))
        put(file, "labels", np.stack(raw).transpose(1, 2, 0).astype(np.uint16))
        cells(file, "names", [f"label {i}" for i in range(80)])
    mat(folder / "classMapping40.mat", mapClass=mapping[None].astype(np.uint8), className=np.array([["wall"]], object))
    mat(folder / "splits.mat", trainNdxs=np.array([[3], [1]]), testNdxs=np.array([[2], [4]]))
    return copy


class matlab73:  # noqa: N801 - used as a function
    """An HDF5 file with MATLAB's user block."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def __enter__(self) -> h5py.File:
        self.file = h5py.File(self.path, "w", userblock_size=512)
        return self.file

    def __exit__(self, *_: object) -> None:
        self.file.close()
        with self.path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\x02IM")


def put(file: h5py.File, name: str, values: Array) -> None:
    """An array as MATLAB stores it: axes reversed, class as an attribute, chunked and compressed."""
    dataset = file.create_dataset(name, data=values.T, chunks=(1, *values.T.shape[1:]), compression="gzip")
    dataset.attrs["MATLAB_class"] = np.bytes_(str(values.dtype).replace("float32", "single"))


def cells(file: h5py.File, name: str, texts: list[str]) -> None:
    """A cell array: references to character arrays of UTF-16."""
    store = file.require_group("#refs#")
    references = np.empty((1, len(texts)), h5py.ref_dtype)
    for i, value in enumerate(texts):
        characters = store.create_dataset(f"r{i}", data=np.array([[ord(c)] for c in value], np.uint16))
        characters.attrs["MATLAB_class"] = np.bytes_("char")
        references[0, i] = characters.ref
    file.create_dataset(name, data=references).attrs["MATLAB_class"] = np.bytes_("cell")


# ---------------------------------------------------------------------- HDF5


def hdf5_groups(folder: Path) -> Copy:
    """A group for each split; datasets of all images."""
    copy = Copy(folder / "data.h5", "voc-fcn8s", {"train": ["000000", "000001"], "val": ["000000"]}, {})
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(copy.data, "w") as file:
        for split, names in copy.splits.items():
            file[f"{split}/images"] = np.stack([pixels_of(name) for name in names])
            file[f"{split}/labels"] = np.stack([labels_of(name, 21) for name in names])
            copy.labels |= {name: {"labels": labels_of(name, 21)} for name in names}
    return copy


def hdf5_split(folder: Path) -> Copy:
    """Images and maps of their own size by name, and a text for each."""
    copy = Copy(folder / "data.hdf5", "voc-fcn8s", {"train": ["a", "c"], "val": ["b"]}, {})
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(copy.data, "w") as file:
        for i, name in enumerate("abc"):
            size = (SIZE[0] + i, SIZE[1])
            file[f"images/{name}"] = pixels_of(name, size)
            file[f"labels/{name}"] = labels_of(name, 21, size=size)
            copy.labels[name] = {"labels": labels_of(name, 21, size=size)}
        file["split"] = ["train", "val", "train"]
    return copy


def hdf5_matlab(folder: Path) -> Copy:
    """Saved by MATLAB with -v7.3: axes reversed."""
    copy = Copy(folder / "own.mat", "voc-fcn8s", {"train": ["000001", "000002"], "val": ["000000"]}, {})
    names = ["000000", "000001", "000002"]
    copy.labels = {name: {"labels": labels_of(name, 21)} for name in names}
    with matlab73(copy.data) as file:
        put(file, "images", np.stack([pixels_of(name) for name in names]).transpose(1, 2, 3, 0))
        put(file, "labels", np.stack([copy.labels[name]["labels"] for name in names]).transpose(1, 2, 0))
        file["split"] = ["val", "train", "train"]
    return copy


def hdf5_modalities(folder: Path) -> Copy:
    copy = Copy(folder / "data.h5", "nyud-fcn32s-color-hha", {"train": ["b", "c"], "val": ["a"]}, {})
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(copy.data, "w") as file:
        for name in "abc":
            file[f"images/{name}"] = pixels_of(name)
            file[f"hha/{name}"] = pixels_of(f"hha {name}")
            copy.labels[name] = {"labels": labels_of(name, 40)}
            file[f"labels/{name}"] = copy.labels[name]["labels"]
        file["split"] = ["val", "train", "train"]
    return copy


def hdf5_heads(folder: Path) -> Copy:
    copy = Copy(folder / "data.h5", "siftflow-fcn8s", {"train": ["000000"], "val": ["000001"]}, {})
    names = ["000000", "000001"]
    copy.labels = {name: {"semantic": labels_of(name, 33), "geometric": labels_of(name, 3)} for name in names}
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(copy.data, "w") as file:
        file["images"] = np.stack([pixels_of(name) for name in names])
        for head in ("semantic", "geometric"):
            file[f"labels/{head}"] = np.stack([copy.labels[name][head] for name in names])
        file["split"] = ["train", "val"]
    return copy


COPIES: dict[str, tuple[str, Callable[[Path], Copy]]] = {
    "pairs": ("pairs", pairs),
    "pairs-inside": ("pairs", pairs_inside),
    "pairs-listed": ("pairs", pairs_listed),
    "camvid": ("camvid", camvid),
    "voc": ("voc", voc),
    "sbd": ("sbd", sbd),
    "context": ("pascalcontext", context),
    "siftflow": ("siftflow", siftflow),
    "nyud": ("nyud", nyud),
    "nyud-depth": ("nyud", lambda folder: nyud(folder, "nyud-fcn32s-color-d")),
    "nyud-hha": ("nyud", lambda folder: nyud(folder, "nyud-fcn32s-hha")),
    "nyud-original": ("nyud", nyud_original),
    "nyud-original-hha": ("nyud", lambda folder: nyud_original(folder, "nyud-fcn32s-color-hha")),
    "hdf5-groups": ("hdf5", hdf5_groups),
    "hdf5-split": ("hdf5", hdf5_split),
    "hdf5-matlab": ("hdf5", hdf5_matlab),
    "hdf5-modalities": ("hdf5", hdf5_modalities),
    "hdf5-heads": ("hdf5", hdf5_heads),
}
"""The kind that each must be recognised as, and what writes it."""
