from pathlib import Path

import pytest

from fcnseg.engine import hardware

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
