"""Files that are mistaken for weights: each is refused by what it is, with what to do instead."""

from __future__ import annotations

import mmap
import re
import struct
import zipfile
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from fcnseg.weights.protobuf_wire import BYTES, FIXED32, VARINT, MalformedError, fields
from fcnseg.weights.tensors import printable, quoted

START_BYTES = 512
"""The first bytes, by which kinds are recognised: the mark of a tar archive is at byte 257."""

UNPACK = "unpack it first"
AS_SAFETENSORS = "save them with `safetensors.numpy.save_file(arrays, 'weights.safetensors')`, under the layers' names"
DEFINITION = "a Caffe network definition (prototxt); the weights are in the .caffemodel"

MAGIC = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": f"a gzip archive; {UNPACK}",
    b"BZh": f"a bzip2 archive; {UNPACK}",
    b"\xfd7zXZ\x00": f"an xz archive; {UNPACK}",
    b"7z\xbc\xaf\x27\x1c": f"a 7-Zip archive; {UNPACK}",
    b"\x28\xb5\x2f\xfd": f"a Zstandard archive; {UNPACK}",
    b"Rar!": f"a RAR archive; {UNPACK}",
    b"\x93NUMPY": f"one NumPy array (.npy), not the layers of a network; {AS_SAFETENSORS}",
    b"MATLAB 5.0 MAT-file": f"MATLAB's (MatConvNet's networks are); load it with SciPy, and {AS_SAFETENSORS}",
    b"GGUF": "a GGUF language model",
    b"\x12\x01\x00\x00\x00\x00\x00\x00": f"MXNet's (.params); load it with MXNet, and {AS_SAFETENSORS}",
    b"\x04\x00\x00\x00\x01\x00\x00\x00": "Torch 7's (.t7), of Lua; convert it to a PyTorch state dict first",
    b"ftrt": "a TensorRT engine; `fcnseg run --engine` takes those that fcnseg built",
    b"ptrt": "a TensorRT engine; `fcnseg run --engine` takes those that fcnseg built",
}
"""First bytes of binary files that hold no weights, or none that are read."""

TEXTS = (
    (r"version https://(git-lfs|hawser)", "a Git LFS pointer; fetch the file itself (`git lfs pull`)"),
    (r"\S*/annex/objects/", "a git-annex pointer; fetch the file itself (`git annex get`)"),
    (r"<", "a web page or XML, perhaps a server's answer in place of the file; fetch it again"),
    (r"[{\[]", "JSON, perhaps a server's answer in place of the file; fetch it again"),
    (r"(train_|test_)?net *:|base_lr *:|test_iter *:|solver_", "the settings of a Caffe solver (prototxt); no weights"),
    (r"(name|layers?|input\w*|state|force_backward) *[:{]", DEFINITION),
    (r"\(dp?\d|\(lp?\d|c[\w.]+\n", "a pickle of protocol 0; save the state dict with torch.save"),
)
"""First words of text files that are mistaken for weights."""


def refusal(path: Path, start: bytes) -> str | None:
    """Return what a file is that holds no readable weights, by its first START_BYTES bytes; None if it may hold some.

    Archives in zip format are looked into by `zip_refusal`. Raises OSError.
    """
    for magic, kind in MAGIC.items():
        if start.startswith(magic):
            return kind
    if start[257:262] == b"ustar":
        if b"sys_info" in start[:100] or b"pickle" in start[:100] or b"storages" in start[:100]:
            how = "torch.save(torch.load(FILE, weights_only=False), 'new.pth')"
            return f"PyTorch's first format (tar, 2016); in Python: {how}"
        return f"a tar archive; {UNPACK}"
    if not any(start):
        return "nothing but zeros, as of a download that did not end; fetch it again"
    text = _text(start)
    if text is not None:
        return _text_kind(path, text)
    return _message_kind(path)


def zip_refusal(names: Iterable[str]) -> str | None:
    """Return what a zip archive with these members is; None for PyTorch's."""
    names = [name for name in names if not name.endswith("/")]
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends and "data.pkl" in ends and any("/code/" in name for name in names):
        how = "torch.save(torch.jit.load(FILE).state_dict(), 'clean.pth')"
        return f"a TorchScript program, whose loading could run code; make a clean file in Python: {how}"
    if "data.pkl" in ends:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return f"NumPy's (.npz); arrays = dict(numpy.load(FILE)), and {AS_SAFETENSORS}"
    if ends & {"model.weights.h5", "keras_metadata.pb"}:
        return f"a model of Keras; {AS_SAFETENSORS}"
    if ends & {"archive_format", "serialized_exported_program.json"}:
        return "a program of torch.export; save its state dict with torch.save"
    return f"a zip archive of {', '.join(map(quoted, names[:3])) or 'nothing'}; {UNPACK}"


def _text(start: bytes) -> str | None:
    """Return the bytes as text without white space before it; None unless they are text."""
    for encoding in ("utf-16",) if start[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig",):
        for cut in range(4):  # the last character may be cut
            try:
                text = start[: len(start) - cut].decode(encoding)
            except UnicodeDecodeError:
                continue
            return text.lstrip() if all(c.isprintable() or c in "\t\n\r" for c in text) else None
    return None


def _text_kind(path: Path, text: str) -> str | None:
    """Return what a text is. A Caffe model that begins with a long name may look like text, but is a whole message."""
    words = re.sub(r"\A(\s*#[^\n]*\n)+\s*", "", text)
    for pattern, kind in TEXTS:
        if re.match(pattern, words):
            return kind
    if _signature(path) is not None:
        return None
    return f"text, which begins {printable(text, 40)!r}"


def _message_kind(path: Path) -> str | None:
    """Return what a protocol-buffer message of another kind than Caffe's NetParameter is; None for all else."""
    kinds = _signature(path, whole=False)
    if not kinds:
        return None
    if kinds.get(1) == VARINT and kinds.get(7) == BYTES and kinds.get(2) != VARINT:
        return "an ONNX model; import the Caffe or PyTorch file that it was made from"
    if kinds.get(1) == VARINT and kinds.get(2) == BYTES:
        if kinds.get(3) == BYTES or b".caffemodel" in _head(path):
            return "the state of Caffe's solver, not weights; the weights are in the .caffemodel beside it"
        return "a model of another program (TensorFlow, Core ML); import the Caffe or PyTorch file"
    numbers = kinds.get(5) in (BYTES, FIXED32) or kinds.get(8) == BYTES or kinds.get(12) == BYTES
    if numbers and set(kinds) <= set(range(1, 14)) and (kinds.get(2) == VARINT or kinds.get(7) == BYTES):
        return "one array of Caffe (.binaryproto), as of a mean image; put its mean colour into the recipe's `mean`"
    return None


def _signature(path: Path, *, whole: bool = True) -> dict[int, int] | None:
    """Return the wire type of each of the first fields of a message; None if it is none (or, without `whole`, what
    comes before the end of the part that is there)."""
    kinds: dict[int, int] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        view = memoryview(mapping)
        try:
            for number, wire, value in islice(fields(view), 1000):
                kinds.setdefault(number, wire)
                value.release()
        except MalformedError:
            return None if whole else kinds
        finally:
            view.release()
    return kinds


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(START_BYTES)


def zip_names(path: Path) -> list[str] | None:
    """Return the names in a zip archive; None for another file. Raises BadZipFile for one cut short or damaged."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (ValueError, RuntimeError, ArithmeticError, EOFError, struct.error) as error:
        raise zipfile.BadZipFile(str(error)) from error
