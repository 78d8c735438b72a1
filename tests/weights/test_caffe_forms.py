"""Caffe's forms that are met rarely: NVCaffe's raw numbers, layers of 2013, odd names, links in HDF5 snapshots."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from fcnseg.errors import WeightsError
from fcnseg.weights.importing import import_weights
from fcnseg.weights.reading import read_weights
from tests.caffe_files import blob, field, number_field, raw_blob, varint, write_caffemodel
from tests.weights.conftest import MakeRecipe, as_caffe, check, numbers

W = np.arange(24, dtype=np.float32).reshape(4, 2, 1, 3) / 8
B = np.arange(4, dtype=np.float32)


def net(path: Path, *blobs: bytes, name: bytes = b"L", extra: bytes = b"") -> Path:
    path.write_bytes(field(1, b"net") + field(100, field(1, name) + b"".join(field(7, b) for b in blobs) + extra))
    return path


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("kind", "dtype"), [(0, np.float64), (1, np.float32), (2, np.float16)])
def test_raw_numbers_of_each_type(kind: int, dtype: type, tmp_path: Path) -> None:
    found = read_weights(net(tmp_path / "x", raw_blob(W, kind), raw_blob(B, kind))).tensors
    for name, array in (("L.weight", W), ("L.bias", B)):
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_net_of_digits_imports(recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe(backbone="alexnet", stride=32)
    arrays = {k: v.astype(np.float16).astype(np.float32) for k, v in numbers(small).items()}
    layers = [
        field(100, field(1, name.encode()) + b"".join(field(7, raw_blob(a, 2)) for a in blobs))
        for name, blobs in as_caffe(arrays).items()
    ]
    shift = field(1, b"shift") + field(2, b"Power") + field(122, varint(3 << 3 | 5) + np.float32(-116).tobytes())
    (tmp_path / "snapshot_iter_5130.caffemodel").write_bytes(field(100, shift) + b"".join(layers))
    report = import_weights(tmp_path / "snapshot_iter_5130.caffemodel", small, tmp_path / "out")
    check(tmp_path / "out", arrays)
    assert any("'shift' adds -116" in note and "mean of the recipe must be 116" in note for note in report.notes)


@pytest.mark.parametrize(
    ("blobs", "reason"),
    [
        (raw_blob(W, 1, bytes(95)), "L.weight should be 4 x 2 x 1 x 3 numbers of 4 bytes each but holds 95 bytes"),
        (raw_blob(W, 2, bytes(96)), "2 bytes each"),
        (raw_blob(W, 3), "raw_data_type 3"),
        (raw_blob(W, 9, W.tobytes()), "raw_data_type 9"),
        (raw_blob(W, 1) + field(5, (W + 1).tobytes()), "twice"),
        (raw_blob(W, 1, b"") + field(5, b""), "0 bytes"),
    ],
)
def test_wrong_raw_numbers_are_named(blobs: bytes, reason: str, tmp_path: Path) -> None:
    assert reason in refused(net(tmp_path / "x", blobs))


def test_the_same_numbers_in_both_fields_are_read(tmp_path: Path) -> None:
    path = net(tmp_path / "x", raw_blob(W, 1) + field(5, W.tobytes()))
    np.testing.assert_array_equal(read_weights(path).tensors["L.weight"], W)


def test_layers_of_2013(recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe(stride=32)
    arrays = numbers(small)
    path = write_caffemodel(tmp_path / "x", as_caffe(arrays), generation="v0")
    import_weights(path, small, tmp_path / "out")
    check(tmp_path / "out", arrays)


def test_layers_that_cannot_be_told_apart(tmp_path: Path) -> None:
    layer = field(100, field(1, b"conv 1") + field(7, blob(B)))
    (tmp_path / "x").write_bytes(layer + layer)
    assert "two layers with weights are named 'conv 1'; give each layer" in refused(tmp_path / "x")
    (tmp_path / "x").write_bytes(field(100, field(1, b"data")) + field(100, field(7, blob(B)) + number_field(10, 1)))
    assert "layer 2, which has weights, has no name" in refused(tmp_path / "x")


def test_layers_without_weights_may_share_a_name(tmp_path: Path) -> None:
    data = field(100, field(1, b"data"))
    (tmp_path / "x").write_bytes(data + data + field(100, field(1, b"L") + field(7, blob(B))))
    assert list(read_weights(tmp_path / "x").tensors) == ["L.weight"]


def test_links_in_a_snapshot_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        file["data/L/0"], file["data/L/1"], file["aside/0"] = W, B, W + 1
        file["data/hard/0"] = file["data/L/0"]
        file["data/hard/1"] = file["data/L/1"]
        file["data/soft/0"] = h5py.SoftLink("/data/L/0")
        file["data/soft/1"] = h5py.SoftLink("/data/L/1")
        file["data/group"] = h5py.SoftLink("L")
        file["data/outside"] = h5py.SoftLink("/aside")
    found = read_weights(tmp_path / "x").tensors
    pairs = {f"{layer}.{kind}" for layer in ("L", "hard", "soft", "group") for kind in ("weight", "bias")}
    assert set(found) == pairs | {"outside.weight"}
    for name in pairs:
        np.testing.assert_array_equal(found[name], W if name.endswith("weight") else B)
    np.testing.assert_array_equal(found["outside.weight"], W + 1)


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        (h5py.SoftLink("/data"), "in a circle"),
        (h5py.SoftLink("/gone"), "leads nowhere"),
        (h5py.ExternalLink("other.h5", "/data/L/0"), "link to another file"),
    ],
)
def test_links_that_lead_nowhere_are_named(link: object, reason: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        file["data/L/0"] = W
        file["data/L/1"] = link
        file["data/L/2"] = link
    message = refused(tmp_path / "x")
    assert reason in message
    assert "fetch it again" not in message


def test_what_is_no_blob_under_data_is_left_over(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        file["data/L/0"], file["data/L/scale"], file["data/loose"] = W, B, B
    assert set(read_weights(tmp_path / "x").tensors) == {"L.weight", "L/scale", "loose"}
