"""The outline of a PyTorch file: which objects it holds where, found without running any code that it may carry.

Classes that the file names are replaced by inert stand-ins, so that one can say which of them is in the way.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
"""The first pickle of the files that PyTorch wrote before its zip format (1.6, 2020)."""

MOST_BYTES = 2**26
"""Of a pickle: a checkpoint's numbers lie outside of it."""

DEEPEST = 8
"""Containers within containers that are looked into."""

TENSOR_MODULES = ("torch._utils", "torch._tensor", "torch.storage", "torch.serialization", "torch.nn.parameter")
HARMLESS = {"collections.OrderedDict", "torch.device", "torch.Size", "torch.dtype", "builtins.set", "_codecs.encode"}


class Inert:
    """A stand-in for an object of a foreign class: it takes any state and does nothing with it."""

    module, name = "", ""
    state: Any = None

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, _: Any) -> None:
        """Take a list's next item."""

    def extend(self, _: Any) -> None:
        """Take a list's items."""

    def __call__(self, *_: Any, **__: Any) -> Inert:
        """Stand for whatever a function returns."""
        return self

    def __hash__(self) -> int:
        return id(self)


class OutlineError(Exception):
    """No outline can be had; the message says why, and what to do."""


class _Outliner(pickle._Unpickler):  # the one in C prints about damaged buffers
    """Unpickles containers, numbers and text; all else becomes an Inert."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        return type("Stand-in", (Inert,), {"module": module, "name": name})

    def persistent_load(self, pid: Any) -> Any:
        """Return the class of a module that came with its source (before 1.6), or a stand-in for numbers."""
        return pid[1] if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module" else Inert()


def outline(path: Path) -> Any:
    """Return the object that a PyTorch file holds, in stand-ins.

    Raises OutlineError if it is no such file, or damaged.
    """
    try:
        if zipfile.is_zipfile(path):
            return _Outliner(io.BytesIO(_zipped_pickle(path)), encoding="latin1").load()
        with path.open("rb") as file:
            if _Outliner(file, encoding="latin1").load() != MAGIC_NUMBER:
                raise OutlineError("torch.save did not write this pickle; save the state dict with it")
            for _ in ("protocol", "system"):
                _Outliner(file, encoding="latin1").load()
            return _Outliner(file, encoding="latin1").load()
    except OutlineError:
        raise
    except Exception as error:  # damaged pickles fail in any way
        raise OutlineError("it is damaged; fetch it again") from error


def _zipped_pickle(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
        if archive.getinfo(name).file_size > MOST_BYTES:
            raise OutlineError("its pickle is too large; save the state dict alone")
        return archive.read(name)


def foreign_objects(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the keys that lead to each object that is neither a tensor nor plain data, and its class."""
    if isinstance(content, Inert):
        kind = f"{content.module}.{content.name}"
        if content.module and not is_tensor(content) and kind not in HARMLESS:
            yield place, "numpy.ndarray" if is_array(content) else kind
    elif len(place) < DEEPEST and isinstance(content, dict):
        for key, value in content.items():
            yield from foreign_objects(value, (*place, str(key)))
    elif len(place) < DEEPEST and isinstance(content, list | tuple):
        for index, value in enumerate(content):
            yield from foreign_objects(value, (*place, str(index)))


def clean_state(content: Any, load: str) -> str:
    """Return the Python expression that makes a plain state dict of a file, given the one that loads it."""
    found = sorted(_states(content, load), key=lambda item: item[0])
    return found[0][1] if found else load


def _states(content: Any, expression: str, depth: int = 0) -> Iterator[tuple[int, str]]:
    """Yield a rank, the lower the better, and the expression of whatever holds parameters by name."""
    if isinstance(content, Inert):
        if isinstance(content.state, dict) and "_parameters" in content.state:
            yield 1, f"{expression}.state_dict()"
    elif isinstance(content, dict) and depth < DEEPEST:
        numbers = [v for k, v in content.items() if isinstance(k, str) and "." in k and (is_tensor(v) or is_array(v))]
        if numbers and all(map(is_tensor, content.values())):
            yield 0, expression
        elif numbers:
            yield 0, f"{{k: torch.as_tensor(v) for k, v in {expression}.items() if hasattr(v, 'shape')}}"
        for key, value in content.items():
            yield from _states(value, f"{expression}[{key!r}]", depth + 1)


def is_tensor(value: Any) -> bool:
    """Tell whether a stand-in is that of a tensor."""
    return isinstance(value, Inert) and value.module.startswith(TENSOR_MODULES)


def is_array(value: Any) -> bool:
    """Tell whether a stand-in is that of a NumPy array."""
    return isinstance(value, Inert) and value.module.startswith("numpy") and value.name == "_reconstruct"
