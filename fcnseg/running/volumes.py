"""HDF5 files that hold the outputs of all inputs: `--out masks.h5`, `--save-probabilities probs.h5`.

An HDF5 file that is being written does not survive the death of its process. So every image is staged as a file of its
own (see `sinks`) in a hidden folder beside the volume, and when all have ended the volume is written under a temporary
name, in one go, and renamed. Images of an earlier assembly are taken over from it.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnseg.errors import OutputError
from fcnseg.io.atomic import checksum, flush_folder
from fcnseg.io.hdf5 import node_at, open_hdf5, read_values
from fcnseg.io.names import plain
from fcnseg.io.storage import LocalFolder
from fcnseg.running.records import staging_folder
from fcnseg.running.sinks import FileSink, LabelPngSink, NpyProbabilitySink
from fcnseg.types import EngineInfo, Output
from fcnseg.workers.limits import startable_threads, usable_cores

LEVEL = 1
"""The level of zlib: higher ones take long and gain little."""

COMPRESSION = {"compression": "gzip", "compression_opts": LEVEL, "shuffle": True}

BYTES_AT_ONCE = 64 << 20
"""The bytes of label maps of one size that are read and compressed together."""

MISSING = "fcnseg:missing"
"""The data set that lists, as pairs of key and reason, the inputs without a result."""

SPARE_BYTES = 16 << 20
"""The room beyond the next array that must be free: HDF5 does not survive a full disk."""


class VolumeInput(NamedTuple):
    """An input: its key and stem, and its number if it is a row of a data set."""

    key: str
    stem: str
    row: int | None = None


ListInputs = Callable[[], Iterator[VolumeInput]]
"""Lists the inputs anew at each call."""


@dataclass(frozen=True)
class _Assembly:
    """The file to write, its inputs and those that are `missing`, the file to replace (or None), and threads that
    compress: HDF5 itself has one."""

    target: h5py.File
    list_inputs: ListInputs
    missing: Mapping[str, str]
    before: h5py.File | None
    threads: ThreadPoolExecutor | None

    @property
    def map(self) -> Callable[..., Iterable[Any]]:
        """The function `map`, by the threads."""
        return self.threads.map if self.threads else map

    def present(self) -> Iterator[VolumeInput]:
        """Yield the inputs that are not missing."""
        return (image for image in self.list_inputs() if image.key not in self.missing)


def _packed(array: NDArray[Any], chunk: tuple[int, ...], corner: tuple[int, ...]) -> bytes:
    """Return the chunk of that shape at that corner of an array as HDF5 keeps it: padded with zeros beyond the array's
    end, shuffled and deflated."""
    piece = array[tuple(slice(start, start + side) for start, side in zip(corner, chunk, strict=True))]
    padding = [(0, side - there) for side, there in zip(chunk, piece.shape, strict=True)]
    values = np.ascontiguousarray(np.pad(piece, padding)).reshape(-1, 1).view(np.uint8)
    return zlib.compress(values.T.tobytes(), LEVEL)


class Volume:
    """One HDF5 file, made of the images that `sink` stages in the folder `staged`."""

    _suffixes: tuple[bytes, ...] = (b"",)

    def __init__(self, file: Path, sink: FileSink, info: EngineInfo) -> None:
        self.file, self.sink, self.info = file, sink, info
        self.staged = Path(sink.storage.root)

    def staged_file(self, stem: str, head: str) -> Path:
        """Return the staged file of one head of an image."""
        return self.staged / self.sink.by_head[head].of(stem)

    @property
    def has_staged(self) -> bool:
        """Tell whether there are images that the file does not hold yet."""
        return any(path.is_file() for path in self.staged.rglob("*"))

    def assemble(
        self,
        list_inputs: ListInputs,
        missing: Mapping[str, str],
        *,
        keep: bool,
        on_written: Callable[[Output], None] = lambda output: None,
    ) -> Output:
        """Write the file from staged images and, with `keep`, from the present file for those that are not staged.

        Inputs in `missing` (reasons by key) are listed as such. `on_written` hears of the file when it is durable,
        before it replaces the present one. Raises OutputError if an input is in none of the three.
        """
        partial = self.staged.with_suffix(".h5")  # hidden, and of one name: an unfinished one is written over
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                before = stack.enter_context(open_hdf5(self.file)) if keep else None
                number = startable_threads(min(8, usable_cores()))
                threads = stack.enter_context(ThreadPoolExecutor(number)) if number > 1 else None
                with h5py.File(partial, "w") as target:
                    self._describe(target)
                    for head in self.info.heads:
                        self._fill(head, _Assembly(target, list_inputs, missing, before, threads))
                    if missing:
                        pairs = [[plain(key), plain(reason)] for key, reason in missing.items()]
                        target.create_dataset(MISSING, data=pairs, dtype=h5py.string_dtype())
            with partial.open("rb+") as written:
                os.fsync(written.fileno())
            output = Output(str(self.file), partial.stat().st_size, checksum(partial))
            on_written(output)
            os.replace(partial, self.file)
            flush_folder(self.file.parent)
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise OutputError(
                f"{self.file} cannot be written: {_reason(error)}; what it is made of is kept, mend this and run the "
                "same command again"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        return output

    def discard_staged(self) -> None:
        """Remove the staged images, which the file now holds. The folder stays: another process may write to it."""
        for path in self.staged.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _describe(self, target: h5py.File) -> None:
        info = self.info
        target.attrs.update(
            {"model": info.model, "weights_sha256": info.weights_sha256, "fcnseg": info.versions.get("fcnseg", "")}
        )

    def _fill(self, head: str, made: _Assembly) -> None:
        """Write a data set for each input."""
        for image in made.present():
            for suffix, array in self._arrays(head, image, made.before).items():
                self._check_space(array.nbytes)
                dataset = self._create(made, self._name(head, image.key) + suffix, array)
                self._describe_classes(dataset, head)

    def _check_space(self, nbytes: int) -> None:
        if shutil.disk_usage(self.file.parent).free < nbytes + SPARE_BYTES:
            raise OutputError(
                f"there is no space left to write {self.file}; what it is made of is kept, make room and run the same "
                "command again"
            )

    def _arrays(self, head: str, image: VolumeInput, before: h5py.File | None) -> dict[bytes, NDArray[Any]]:
        """Return the arrays of one input, by the suffixes of its data sets' names."""
        path = self.staged_file(image.stem, head)
        if path.exists():
            return self._read(path)
        arrays = self._earlier(before, head, image) if before else {}
        if not arrays:
            raise OutputError(f"{path} is gone, so {self.file} cannot be written; run the same command again")
        return arrays

    def _earlier(self, before: h5py.File, head: str, image: VolumeInput) -> dict[bytes, NDArray[Any]]:
        """Return the arrays of one input in the file to replace; empty if it is not there."""
        name, arrays = self._name(head, image.key), {}
        for suffix in self._suffixes:
            node = node_at(before, name + suffix)
            if isinstance(node, h5py.Dataset):
                arrays[suffix] = read_values(node)
        return arrays

    def _read(self, path: Path) -> dict[bytes, NDArray[Any]]:
        raise NotImplementedError

    def _name(self, head: str, key: str) -> bytes:
        """Return the name of an input's data set; names in HDF5 are bytes, as those of files."""
        return os.fsencode(f"{head}/{key}" if len(self.info.heads) > 1 else key)

    def _create(self, made: _Assembly, name: bytes, array: NDArray[Any]) -> h5py.Dataset:
        chunk = (*array.shape[:-2], *(min(side, 256) for side in array.shape[-2:]))
        dataset = made.target.create_dataset(name, array.shape, array.dtype, chunks=chunk, **COMPRESSION)
        corners = list(product(*(range(0, size, side) for size, side in zip(array.shape, chunk, strict=True))))
        contents = made.map(lambda corner: _packed(array, chunk, corner), corners)
        for corner, content in zip(corners, contents, strict=True):
            dataset.id.write_direct_chunk(corner, content)
        return dataset

    def _describe_classes(self, dataset: h5py.Dataset, head: str) -> None:
        """Name the classes, their colours (RGB, K x 3) and the value that marks void."""
        space = self.info.heads[head]
        colors = np.array(space.colors, np.uint8)
        dataset.attrs.update({"classes": list(space.names), "colors": colors, "ignore": space.ignore})


class ProbabilityVolume(Volume):
    """Probabilities K x H x W, float16 or float32, in a data set for each input, named by its key.

    With `top_k`: k x H x W, and their classes in a second data set, `<key>.classes`.
    """

    def __init__(self, file: Path, info: EngineInfo, dtype: str = "float16", top_k: int | None = None) -> None:
        storage = LocalFolder(staging_folder(file, "probabilities"))
        super().__init__(file, NpyProbabilitySink(storage, info, dtype, top_k), info)
        if top_k:
            self._suffixes = (b"", b".classes")

    def _read(self, path: Path) -> dict[bytes, NDArray[Any]]:
        values = np.load(path, mmap_mode="r")
        if path.suffix == ".npz":
            return {b"": values["probabilities"], b".classes": values["classes"]}
        return {b"": values}


class LabelVolume(Volume):
    """Label maps H x W in a data set for each input, named by its key.

    If the inputs are the rows of one data set and of one size, their label maps are one data set N x H x W, `labels`
    (or `<head>`), with the ignore value in missing ones.
    """

    def __init__(self, file: Path, info: EngineInfo) -> None:
        super().__init__(file, LabelPngSink(LocalFolder(staging_folder(file, "labels")), info), info)

    def _read(self, path: Path) -> dict[bytes, NDArray[Any]]:
        with Image.open(path) as png:
            return {b"": np.asarray(png).astype(np.uint16 if png.mode.startswith("I") else np.uint8)}

    def _fill(self, head: str, made: _Assembly) -> None:
        total, shape = 0, None
        for image in made.list_inputs():
            here = None if image.key in made.missing else self._shape(head, image, made.before)
            if image.row is None or (shape and here and here != shape):
                super()._fill(head, made)
                return
            total, shape = max(total, image.row + 1), shape or here
        if shape is None:
            return
        space = self.info.heads[head]
        dtype = np.uint8 if space.classes <= 256 else np.uint16
        whole = made.target.create_dataset(
            self._stack(head), (total, *shape), dtype, chunks=(1, *shape), fillvalue=space.ignore, **COMPRESSION
        )

        def row(image: VolumeInput) -> bytes:
            array = self._arrays(head, image, made.before)[b""].astype(dtype, copy=False)
            return _packed(array[None], (1, *array.shape), (0, 0, 0))

        present, row_bytes = made.present(), whole.dtype.itemsize * int(np.prod(shape))
        while group := list(islice(present, max(1, BYTES_AT_ONCE // row_bytes))):
            self._check_space(len(group) * row_bytes)
            for image, content in zip(group, made.map(row, group), strict=True):
                whole.id.write_direct_chunk((image.row, 0, 0), content)
        self._describe_classes(whole, head)

    def _stack(self, head: str) -> str:
        return head if len(self.info.heads) > 1 else "labels"

    def _shape(self, head: str, image: VolumeInput, before: h5py.File | None) -> tuple[int, ...]:
        path = self.staged_file(image.stem, head)
        if path.exists():
            with Image.open(path) as png:
                return png.height, png.width
        return self._arrays(head, image, before)[b""].shape

    def _earlier(self, before: h5py.File, head: str, image: VolumeInput) -> dict[bytes, NDArray[Any]]:
        stack = node_at(before, self._stack(head))
        if image.row is not None and isinstance(stack, h5py.Dataset) and stack.ndim == 3:
            return {b"": read_values(stack, image.row)} if image.row < len(stack) else {}
        return super()._earlier(before, head, image)


def _reason(error: Exception) -> str:
    """Return the reason of an error in one line; HDF5's have several."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
