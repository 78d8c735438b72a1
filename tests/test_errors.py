"""Errors that several libraries word in their own ways."""

import inspect
import re

import pytest
import torch

from fcnseg import errors
from fcnseg.errors import FcnsegError, is_out_of_memory, is_out_of_threads


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.OutOfMemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223:\nstd::bad_alloc\n"),
        RuntimeError("Failed to allocate 1099511627776 bytes of memory"),
        RuntimeError(
            "[virtualMemoryBuffer.cpp::resizePhysical::154] Error Code 2: OutOfMemory (no further information)"
        ),
        RuntimeError(
            "Requested amount of GPU memory (6442450944 bytes) could not be allocated. There may not be enough"
        ),
        RuntimeError("Tactic Device request: 1026MB Available: 510MB. Device memory is insufficient to use tactic."),
    ],
)
def test_exhausted_memory_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("text", ["", "mat1 and mat2 shapes cannot be multiplied", "its data is not allocated yet"])
def test_other_faults_are_not(text: str) -> None:
    assert not is_out_of_memory(RuntimeError(text))


def test_torchs_own_words_are_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def drawn_tree() -> dict[str, str]:
    """The parent of each class in the drawing at the top of the module; four columns are one level."""
    parents: dict[str, str] = {}
    ancestors: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if drawn := re.match(r"    ([ |`-]*)([A-Z][A-Za-z]*Error) ", line):
            ancestors[len(drawn[1]) // 4 :] = [drawn[2]]
            parents[drawn[2]] = ancestors[-2] if len(ancestors) > 1 else "Exception"
    return parents


def test_the_tree_is_drawn_whole() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, FcnsegError)]
    assert drawn_tree() == {c.__name__: c.__bases__[0].__name__ for c in classes}


def test_exit_codes_are_those_of_the_drawing() -> None:
    for name in drawn_tree():
        kind = getattr(errors, name)
        assert kind.exit_code == (2 if issubclass(kind, errors.SettingsError) else 1)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        RuntimeError("Exception from src/inference/src/cpp/core.cpp:126:\nResource temporarily unavailable\n"),
        BlockingIOError(11, "Resource temporarily unavailable"),
        OSError(12, "Cannot allocate memory"),
        "libgomp: Thread creation failed: Resource temporarily unavailable",
    ],
)
def test_a_want_of_threads_is_recognised(error: Exception | str) -> None:
    assert is_out_of_threads(error)


@pytest.mark.parametrize("error", [OSError(11, "busy", "/some/file"), OSError(2, "not there"), RuntimeError("lost")])
def test_other_faults_are_no_want_of_threads(error: Exception) -> None:
    assert not is_out_of_threads(error)
