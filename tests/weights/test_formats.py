"""Each format gives the very numbers that were written, by the libraries their users write them with."""

import os
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fcnseg.errors import WeightsError
from fcnseg.recipes import Recipe
from fcnseg.weights.importing import import_weights
from fcnseg.weights.reading import detect, read_weights
from tests.caffe_files import field, write_caffemodel
from tests.weights.nets import blobs, diagonal, make_recipe, random_tensors

Writer = Callable[[Path, dict[str, np.ndarray]], object]


def write_hdf5(path: Path, tensors: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for layer, arrays in blobs(tensors).items():
            for i, array in enumerate(arrays):
                file[f"data/{layer}/{i}"] = array


def as_state(tensors: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in tensors.items()}


WRITERS: dict[str, Writer] = {
    "caffe": lambda p, t: write_caffemodel(p, blobs(t)),
    "caffe-v1": lambda p, t: write_caffemodel(p, blobs(t), generation="layers"),
    "caffe-unpacked": lambda p, t: write_caffemodel(p, blobs(t), packed=False),
    "caffe-double": lambda p, t: write_caffemodel(p, blobs(t), double=True),
    "caffe-hdf5": write_hdf5,
    "pytorch": lambda p, t: torch.save(as_state(t), p),
    "pytorch-legacy": lambda p, t: torch.save(as_state(t), p, _use_new_zipfile_serialization=False),
    "pytorch-checkpoint": lambda p, t: torch.save({"epoch": 3, "model_state_dict": as_state(t)}, p),
    "safetensors": lambda p, t: save_file(as_state(t), p),
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return make_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("backbone", ["vgg16", "googlenet"])
def test_every_form_imports_to_the_same_numbers(tmp_path: Path, form: str, backbone: str) -> None:
    recipe = make_recipe(tmp_path, backbone=backbone, stride=8 if backbone == "vgg16" else 32)
    tensors = random_tensors(recipe)
    source, out = tmp_path / "weights.bin", tmp_path / "out" / "x.safetensors"
    WRITERS[form](source, tensors)
    report = import_weights(source, recipe, out)
    assert report.format == form.split("-")[0] + ("-hdf5" if "hdf5" in form else "")
    assert (report.initialised, report.dense) == ((), ())
    with safe_open(out, framework="numpy") as file:
        assert set(file.keys()) == set(tensors)
        for name, array in tensors.items():
            assert np.array_equal(file.get_tensor(name), diagonal(name, array)), name
        metadata = file.metadata()
    assert (metadata["recipe"], metadata["source"]) == ("net", "weights.bin")
    assert len(metadata["source_sha256"]) == 64
    assert [p.name for p in out.parent.iterdir()] == ["x.safetensors"]


FOREIGN = {
    "empty": (b"", "is empty"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG image"),
    "page": (b"<!DOCTYPE html><html></html>", "web page"),
    "prototxt": (b'name: "net"\nlayer { }', r"prototxt.*\.caffemodel"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer"),
    "noise": (bytes(range(1, 200)), "Caffe model"),
    "zip": (b"PK\x03\x04" + bytes(100), "PyTorch file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "no layers": (field(1, b"net"), "no layers with weights"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_one_line(tmp_path: Path, name: str) -> None:
    content, says = FOREIGN[name]
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(WeightsError, match=says) as caught:
        read_weights(tmp_path / "w")
    assert "\n" not in str(caught.value)


def test_what_is_not_there_or_not_a_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(WeightsError, match="there is no weight file"):
            detect(path)


def test_a_state_dict_never_runs_code(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return os.mkdir, (str(tmp_path / "exploded"),)

    for zipped in (True, False):
        torch.save({"w": Bomb()}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(WeightsError, match="more than plain tensors"):
            read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "exploded").exists()


def test_a_blob_that_lies_about_its_size_takes_no_memory(tmp_path: Path) -> None:
    from tests.caffe_files import varint

    shape = field(7, field(1, varint(2**40) + varint(2**20)))
    layer = field(1, b"conv") + field(7, shape + field(5, struct.pack("<f", 1.0)))
    (tmp_path / "w").write_bytes(field(100, layer))
    with pytest.raises(WeightsError, match="should be 1099511627776 x 1048576 but holds 4 bytes"):
        read_weights(tmp_path / "w")


def test_two_layers_of_one_name(tmp_path: Path) -> None:
    one = write_caffemodel(tmp_path / "a", {"conv": [np.zeros((1, 1, 1, 1))]}).read_bytes()
    (tmp_path / "w").write_bytes(one + one)
    with pytest.raises(WeightsError, match="two layers are named 'conv'"):
        read_weights(tmp_path / "w")


@pytest.mark.slow
def test_a_released_files_size_imports_in_twice_its_memory(tmp_path: Path) -> None:
    """513 MiB, as fcn8s-heavy-pascal. Its speed is stated in benchmarks/."""
    from fcnseg.recipes import find_recipe

    tensors = random_tensors(find_recipe("voc-fcn8s"))
    source = write_caffemodel(tmp_path / "w.caffemodel", blobs(tensors))
    del tensors
    size = source.stat().st_size
    assert 510 * 2**20 < size < 516 * 2**20
    command = ["weights", "import", str(source), "--model", "voc-fcn8s", "--out", str(tmp_path / "x.safetensors")]
    code = "import resource, fcnseg.cli.app as a\ntry: a.main()\nfinally: print(resource.getrusage(0).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) * 1024 <= 2 * size
    assert resource.RUSAGE_SELF == 0
