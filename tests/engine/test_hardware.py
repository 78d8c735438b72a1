import os
from dataclasses import replace
from pathlib import Path

import pytest

from fcnseg.engine import hardware
from fcnseg.engine.hardware import Gpu, Library, Machine, backends, inspect_machine, runnable

X86 = """processor\t: 0
model name\t: Some  CPU  @ 2GHz
flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni

processor\t: 1
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp bf16 i8mm\nCPU part\t: 0xd40\n"
OLD = "processor\t: 0\nmodel name\t: Old CPU\nflags\t\t: fpu sse2 avx2\n"


@pytest.fixture(autouse=True)
def nothing_remembered():  # type: ignore[no-untyped-def]
    hardware.cpu_name.cache_clear()
    hardware.cpu_features.cache_clear()
    yield
    hardware.cpu_name.cache_clear()
    hardware.cpu_features.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, cpuinfo: str) -> None:
    (folder / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(hardware, "CPUINFO", folder / "cpuinfo")


@pytest.mark.parametrize(
    ("cpuinfo", "features", "bf16"),
    [
        (X86, ("avx2", "avx512", "bf16", "int8 dot products"), True),
        (ARM, ("bf16", "int8 dot products"), True),
        (OLD, ("avx2",), False),
    ],
    ids=["x86", "arm", "old"],
)
def test_a_processor_tells_what_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpuinfo: str, features: tuple[str, ...], bf16: bool
) -> None:
    pretend(monkeypatch, tmp_path, cpuinfo)
    assert hardware.cpu_features() == features
    assert hardware.has_bf16("cpu") is bf16
    if cpuinfo == X86:
        assert hardware.cpu_name() == "Some CPU @ 2GHz"


def test_without_cpuinfo_there_is_still_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "absent")
    assert hardware.cpu_name()
    assert isinstance(hardware.cpu_features(), tuple)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ({}, 64),
    ],
)
def test_cores_are_those_of_the_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert hardware.usable_cores() == cores


def test_memory_is_that_of_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    whole = inspect_machine().memory_bytes
    (tmp_path / "memory.max").write_text(str(2**28))
    assert inspect_machine().memory_bytes == 2**28 < whole


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = inspect_machine()
    assert machine.libraries["torch"].works
    assert 1 <= machine.cores <= machine.logical_cores
    assert 0 < machine.free_memory_bytes <= machine.memory_bytes
    monkeypatch.setitem(hardware.PACKAGES, "cv2", ("not-installed", "opencv-python-headless"))
    assert hardware.library_version("cv2") == hardware.library_version("opencv-python-headless")
    assert hardware.library_version("no-such-library") is None
    assert "fp32" in runnable("cpu")["torch"]
    assert not {"tensorrt", "tensorrt-rtx"} & set(runnable("cpu"))


def test_a_library_that_does_not_import_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text("raise OSError('libnvinfer.so: cannot open\\nsecond line')")
    (tmp_path / "tensorrt-99.dist-info").mkdir()
    (tmp_path / "tensorrt-99.dist-info" / "METADATA").write_text("Name: tensorrt\nVersion: 99\n")
    monkeypatch.syspath_prepend(tmp_path)
    library = hardware.inspect_library("tensorrt")
    assert library == Library("tensorrt", "99", "libnvinfer.so: cannot open")
    assert not library.works


# ---------------------------------------------------------------------- what can run

H100 = Gpu("cuda:0", "NVIDIA H100", 2**36, "9.0", True)


def machine(
    *absent: str, features: tuple[str, ...] = ("avx512", "bf16"), gpus: tuple[Gpu, ...] = (), driver: bool = False
) -> Machine:
    libraries = {name: Library(name, None if name in absent else "1.0") for name in hardware.PACKAGES}
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
    assert found["openvino"] == ("fp32 bf16", "", "pip install 'fcnseg[int8]'")
    assert found["tensorrt"] == ("", "", "pip install 'fcnseg[tensorrt]'")
    assert found["tensorrt-rtx"] == ("", "", "pip install 'fcnseg[tensorrt-rtx]'")
    assert summary(machine("openvino"))["openvino"][0] == ""
    assert summary(machine("onnxscript"))["openvino"] == ("", "", "pip install onnxscript")


def test_a_gpu() -> None:
    found = summary(machine(gpus=(H100,), driver=True))
    assert found["tensorrt"] == ("fp32 bf16 fp16 int8", "", "")
    assert found["torch"] == ("fp32 bf16 fp16", "", "")


def test_a_driver_that_torch_cannot_use_is_said() -> None:
    (torch,) = (b for b in backends(machine(driver=True)) if b.name == "torch")
    assert "driver" in torch.missing
    assert torch.install


def test_a_broken_library_is_as_good_as_none() -> None:
    given = machine()
    broken = {**given.libraries, "openvino": Library("openvino", "1.0", "libtbb.so is missing")}
    (openvino,) = (b for b in backends(replace(given, libraries=broken)) if b.name == "openvino")
    assert (openvino.runs, openvino.missing) == ((), "it does not import: libtbb.so is missing")
