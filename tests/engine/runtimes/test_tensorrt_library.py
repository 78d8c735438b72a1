"""TensorRT's packages, drivers and GPUs: what is told where something does not fit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fcnseg.engine import hardware, identity
from fcnseg.engine.identity import library_version
from fcnseg.engine.record import write_sealed
from fcnseg.engine.runtimes.tensorrt import library, packages, timings
from fcnseg.engine.runtimes.tensorrt import plan as tensorrt_plan
from fcnseg.engine.runtimes.tensorrt.library import TensorRTLibrary, check_library, load_library, serves
from fcnseg.engine.runtimes.tensorrt.packages import package_for
from fcnseg.errors import DeviceError, EngineError
from fcnseg.recipes import Shapes
from tests.engine.runtimes.fake_tensorrt import OLD_DRIVER, FakeBuilderConfig, FakeLogger, FakeModule, FakePlan

Use = Callable[..., TensorRTLibrary]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Puts a fake library in the place of the real one, on a machine with that GPU and driver."""

    def put(
        module: object, name: str = "tensorrt", capability: str = "", driver: tuple[int, int] | None = None
    ) -> TensorRTLibrary:
        loaded = TensorRTLibrary(name, module)
        monkeypatch.setattr(library, "_loaded", {name: loaded})
        for place in (library, tensorrt_plan):
            monkeypatch.setattr(place, "cuda_capability", lambda: capability)
        for place in (library, packages):
            monkeypatch.setattr(place, "cuda_of_driver", lambda: driver)
        return loaded

    return put


# ---------------------------------------------------------------------- packages


@pytest.mark.parametrize(
    ("driver", "torch", "package"),
    [
        (None, 13, "tensorrt"),
        ((12, 4), 12, "tensorrt-cu12"),
        ((13, 0), 12, "tensorrt-cu12"),
        ((13, 2), 13, "tensorrt-cu13"),
        ((13, 2), None, "tensorrt-cu13"),
        ((12, 9), 13, "tensorrt-cu12"),
        ((11, 8), 11, "tensorrt-cu12"),
        ((14, 1), 14, "tensorrt-cu13"),
    ],
)
def test_the_package_follows_the_driver_and_torch(
    monkeypatch: pytest.MonkeyPatch, driver: tuple[int, int] | None, torch: int | None, package: str
) -> None:
    monkeypatch.setattr(packages, "cuda_of_driver", lambda: driver)
    monkeypatch.setattr(packages, "_cuda_of_torch", lambda: torch)
    assert package_for("tensorrt") == package
    assert package_for("tensorrt-rtx") == package.replace("tensorrt", "tensorrt-rtx")


def test_the_driver_is_asked_for_its_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(address: object) -> int:
        address._obj.value = 12040  # type: ignore[attr-defined]
        return 0

    monkeypatch.setattr(hardware, "_cuda_driver", lambda: SimpleNamespace(cuDriverGetVersion=version))
    assert hardware.cuda_of_driver() == (12, 4)
    monkeypatch.setattr(hardware, "_cuda_driver", lambda: None)
    assert (hardware.cuda_of_driver(), hardware.nvidia_gpus()) == (None, 0)


def test_the_module_is_asked_for_its_version(use: Use) -> None:
    """`tensorrt-cu12` brings the module `tensorrt`: no package of that name need be installed."""
    use(FakeModule())
    assert library_version("tensorrt") == "tensorrt 11.4.0.106"


@pytest.mark.parametrize("module", [None, ModuleType("tensorrt")], ids=["none", "what an uninstallation left"])
def test_a_library_that_is_not_here(monkeypatch: pytest.MonkeyPatch, module: ModuleType | None) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(library, "_loaded", {})
    monkeypatch.setattr(packages, "cuda_of_driver", lambda: (12, 8))
    with pytest.raises(EngineError, match=r"TensorRT cannot be loaded .*; `pip install tensorrt-cu12` installs it"):
        identity.library_version("tensorrt")


# ---------------------------------------------------------------------- drivers and GPUs


@pytest.mark.parametrize(
    ("driver", "said"), [((12, 2), "the NVIDIA driver is for CUDA 12.2"), (None, "no NVIDIA driver is loaded")]
)
def test_a_driver_that_is_too_old_is_told_in_one_line(use: Use, driver: tuple[int, int] | None, said: str) -> None:
    loaded = use(FakeModule(null=OLD_DRIVER), driver=driver)
    for make in (loaded.builder, loaded.runtime, lambda: check_library("tensorrt")):
        with pytest.raises(DeviceError) as caught:
            make()
        assert str(caught.value).startswith(
            f"TensorRT 11.4.0.106 cannot start ({said}): {OLD_DRIVER}; update the driver"
        )
        assert "\n" not in str(caught.value)
    assert loaded.reason(warnings=True) == "it gave no reason"


def test_rtx_lists_the_gpus_it_serves(use: Use) -> None:
    use(FakeModule(FakePlan([]), builder=object()), "tensorrt-rtx", "9.0", (13, 0))
    assert [serves("tensorrt-rtx", c) for c in ("7.5", "8.9", "9.0", "10.0", "")] == [True, True, False, False, True]
    with pytest.raises(
        DeviceError, match=r"does not serve GPUs of compute capability 9\.0; `pip install tensorrt-cu13`"
    ):
        check_library("tensorrt-rtx")
    use(FakeModule(FakePlan([]), builder=object()), "tensorrt-rtx", "8.9")
    check_library("tensorrt-rtx")
    use(FakeModule(FakePlan([]), builder=object()), "tensorrt", "9.0")
    check_library("tensorrt")


def test_the_real_rtx_lists_them_too() -> None:
    pytest.importorskip("tensorrt_rtx")
    served = [serves("tensorrt-rtx", c) for c in ("7.5", "8.6", "8.9", "12.0", "9.0", "10.0")]
    assert served == [True] * 4 + [False] * 2
    check_library("tensorrt-rtx")


# ---------------------------------------------------------------------- builds that fail

SIZES = Shapes((1, 1), (60, 80), (96, 128), 4)


@pytest.mark.parametrize(
    ("message", "kind"), [("OutOfMemory (no further information)", DeviceError), ("Unsupported SM", EngineError)]
)
def test_a_network_that_cannot_begin(use: Use, tmp_path: object, message: str, kind: type[EngineError]) -> None:
    def none(_flags: int) -> None:
        loaded.logger.log(FakeLogger.ERROR, message)

    loaded = use(FakeModule(builder=SimpleNamespace(create_network=none)))
    with pytest.raises(EngineError, match=f"cannot begin a network: {message[:11]}") as caught:
        tensorrt_plan.build_plan(tmp_path / "none.onnx", "tensorrt", [SIZES])  # type: ignore[operator]
    assert type(caught.value) is kind


def test_memory_is_blamed_also_where_only_a_warning_tells_of_it(use: Use) -> None:
    """Tactics that do not fit are skipped with a warning; the error then is that none is left."""
    loaded = use(FakeModule())
    loaded.logger.log(FakeLogger.WARNING, "Tactic Device request: 9000MB. Device memory is insufficient to use tactic.")
    loaded.logger.log(FakeLogger.ERROR, "Error Code 10: Could not find any implementation for node conv1_1")
    error = loaded.refusal("cannot build", "free memory")
    assert isinstance(error, DeviceError)
    assert "conv1_1 (Tactic Device request: 9000MB" in str(error)


def test_messages_of_the_past_are_not_blamed(use: Use) -> None:
    loaded = use(FakeModule(builder=object()))
    loaded.logger.log(FakeLogger.ERROR, "OutOfMemory")
    loaded.builder()
    assert type(loaded.refusal("did not", "wait")) is EngineError
    assert load_library("tensorrt") is loaded


@pytest.mark.parametrize("fits", [True, False])
def test_kernels_that_need_much_memory_are_taken_only_where_no_others_are(
    use: Use, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fits: bool
) -> None:
    limits: list[int] = []

    def build(_network: object, config: FakeBuilderConfig) -> bytes | None:
        limits.append(config.limit_bytes)
        return b"plan" if fits or config.limit_bytes > tensorrt_plan.WORKSPACE_BYTES else None

    monkeypatch.setenv("FCNSEG_HOME", str(tmp_path))
    use(FakeModule(builder=SimpleNamespace(build_serialized_network=build)))
    monkeypatch.setattr(tensorrt_plan, "_parsed", lambda *_: (None, None))
    monkeypatch.setattr(tensorrt_plan, "_configured", lambda *_: FakeBuilderConfig())
    plan = tensorrt_plan.build_plan(tmp_path / "graph.onnx", "tensorrt", [SIZES])
    assert bytes(plan.content) == b"plan"
    assert limits == ([4 << 30] if fits else [4 << 30, 8 << 30])


def test_times_are_kept_for_the_next_build(use: Use, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FCNSEG_HOME", str(tmp_path))
    loaded = use(FakeModule())
    monkeypatch.setattr(timings, "cuda_capability", lambda: "8.9")
    file = timings.timing_file(loaded)

    def build(layer: bytes, *, meanwhile: bytes = b"") -> set[bytes]:
        """Build a layer; returns the times that were known before."""
        config = FakeBuilderConfig()
        with timings.timing_cache(loaded, config):
            known = set(config.cache.times)
            config.cache.times.add(layer)
            if meanwhile:
                write_sealed(file, meanwhile)
        return known

    assert build(b"conv1") == set()
    assert build(b"conv2") == {b"conv1"}
    assert build(b"conv3", meanwhile=b"conv9") == {b"conv1", b"conv2"}
    assert build(b"conv4") == {b"conv1", b"conv2", b"conv3", b"conv9"}
    for content in (b"foreign times", b"junk"):
        write_sealed(file, content)
        assert build(b"conv1") == set()
    file.write_bytes(b"of somebody else")  # no library sees what this machine did not write
    assert build(b"conv1") == set()


def test_the_gpu_that_is_here_is_built_for(use: Use) -> None:
    chosen: list[object] = []
    features: list[object] = []
    config = SimpleNamespace(
        clear_flag=lambda _: None,
        set_preview_feature=lambda *feature: features.append(feature),
        set_compute_capability=lambda kind, index: chosen.append((kind, index)) or True,
    )
    builder = SimpleNamespace(create_builder_config=lambda: config)
    for capability, expected in (("7.5", [("current", 0)]), ("", [])):
        module = FakeModule(builder=builder)
        module.ComputeCapability = SimpleNamespace(CURRENT="current", __members__={"SM75": 0})
        module.BuilderFlag = SimpleNamespace(TF32=0)  # type: ignore[attr-defined]
        module.PreviewFeature = SimpleNamespace(RUNTIME_ACTIVATION_RESIZE_10_10=1)  # type: ignore[attr-defined]
        chosen.clear()
        tensorrt_plan._configured(use(module, "tensorrt-rtx", capability), builder, None, [])
        assert chosen == expected
    assert config.num_compute_capabilities == 1
    assert features == [(1, True)] * 2  # memory follows the shapes at hand
