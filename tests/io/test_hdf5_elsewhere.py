"""HDF5 files that name other files: by external links, external storage and virtual datasets. None is ever opened."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from fcnseg.errors import FcnsegError, WeightsError
from fcnseg.io.sources import open_source
from fcnseg.training.datasets.hdf5 import hdf5_classes
from fcnseg.weights.reading import read_weights
from tests.io.hdf5_files import COLOR, write
from tests.io.hostile import READ_MAPS, end_of, ends_of

LABELS = COLOR[0, ..., 0]
REASON = ("another file", "other files", "holds no", "there are no")


def external(file: h5py.File, name: str, target: str) -> None:
    """Six by four pixels of the bytes of another file."""
    file.create_dataset(name, (6, 4, 3), np.uint8, external=[(target, 0, 72)])


def external_plane(file: h5py.File, name: str, target: str) -> None:
    file.create_dataset(name, (6, 4), np.uint8, external=[(target, 0, 24)])


def external_text(file: h5py.File, name: str, target: str) -> None:
    """One encoded file."""
    file.create_dataset(name, (40,), np.uint8, external=[(target, 0, 40)])


def virtual(file: h5py.File, name: str, target: str) -> None:
    layout = h5py.VirtualLayout((6, 4, 3), np.uint8)
    layout[:] = h5py.VirtualSource(target, "x", (6, 4, 3), np.uint8)
    file.create_virtual_dataset(name, layout)


def virtual_plane(file: h5py.File, name: str, target: str) -> None:
    layout = h5py.VirtualLayout((6, 4), np.uint8)
    layout[:] = h5py.VirtualSource(target, "x", (6, 4), np.uint8)
    file.create_virtual_dataset(name, layout)


def virtual_unlimited(file: h5py.File, name: str, target: str) -> None:
    """Its shape alone opens its sources."""
    layout = h5py.VirtualLayout((1, 6, 4, 3), np.uint8, maxshape=(None, 6, 4, 3))
    source = h5py.VirtualSource(target, "x", (1, 6, 4, 3), np.uint8, maxshape=(None, 6, 4, 3))
    layout[h5py.h5s.UNLIMITED :, ...] = source[h5py.h5s.UNLIMITED :, ...]
    file.create_virtual_dataset(name, layout)


def link(file: h5py.File, name: str, target: str) -> None:
    file[name] = h5py.ExternalLink(target, "/x")


def soft_link(file: h5py.File, name: str, target: str) -> None:
    file.require_group("hidden")["there"] = h5py.ExternalLink(target, "/x")
    file[name] = h5py.SoftLink("/hidden/there")


def soft_links_in_a_row(file: h5py.File, name: str, target: str) -> None:
    file.require_group("hidden/deep")["there"] = h5py.ExternalLink(target, "/")
    file["hidden/again"] = h5py.SoftLink("deep/there")
    file[name] = h5py.SoftLink("/hidden/./again/x")


def soft_link_to_external_storage(file: h5py.File, name: str, target: str) -> None:
    external(file, "hidden/data", target)
    file[name] = h5py.SoftLink("/hidden/data")


KINDS: list[Callable[[h5py.File, str, str], None]] = [
    external,
    external_plane,
    external_text,
    virtual,
    virtual_plane,
    virtual_unlimited,
    link,
    soft_link,
    soft_links_in_a_row,
    soft_link_to_external_storage,
]


@pytest.fixture
def targets(tmp_path: Path) -> list[str]:
    """A secret text, an HDF5 file that would fit, and a named pipe, at which reading would wait for ever."""
    (tmp_path / "secret").write_bytes(b"secret" * 99)
    write(tmp_path / "other.h5", lambda file: file.update({"x": COLOR[0, :6, :4]}))
    os.mkfifo(tmp_path / "pipe")
    return [str(tmp_path / name) for name in ("secret", "other.h5", "pipe")]


def hostile(folder: Path, targets: list[str], name: str, suffix: str, *, matlab: bool = False) -> list[Path]:
    """A file of each kind for each target, where the dataset of that name is elsewhere."""
    return [
        write(
            folder / f"{kind.__name__}-{Path(target).stem}{suffix}",
            lambda file, kind=kind, target=target: kind(file, name, target),
            matlab=matlab,
        )
        for kind in KINDS
        for target in targets
    ]


def test_no_reader_of_images_follows(tmp_path: Path, targets: list[str]) -> None:
    files = hostile(tmp_path, targets, "group/image", ".h5")
    named = [f"{file}::/group/image" for file in files]
    groups = [f"{file}::/group" for file in files]
    for found in ends_of(*files, *named, *groups):
        assert found
        assert all(isinstance(end, str) and any(part in end for part in REASON) for end in found.values()), found


def test_the_other_images_of_such_a_file_are_read(tmp_path: Path, targets: list[str]) -> None:
    def fill(file: h5py.File) -> None:
        for target in targets:
            for kind in KINDS:
                kind(file, f"group/{kind.__name__}-{Path(target).stem}", target) if "hidden" not in file else None
        file["group/good"] = COLOR[0]

    found = end_of(f"{write(tmp_path / 'a.h5', fill)}::/group")
    assert found.pop("group/good") == [5, 7]
    assert found
    assert all("other file" in end or "another file" in end for end in found.values()), found


def test_no_companion_follows(tmp_path: Path, targets: list[str]) -> None:
    write(tmp_path / "images.h5", lambda file: file.update({"g/image": COLOR[0]}))
    for file in hostile(tmp_path, targets[:2], "depths/image", ".h5"):
        source = open_source(f"{tmp_path}/images.h5::g", ("color", "hha"), {"hha": f"{file}::/depths"})
        (reference,) = source
        with pytest.raises(FcnsegError, match="other file"):
            source.load(reference)  # type: ignore[arg-type]
        source.close()


@pytest.mark.parametrize("suffix", [".h5", ".mat"])
@pytest.mark.parametrize("name", ["labels", "GTcls/Segmentation", "segmentation"])
def test_no_reader_of_label_maps_follows(tmp_path: Path, targets: list[str], suffix: str, name: str) -> None:
    files: list[Path | str] = [*hostile(tmp_path, targets, name, suffix, matlab=suffix == ".mat")]
    if suffix == ".h5":
        files += [f"{file}::/{name}" for file in files]
    for found in ends_of(*files, code=READ_MAPS):
        assert found
        assert all(isinstance(end, str) for end in found.values()), found


READ_OTHERS = """
import json, sys
from pathlib import Path
from fcnseg.errors import FcnsegError, WeightsError
from fcnseg.recipes import find_recipe
from fcnseg.training.datasets.hdf5 import hdf5_classes, open_hdf5
from fcnseg.training.datasets.nyud import open_nyud
from fcnseg.training.datasets.label_maps import label_map_size
from fcnseg.io.raw_map import MapLocation
from fcnseg.weights.reading import read_weights
recipe = find_recipe("street-fcn8s")
readers = {
    "weights": read_weights,
    "training": lambda path: open_hdf5(path, recipe, "train")[0],
    "sizes": lambda path: label_map_size(MapLocation(str(path), "/labels")),
    "classes": hdf5_classes,
}
ends = []
for path in json.load(sys.stdin):
    found = {}
    for name, read in readers.items():
        try:
            found[name] = 0 if read(Path(path)) is None else 1
        except FcnsegError as error:
            found[name] = str(error)
    ends.append(found)
json.dump(ends, sys.stdout)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data", "data/conv1/0", "labels", "images", "train/images", "split", "train"])
def test_no_reader_of_weights_and_data_sets_follows(tmp_path: Path, targets: list[str], name: str) -> None:
    files = hostile(tmp_path, targets, name, ".h5")
    for file, found in zip(files, ends_of(*files, code=READ_OTHERS, seconds=60, memory_bytes=8 << 30), strict=True):
        assert found.pop("classes") == 0, file
        assert all(isinstance(end, str) for end in found.values()), (file, found)


def test_classes_and_weights_beside_such_datasets(tmp_path: Path, targets: list[str]) -> None:
    def fill(file: h5py.File) -> None:
        file["data/L/0"] = np.ones((2, 3), np.float32)
        file["data/link"] = h5py.ExternalLink(targets[2], "/")
        file["labels"] = LABELS
        file["labels"].attrs["classes"] = ["a", "b"]

    path = write(tmp_path / "a.h5", fill)
    with pytest.raises(WeightsError, match="/data/link: a link to another file, which is not followed"):
        read_weights(path)  # a layer must not be left out unsaid
    classes = hdf5_classes(path)
    assert classes is not None
