"""Every format gives the same numbers; what is damaged or foreign is one line that names the file."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fcnseg.errors import WeightsError
from fcnseg.weights.reading import read_weights
from tests.caffe_files import blob, field, number_field, varint, write_caffemodel

W = np.arange(24, dtype=np.float32).reshape(4, 2, 1, 3) / 7
B = np.arange(4, dtype=np.float32)
TENSORS = {"conv1_1.weight": W, "conv1_1.bias": B, "a/b.weight": -W}


def caffe(path: Path, **form: object) -> Path:
    return write_caffemodel(path, {"conv1_1": [W, B], "a/b": [-W]}, **form)  # type: ignore[arg-type]


def hdf5(path: Path, **form: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in TENSORS.items():
            layer, _, kind = name.rpartition(".")
            file.create_dataset(f"data/{layer}/{['weight', 'bias'].index(kind)}", data=array, **form)
    return path


def pytorch(path: Path, wrap: Callable[[object], object] = lambda d: d, **form: object) -> Path:
    torch.save(wrap({k: torch.tensor(v) for k, v in TENSORS.items()}), path, **form)  # type: ignore[arg-type]
    return path


def safetensors(path: Path) -> Path:
    save_file(TENSORS, path, {"recipe": "x"})
    return path


FORMS: dict[str, Callable[[Path], Path]] = {
    "caffe": caffe,
    "caffe-unpacked": lambda p: caffe(p, packed=False),
    "caffe-v1": lambda p: caffe(p, generation="layers"),
    "caffe-double": lambda p: caffe(p, double=True),
    "caffe-double-unpacked": lambda p: caffe(p, double=True, packed=False),
    "hdf5": hdf5,
    "hdf5-compressed": lambda p: hdf5(p, compression="gzip"),
    "torch": pytorch,
    "torch-legacy": lambda p: pytorch(p, _use_new_zipfile_serialization=False),
    "torch-checkpoint": lambda p: pytorch(
        p, lambda d: {"epoch": 1, "model_state_dict": d, "best_mean_iu": np.float64(0.5)}
    ),
    "torch-nested": lambda p: pytorch(p, lambda d: {"state_dict": d}),
    "safetensors": safetensors,
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_numbers(form: str, tmp_path: Path) -> None:
    found = read_weights(FORMS[form](tmp_path / "no-telling-name.dat")).tensors
    assert set(found) == set(TENSORS)
    for name, array in TENSORS.items():
        squeezed = found[name].reshape(array.shape)
        assert squeezed.dtype.kind == "f"
        np.testing.assert_array_equal(squeezed.astype(np.float32), array)


def test_several_packed_chunks_and_single_numbers_of_one_blob_are_joined(tmp_path: Path) -> None:
    shape = field(7, number_field(1, 2) + number_field(1, 3))
    parts = field(5, B[:2].tobytes()) + varint(5 << 3 | 5) + B[2:3].tobytes() + field(5, B[[3, 0, 1]].tobytes())
    path = tmp_path / "x"
    path.write_bytes(field(100, field(1, b"L") + field(9, b"??") + field(7, shape + parts + number_field(30, 5))))
    np.testing.assert_array_equal(read_weights(path).tensors["L.weight"].ravel(), B[[0, 1, 2, 3, 0, 1]])


def test_bfloat16_and_half_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor(W).bfloat16(), "b": torch.tensor(W).half()}, tmp_path / "x")
    found = read_weights(tmp_path / "x").tensors
    np.testing.assert_array_equal(found["a"], torch.tensor(W).bfloat16().float().numpy())
    np.testing.assert_array_equal(found["b"], W.astype(np.float16))


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/fcnseg-was-here",)


def layer(*blobs: bytes, name: bytes = b"L") -> bytes:
    return field(100, field(1, name) + b"".join(field(7, b) for b in blobs))


def dims(*sizes: int) -> bytes:
    return field(7, field(1, b"".join(varint(s) for s in sizes)))


FOREIGN = {
    "empty": b"",
    "one byte": b"\x80",
    "two bytes": b"\x80\x02",
    "newline": b"\n",
    "png": b"\x89PNG\r\n\x1a\n" + bytes(90),
    "html": b"<!DOCTYPE html><html>404</html>",
    "HTML": b"\n <HTML><body>moved</body></HTML>",
    "prototxt": b'name: "net"\nlayer { name: "data" }\n',
    "prototxt with a comment": b'\n# net\nlayer { name: "data" }\n',
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "zip": b"PK\x03\x04" + bytes(40),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "pickle": pickle.dumps({"a": 1}),
    "evil pickle": pickle.dumps(Evil()),
    "short safetensors": (50).to_bytes(8, "little") + b'{"a":',
    "wrong safetensors": (8).to_bytes(8, "little") + b'{"a":5} ' + bytes(8),
    "zeros": bytes(1000),
    "no layers": field(1, b"net"),
    "layers without blobs": layer(name=b"data"),
    "count": layer(dims(2, 2) + field(5, bytes(12))),
    "odd bytes": layer(dims(3) + field(5, bytes(13))),
    "absurd": layer(dims(2**40, 2**40) + field(5, bytes(12))),
    "absurd but nothing": layer(dims(2**63, 0) + field(5, b"")),
    "empty blob": layer(b""),
    "negative": layer(dims(2**64 - 4) + field(5, bytes(16))),
    "many axes": layer(dims(*[1] * 40) + field(5, bytes(4))),
    "twice": layer(blob(B)) + layer(blob(B)),
    "name": layer(blob(B), name=b"\xff\xfe"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.caffemodel"
    path.write_bytes(FOREIGN[kind])
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert "file.caffemodel" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("/tmp/fcnseg-was-here").exists()


@pytest.mark.parametrize("generation", ["layer", "layers"])
@pytest.mark.parametrize("name", ["n" * 35, "n" * 60, "input" + "n" * 27, "layer" + "n" * 8, "n" * 126])
def test_a_net_may_have_any_name(generation: str, name: str, tmp_path: Path) -> None:
    """The file begins with a line feed and the name's length, which may be the code of "#" or "<" or a blank."""
    path = caffe(tmp_path / "w", generation=generation)
    body = path.read_bytes().removeprefix(field(1, b"net"))
    path.write_bytes(field(1, name.encode()) + body)
    assert read_weights(path).tensors.keys() == TENSORS.keys()


def test_text_after_blank_lines_is_still_recognised(tmp_path: Path) -> None:
    (tmp_path / "w").write_text('\n\n  name: "VGG"\nlayer { }\n')
    with pytest.raises(WeightsError, match="prototxt"):
        read_weights(tmp_path / "w")


def test_a_folder_and_a_missing_file_say_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="folder"):
        read_weights(tmp_path)
    with pytest.raises(WeightsError, match="there is no"):
        read_weights(tmp_path / "x")


def test_tensors_in_other_forms_are_refused(tmp_path: Path) -> None:
    odd = {
        "sparse": torch.eye(3).to_sparse(),
        "complex": torch.ones(3, dtype=torch.complex64),
        "float8": torch.ones(3).to(torch.float8_e4m3fn),
        "expanded": torch.ones(1).expand(10**12),
    }
    for kind, tensor in odd.items():
        torch.save({"a.weight": tensor}, tmp_path / kind)
        with pytest.raises(WeightsError, match=r"a\.weight|read|layout"):
            read_weights(tmp_path / kind)


def test_hdf5_that_lies_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a", "w") as file:
        file.create_dataset("data/L/0", shape=(2**40,), dtype="f4", chunks=(1024,))
    with h5py.File(tmp_path / "b", "w") as file:
        file.create_dataset("data/L/0", shape=(4,), dtype="f4", external=[("/etc/hostname", 0, 16)])
    with h5py.File(tmp_path / "c", "w") as file:
        file["data/L/0"] = ["text"]
    for name in "abc":
        with pytest.raises(WeightsError, match="/data/L/0"):
            read_weights(tmp_path / name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_surprises(data: st.DataObject, tmp_path: Path) -> None:
    form = data.draw(st.sampled_from([f for f in FORMS if "unpacked" not in f]))
    whole = FORMS[form](tmp_path / form).read_bytes()
    damage = data.draw(st.sampled_from(["cut", "flip", "splice"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    if damage == "cut":
        broken = whole[:at]
    elif damage == "flip":
        broken = whole[:at] + bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))]) + whole[at + 1 :]
    else:
        broken = whole[:at] + data.draw(st.binary(min_size=1, max_size=40)) + whole[at:]
    path = tmp_path / "broken"
    path.write_bytes(broken)
    try:
        found = read_weights(path)
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert all(array.nbytes <= 100 * len(broken) for array in found.tensors.values())
