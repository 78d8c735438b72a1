"""The libraries of a machine, and what backends can do with them."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fcnseg.engine import machine as machine_module
from fcnseg.engine.hardware import Gpu
from fcnseg.engine.machine import Library, Machine, backends, inspect_machine, runnable


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = inspect_machine()
    assert machine.libraries["torch"].works
    assert 1 <= machine.cores <= machine.logical_cores
    assert 0 < machine.free_memory_bytes <= machine.memory_bytes
    monkeypatch.setitem(machine_module.PACKAGES, "cv2", ("not-installed", "opencv-python-headless"))
    assert machine_module.library_version("cv2") == machine_module.library_version("opencv-python-headless")
    assert machine_module.library_version("no-such-library") is None
    assert "fp32" in runnable("cpu")["torch"]
    assert not {"tensorrt", "tensorrt-rtx"} & set(runnable("cpu"))


def test_a_library_that_does_not_import_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text("raise OSError('libnvinfer.so: cannot open\\nsecond line')")
    (tmp_path / "tensorrt-99.dist-info").mkdir()
    (tmp_path / "tensorrt-99.dist-info" / "METADATA").write_text("Name: tensorrt\nVersion: 99\n")
    monkeypatch.syspath_prepend(tmp_path)
    library = machine_module.inspect_library("tensorrt")
    assert library == Library("tensorrt", "99", "libnvinfer.so: cannot open")
    assert not library.works


def test_a_library_of_whatever_package_states_its_own_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`tensorrt-cu12` brings the module `tensorrt`, and so does the system, under no name of a package."""
    monkeypatch.syspath_prepend(tmp_path)
    assert machine_module.inspect_library("tensorrt") == Library("tensorrt", None)
    (tmp_path / "tensorrt").mkdir()  # what an uninstallation may leave
    importlib.invalidate_caches()
    assert machine_module.inspect_library("tensorrt") == Library("tensorrt", None)
    (tmp_path / "tensorrt" / "__init__.py").write_text("__version__ = '11.4.0.106'")
    importlib.invalidate_caches()
    assert machine_module.inspect_library("tensorrt") == Library("tensorrt", "11.4.0.106")
    del sys.modules["tensorrt"]


# ---------------------------------------------------------------------- what can run

H100 = Gpu("cuda:0", "NVIDIA H100", 2**36, "9.0", True)


def machine(
    *absent: str, features: tuple[str, ...] = ("avx512", "bf16"), gpus: tuple[Gpu, ...] = (), driver: bool = False
) -> Machine:
    libraries = {name: Library(name, None if name in absent else "1.0") for name in machine_module.PACKAGES}
    return Machine("Linux x86_64", "3.11", "CPU", 2, 2, features, 2**34, 2**33, gpus, driver, libraries)


def summary(given: Machine) -> dict[str, tuple[str, str, str]]:
    return {b.name: (" ".join(b.runs), " ".join(b.builds), b.install) for b in backends(given)}


def test_everything_on_a_processor() -> None:
    assert summary(machine()) == {
        "tensorrt": ("", "", ""),
        "tensorrt-rtx": ("", "fp32 bf16 fp16 int8", ""),
        "openvino": ("fp32 bf16 int8", "", ""),
        "torch": ("fp32 bf16", "", ""),
    }


def test_an_old_processor_has_no_bf16() -> None:
    found = summary(machine(features=("avx2",)))
    assert found["torch"][0] == "fp32"
    assert found["openvino"][0] == "fp32 int8"


def test_what_is_missing_is_named_with_the_command() -> None:
    found = summary(machine("nncf", "tensorrt", "tensorrt_rtx"))
    assert found["openvino"] == ("fp32 bf16", "", "pip install nncf")
    assert found["tensorrt"] == ("", "", "pip install torch tensorrt")
    assert found["tensorrt-rtx"] == ("", "", "pip install torch tensorrt-rtx")
    assert summary(machine("openvino"))["openvino"][0] == ""
    assert summary(machine("onnxruntime"))["openvino"] == ("", "", "pip install onnxruntime")
    assert summary(machine("torch"))["torch"] == ("", "", "pip install torch tensorboardx")


def test_a_gpu() -> None:
    found = summary(machine(gpus=(H100,), driver=True))
    assert found["tensorrt"] == ("fp32 bf16 fp16 int8", "", "")
    assert found["torch"] == ("fp32 bf16 fp16", "", "")


def test_rtx_on_a_gpu_that_it_does_not_serve() -> None:
    pytest.importorskip("tensorrt_rtx")
    (rtx,) = (b for b in backends(machine(gpus=(H100,), driver=True)) if b.name == "tensorrt-rtx")
    assert (rtx.runs, rtx.builds) == ((), ())
    assert rtx.missing == "it does not serve GPUs of compute capability 9.0"


def test_a_driver_that_torch_cannot_use_is_said() -> None:
    (torch,) = (b for b in backends(machine(driver=True)) if b.name == "torch")
    assert "driver" in torch.missing
    assert torch.install


def test_a_broken_library_is_as_good_as_none() -> None:
    given = machine()
    broken = {**given.libraries, "openvino": Library("openvino", "1.0", "libtbb.so is missing")}
    (openvino,) = (b for b in backends(replace(given, libraries=broken)) if b.name == "openvino")
    assert (openvino.runs, openvino.missing) == ((), "it does not import: libtbb.so is missing")
