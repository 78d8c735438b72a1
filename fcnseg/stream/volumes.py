"""Outputs that are one HDF5 file: `--out masks.h5`, `--save-probabilities probs.h5`.

An HDF5 file that is being written does not survive the death of its process. So every image is staged as a file of its
own (see `sinks`) in a hidden folder beside the volume, and when all have ended the volume is written under a temporary
name, in one go, and renamed. Images of an earlier assembly are taken over from it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnseg.errors import OutputError
from fcnseg.files import checksum, whole_path
from fcnseg.stream.sinks import LabelPngSink, NpyProbabilitySink
from fcnseg.types import EngineInfo, Output

Entry = tuple[str, str]
"""The key and stem of an input."""

COMPRESSION = {"compression": "gzip", "compression_opts": 1, "shuffle": True}

MISSING = "fcnseg:missing"
"""The data set that lists, as pairs of key and reason, the inputs without a result."""


class Volume:
    """One HDF5 file, of what `sink` stages in the folder `staged`."""

    sink: LabelPngSink | NpyProbabilitySink

    def __init__(self, file: Path, info: EngineInfo, kind: str) -> None:
        self.file, self.info = file, info
        self.staged = file.parent / f".{file.name}.fcnseg" / kind

    def assemble(self, entries: Iterable[Entry], missing: Mapping[str, str]) -> Output:
        """Write the file from what is staged, and from the present file where nothing is; inputs in `missing` (by key,
        with the reason) are listed as such. Raises OutputError if an input is in none of the three."""
        entries = [entry for entry in entries if entry[0] not in missing]
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                partial = stack.enter_context(whole_path(self.file))
                before = stack.enter_context(h5py.File(self.file)) if self.file.exists() else None
                with h5py.File(partial, "w") as target:
                    self._describe(target)
                    for head in self.info.heads:
                        self._fill(target, head, entries, missing, before)
                    if missing:
                        pairs = [[_plain(key), _plain(reason)] for key, reason in missing.items()]
                        target.create_dataset(MISSING, data=pairs, dtype=h5py.string_dtype())
                with partial.open("rb+") as written:
                    os.fsync(written.fileno())
        except (OSError, RuntimeError) as error:
            raise OutputError(
                f"{self.file} cannot be written: {_reason(error)}; what it is made of is kept, mend this and run the "
                "same command again"
            ) from error
        return Output(self.file, self.file.stat().st_size, checksum(self.file))

    def discard_staged(self) -> None:
        """Remove what the file now holds."""
        shutil.rmtree(self.staged, ignore_errors=True)

    def _describe(self, target: h5py.File) -> None:
        info = self.info
        target.attrs.update(
            {"model": info.model, "weights_sha256": info.weights_sha256, "fcnseg": info.versions.get("fcnseg", "")}
        )

    def _fill(
        self,
        target: h5py.File,
        head: str,
        entries: list[Entry],
        missing: Mapping[str, str],  # noqa: ARG002 - for volumes that have a place for what is missing
        before: h5py.File | None,
    ) -> None:
        for key, stem in entries:
            for suffix, array in self._arrays(head, key, stem, before).items():
                name = self._name(head, key) + suffix
                self._describe_classes(self._create(target, name, array), head)

    def _arrays(self, head: str, key: str, stem: str, before: h5py.File | None) -> dict[bytes, NDArray[Any]]:
        """What belongs to one input, by the suffixes of its data sets' names."""
        path = self.sink.path(stem, head)
        if path.exists():
            return self._read(path)
        found = self._earlier(before, head, key) if before else {}
        if not found:
            raise OutputError(f"{path} is gone, so {self.file} cannot be written; run the same command again")
        return found

    _suffixes: tuple[bytes, ...] = (b"",)

    def _earlier(self, before: h5py.File, head: str, key: str) -> dict[bytes, NDArray[Any]]:
        """The same, from an earlier assembly; empty if it is not there."""
        name = self._name(head, key)
        return {s: before[name + s][()] for s in self._suffixes if name + s in before}

    def _read(self, path: Path) -> dict[bytes, NDArray[Any]]:
        raise NotImplementedError

    def _name(self, head: str, key: str) -> bytes:
        """The data set of an input; names of HDF5 objects are bytes, as those of files."""
        return os.fsencode(f"{head}/{key}" if len(self.info.heads) > 1 else key)

    def _create(self, target: h5py.File, name: bytes, array: NDArray[Any]) -> h5py.Dataset:
        chunks = (*array.shape[:-2], *(min(side, 256) for side in array.shape[-2:]))
        return target.create_dataset(name, data=array, chunks=chunks, **COMPRESSION)

    def _describe_classes(self, dataset: h5py.Dataset, head: str) -> None:
        dataset.attrs["classes"] = list(self.info.heads[head].names)


class ProbabilityVolume(Volume):
    """Probabilities K x H x W, float16 or float32, a data set an input, called by its key. With `top_k`: k x H x W,
    and the classes they belong to in a second data set, `<key>.classes`."""

    def __init__(self, file: Path, info: EngineInfo, dtype: str = "float16", top_k: int | None = None) -> None:
        super().__init__(file, info, "probabilities")
        self.sink = NpyProbabilitySink(self.staged, info, dtype, top_k)
        if top_k:
            self._suffixes = (b"", b".classes")

    def _read(self, path: Path) -> dict[bytes, NDArray[Any]]:
        found = np.load(path)
        if path.suffix == ".npz":
            return {b"": found["probabilities"], b".classes": found["classes"]}
        return {b"": found}


class LabelVolume(Volume):
    """Label maps H x W, a data set an input, called by its key. Those of one rank-4 data set `images`, if they are of
    one size, are one data set N x H x W `labels` (or `<head>`), filled with the ignore value where there is none."""

    def __init__(self, file: Path, info: EngineInfo) -> None:
        super().__init__(file, info, "labels")
        self.sink = LabelPngSink(self.staged, info)

    def _read(self, path: Path) -> dict[bytes, NDArray[Any]]:
        with Image.open(path) as image:
            return {b"": np.asarray(image).astype(np.uint16 if image.mode.startswith("I") else np.uint8)}

    def _fill(
        self, target: h5py.File, head: str, entries: list[Entry], missing: Mapping[str, str], before: h5py.File | None
    ) -> None:
        rows = _rows([key for key, _ in entries])
        shapes = {self._shape(head, key, stem, before) for key, stem in entries} if rows else set()
        if len(shapes) != 1:
            super()._fill(target, head, entries, missing, before)
            return
        (shape,) = shapes
        total = 1 + max([*rows, *_rows(list(missing))])
        space = self.info.heads[head]
        name = head if len(self.info.heads) > 1 else "labels"
        dtype = np.uint8 if space.classes <= 256 else np.uint16
        whole = target.create_dataset(
            name, (total, *shape), dtype, chunks=(1, *shape), fillvalue=space.ignore, **COMPRESSION
        )
        for row, (key, stem) in zip(rows, entries, strict=True):
            whole[row] = self._arrays(head, key, stem, before)[b""]
        self._describe_classes(whole, head)

    def _shape(self, head: str, key: str, stem: str, before: h5py.File | None) -> tuple[int, ...]:
        path = self.sink.path(stem, head)
        if path.exists():
            with Image.open(path) as image:
                return image.height, image.width
        return self._arrays(head, key, stem, before)[b""].shape

    def _earlier(self, before: h5py.File, head: str, key: str) -> dict[bytes, NDArray[Any]]:
        name = head if len(self.info.heads) > 1 else "labels"
        rows = _rows([key])
        if rows and name in before and before[name].ndim == 3:
            return {b"": before[name][rows[0]]} if rows[0] < len(before[name]) else {}
        return super()._earlier(before, head, key)


def _rows(keys: list[str]) -> list[int]:
    """The row numbers of inputs that are rows of one data set (`images/000123`); empty if they are not."""
    found = [re.fullmatch(r"(.+)/([0-9]+)", key) for key in keys]
    if not keys or not all(found) or len({match[1] for match in found if match}) > 1:
        return []
    return [int(match[2]) for match in found if match]


def _plain(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _reason(error: Exception) -> str:
    """HDF5's errors are of several lines."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
