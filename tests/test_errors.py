"""Errors that several libraries word in their own ways."""

import pytest
import torch

from fcnseg.errors import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.OutOfMemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223:\nstd::bad_alloc\n"),
        RuntimeError("Failed to allocate 1099511627776 bytes of memory"),
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
