"""Engines as users get them: built by another process, kept, found again, and nothing left behind by what fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fcnseg.engine import building, cache
from fcnseg.engine.build import Builder
from fcnseg.engine.building import BuildHooks, EngineRequest, ensure_engine, fastest_engine, identity_of
from fcnseg.engine.deploy import EngineOptions, build_engine, open_engine, verify_engine
from fcnseg.engine.load import model_of, load_engine, runtime
from fcnseg.engine.record import EngineIdentity, file_sha256, read_record, record_path, trusted, write_record
from fcnseg.engine.runtimes.pytorch import TorchEngine
from fcnseg.errors import EngineError, OutputError, SettingsError
from fcnseg.io.atomic import PART
from fcnseg.recipes import Shapes, load_recipe
from tests.conftest import TinyModel, make_tiny, mounted, photograph

SMALL = (Shapes((1, 1), (60, 80), (70, 90), 2),)
"""A range of sizes that is quickly compared."""


@pytest.fixture(scope="session")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """The smallest network there is."""
    return make_tiny(tmp_path_factory.mktemp("coarse"), stride=32)


def request_for(tiny: TinyModel, precision: str = "fp32", **more: object) -> EngineRequest:
    return EngineRequest(str(tiny.recipe), tiny.weights, "openvino", precision, SMALL, **more)  # type: ignore[arg-type]


def build_here(tiny: TinyModel, precision: str, out: Path, *, images: Path | None = None, floor: float = 0.5) -> Path:
    """Build in this process, which has the exporter loaded."""
    recipe = load_recipe(tiny.recipe)
    request = request_for(tiny, precision, calibrate={"color": images} if images else {})
    wanted = building._Wanted(request)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.parent / f"{PART}work-{precision}"
    work.mkdir(exist_ok=True)
    with Builder(recipe, tiny.weights, building.images_for(recipe, wanted.images), work) as builder:
        builder.build(wanted.identity, out, floor)
    return out


@pytest.fixture(scope="module")
def built(coarse: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An fp32 engine of the small network."""
    return build_here(coarse, "fp32", tmp_path_factory.mktemp("built") / "fp32.engine", floor=0.9999)


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("FCNSEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def unfinished(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if PART in p.name or p.suffix == ".lock"]


# ---------------------------------------------------------------------- what is built


def test_a_first_use_builds_and_a_second_finds(coarse: TinyModel, own_home: Path) -> None:
    notes: list[str] = []
    phases: list[str] = []
    hooks = BuildHooks(notes.append, lambda phase, fraction: phases.append(phase))
    file = ensure_engine(request_for(coarse), hooks)
    assert notes == [f"building {load_recipe(coarse.recipe).name} for openvino, fp32: first use"]
    assert {"exporting the graph", "compiling", "verifying"} <= set(phases)
    sidecar = read_record(file)
    assert sidecar.verification
    assert sidecar.verification.passed
    assert [str(c) for c in sidecar.verification.cases] == [
        f"{w} x {h}, batch {n}" for h, w in [(1, 1), (60, 80), (70, 90)] for n in (1, 2)
    ]
    assert not unfinished(own_home)
    notes.clear()
    assert ensure_engine(request_for(coarse), hooks) == file
    anywhere = replace(request_for(coarse), shapes=())
    assert ensure_engine(anywhere, hooks) == file, "an engine for other sizes will do where none are asked for"
    assert notes == []


def test_the_engine_gives_the_networks_labels_whatever_the_company(coarse: TinyModel, built: Path) -> None:
    recipe = load_recipe(coarse.recipe)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)
    with load_engine(recipe, built) as engine, TorchEngine(recipe, coarse.weights, "cpu") as network:
        together = engine.infer({"color": pixels})[0]["labels"]
        assert (together == network.infer({"color": pixels})[0]["labels"]).mean() > 0.999
        for row in range(3):
            assert (together[row] == engine.infer({"color": pixels[row : row + 1]})[0]["labels"][0]).all()
        with pytest.raises(EngineError, match="labels alone"):
            engine.infer({"color": pixels}, probabilities=True)
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"color": pixels})


@pytest.mark.parametrize("geometry", ["same", "caffe"])
def test_int8_is_calibrated_on_the_users_images(geometry: str, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    coarse = make_tiny(tmp_path, stride=32, geometry=geometry)
    for i in range(3):
        photograph(tmp_path / "photos" / f"{i}.png", 90, 70, seed=i)
    file = build_here(coarse, "int8", tmp_path / "int8.engine", images=tmp_path / "photos")
    sidecar = read_record(file)
    assert sidecar.identity.calibration
    assert sidecar.verification
    assert sidecar.verification.images == "3 of the user's images"
    with load_engine(load_recipe(coarse.recipe), file) as engine:  # reads the compiled precision back
        assert engine.info.precision == "int8"


def test_other_calibration_images_are_another_engine(coarse: TinyModel, tmp_path: Path) -> None:
    photograph(tmp_path / "a" / "1.png", seed=1)
    photograph(tmp_path / "b" / "1.png", seed=2)
    first, second = (
        building._Wanted(request_for(coarse, "int8", calibrate={"color": tmp_path / name})).identity for name in "ab"
    )
    assert first.differences(second)[0].startswith("calibration (")


@pytest.mark.usefixtures("own_home")
def test_auto_takes_the_fastest_that_gives_the_networks_labels(coarse: TinyModel) -> None:
    recipe = load_recipe(coarse.recipe)
    seconds = {"fp32": 0.2, "bf16": 0.1, "int8": 0.05}
    for precision in ("fp32", "bf16"):
        identity = identity_of(recipe, request_for(coarse, precision), [])
        keep(identity, seconds[precision])
    file = fastest_engine(request_for(coarse), ["bf16", "fp32"], BuildHooks())
    assert read_record(file).identity.precision == "bf16"
    cache.remove(file)
    keep(identity, 0.1, held=False)
    file = fastest_engine(request_for(coarse), ["bf16", "fp32"], BuildHooks())
    assert read_record(file).identity.precision == "fp32"
    with pytest.raises(EngineError, match=r"earlier build .* did not give the network's labels"):
        ensure_engine(request_for(coarse, "bf16"), BuildHooks())


def keep(identity: EngineIdentity, seconds: float, *, held: bool = True, floor: float = 0.99, agreement: float = 1.0) -> Path:
    """A record in the cache, with an engine file of eight bytes."""
    from fcnseg.engine.record import EngineRecord
    from fcnseg.types import Verification

    path = cache.engine_path(identity, cache.SUFFIX if held else cache.REJECTED)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345678")
    found = Verification(held, floor, agreement, "nowhere", None, ("1 x 1, batch 1",), "images", seconds)
    write_record(path, EngineRecord(identity, path.name, file_sha256(path), 8, "", found, {}, "2026", 1.0, "", ""))
    if not held:
        path.unlink()
    return path


@pytest.mark.usefixtures("own_home")
def test_an_engine_that_was_held_to_less_is_not_taken(coarse: TinyModel) -> None:
    request = request_for(coarse, "bf16")
    wanted = building._Wanted(request)
    path = keep(wanted.identity, 0.1, floor=0.0, agreement=0.95)
    assert wanted.recorded() is None
    assert cache.reason_to_build(wanted.identity) == "the kept one was only held to 0.00% of the pixels"
    assert ensure_engine(replace(request, floor=0.0), BuildHooks()) == path
    assert ensure_engine(request, BuildHooks(), proved=False) == path
    keep(wanted.identity, 0.1, floor=0.0)
    assert wanted.recorded() == path, "no pixel differed"
    keep(wanted.identity, 0.1, floor=0.995, agreement=0.996)
    assert wanted.recorded() == path


@pytest.mark.usefixtures("own_home")
def test_a_rejection_counts_for_its_floor_and_higher_ones(coarse: TinyModel) -> None:
    request = request_for(coarse, "bf16")
    keep(building._Wanted(request).identity, 0.1, held=False, floor=0.99)
    for floor in (None, 0.99, 0.999):
        assert building._Wanted(replace(request, floor=floor)).rejection()
    for floor in (0.0, 0.98):
        assert not building._Wanted(replace(request, floor=floor)).rejection()


@pytest.mark.usefixtures("own_home")
def test_auto_compares_speeds_a_pixel(coarse: TinyModel) -> None:
    large = replace(SMALL[0], typical=(600, 800), largest=(600, 800))
    for precision, shapes, seconds in (("fp32", SMALL, 0.1), ("bf16", (large,), 1.0)):
        request = replace(request_for(coarse, precision), shapes=shapes)
        keep(building._Wanted(request).identity, seconds)
    file = fastest_engine(replace(request_for(coarse), shapes=()), ["bf16", "fp32"], BuildHooks())
    assert read_record(file).identity.precision == "bf16"


class FakeBuilder:
    """Stands in for the other process: keeps a record for precisions without a reason, and counts its jobs."""

    def __init__(self, tiny: TinyModel, reasons: dict[str, str], dies_at: str = "") -> None:
        self.tiny, self.reasons, self.dies_at, self.jobs = tiny, reasons, dies_at, []  # type: ignore[var-annotated]

    def __call__(self, module: str, job: dict[str, Any], on_message: Any) -> str:
        assert module == "fcnseg.engine.building"
        self.jobs.append(job["precisions"])
        for precision in job["precisions"]:
            if precision == self.dies_at:
                return "it ran out of memory"
            reason = self.reasons.get(precision, "")
            if not reason:
                keep(building._Wanted(request_for(self.tiny, precision)).identity, 0.1, floor=0.9999)
            on_message({"precision": precision, "outcome": reason})
        return ""


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize("dies_at", ["", "bf16"])
def test_auto_says_what_it_cannot_build_and_does_not_try_it_again(
    coarse: TinyModel, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    builder = FakeBuilder(coarse, {"bf16": "no such layer"}, dies_at)
    monkeypatch.setattr(building, "run_job", builder)
    notes: list[str] = []
    hooks = BuildHooks(notes.append)
    for _ in range(2):
        file = fastest_engine(request_for(coarse), ["bf16", "fp32"], hooks)
        assert read_record(file).identity.precision == "fp32"
    assert len(notes) == 2
    reason = "the process that builds the engine died: it ran out of memory" if dies_at else "no such layer"
    assert notes[1].startswith(f"bf16 is left out: {reason}")
    assert builder.jobs == ([["bf16", "fp32"], ["fp32"]] if dies_at else [["bf16", "fp32"]])
    builder.reasons = {}
    builder.dies_at = ""
    fastest_engine(request_for(coarse), ["bf16", "fp32"], hooks, force=True)
    assert builder.jobs[-1] == ["bf16", "fp32"]


@pytest.mark.usefixtures("own_home")
def test_auto_without_any_engine_gives_every_reason(coarse: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = FakeBuilder(coarse, {"bf16": "no such layer", "fp32": "no such type"})
    monkeypatch.setattr(building, "run_job", builder)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"bf16: no such layer; fp32: no such type.*--force"):
            fastest_engine(request_for(coarse), ["bf16", "fp32"], BuildHooks())
    assert len(builder.jobs) == 1
    assert len(cache.strays()) == 2
    for stray in cache.strays():
        cache.remove(stray)
    assert not cache.strays()


@pytest.mark.usefixtures("own_home")
def test_who_waits_for_another_process_is_told(coarse: TinyModel) -> None:
    identity = building._Wanted(request_for(coarse)).identity
    notes: list[str] = []
    waiting = threading.Thread(target=lambda: cache.building([identity], notes.append).__enter__())
    with cache.building([identity], notes.append):
        waiting.start()
        wait_for(lambda: notes)
    waiting.join()
    assert notes == ["another process builds this engine; waiting for it"]


def test_companions_of_calibration_images_lie_in_their_own_folders(tmp_path: Path) -> None:
    model = make_tiny(tmp_path, streams="hha", stride=32)
    photograph(tmp_path / "photos" / "a.png")
    photograph(tmp_path / "hha" / "b.png")
    folders = {"color": tmp_path / "photos", "hha": tmp_path / "hha"}
    with pytest.raises(
        SettingsError, match=r"no hha image named a .*give --hha the folders that belong to --calibrate"
    ):
        building._Wanted(request_for(model, "int8", calibrate=folders))


# ---------------------------------------------------------------------- what is opened


def test_an_engine_file_settles_what_else_could_be_stated(coarse: TinyModel, built: Path, tmp_path: Path) -> None:
    model = str(coarse.recipe)
    with pytest.raises(SettingsError, match="leave out --weights and --precision"):
        open_engine(EngineOptions(model, coarse.weights, precision="fp32", engine=built))
    for file in (tmp_path, tmp_path / "absent", Path()):
        with pytest.raises(SettingsError, match="build-engine --out FILE"):
            open_engine(EngineOptions(model, engine=file))
        with pytest.raises(SettingsError, match="build-engine --out FILE"):
            model_of(file)
    assert open_engine(EngineOptions(model, engine=built)).info.file == built


def test_an_engine_for_a_range_of_sizes_says_so(coarse: TinyModel, built: Path) -> None:
    recipe, sidecar = load_recipe(coarse.recipe), read_record(built)
    fixed = replace(sidecar, identity=replace(sidecar.identity, backend="tensorrt"))
    found = [runtime(recipe, built, record).info for record in (sidecar, fixed)]
    assert [(info.largest, info.max_batch) for info in found] == [(None, 1), ((70, 90), 2)]


def test_a_model_whose_recipe_is_gone_is_known_by_name(copied: Path) -> None:
    sidecar = read_record(copied)
    assert model_of(copied) == sidecar.model_source
    write_record(copied, replace(sidecar, model_source="/gone.toml"))
    assert model_of(copied) == sidecar.identity.model


def test_torch_runs_what_cannot_be_built_or_entered(
    coarse: TinyModel, built: Path, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = EngineOptions(str(coarse.recipe), coarse.weights)
    pixels = {"color": np.zeros((1, 5, 7, 3), np.uint8)}
    notes: list[str] = []
    own_home.write_text("a file")  # where the cache's folder would be
    with open_engine(options, BuildHooks(notes.append)) as engine:
        assert (engine.info.backend, engine.info.choice) == ("torch", "openvino cannot be used")
    assert "openvino cannot be used: cannot keep engines in" in notes[0]
    monkeypatch.undo()
    broken = tmp_path / "broken.engine"
    broken.write_bytes(bytes(100))
    write_record(broken, replace(read_record(built), file_sha256=file_sha256(broken), file_bytes=100))
    monkeypatch.setattr("fcnseg.engine.deploy.fastest_engine", lambda *_: broken)
    notes.clear()
    with open_engine(options, BuildHooks(notes.append)) as engine:
        assert engine.info.backend == "torch"
        assert engine.infer(pixels)[0]["labels"].shape == (1, 5, 7)
    assert "cannot load" in notes[0]
    with pytest.raises(EngineError, match="cannot load"):
        open_engine(replace(options, backend="openvino")).__enter__()


def test_an_engine_is_built_for_the_models_sizes_unless_others_are_asked_for(
    coarse: TinyModel, monkeypatch: pytest.MonkeyPatch, built: Path
) -> None:
    requests: list[EngineRequest] = []
    monkeypatch.setattr(
        "fcnseg.engine.deploy.ensure_engine", lambda request, *_, **__: requests.append(request) or built
    )
    build_engine(EngineOptions(str(coarse.recipe), coarse.weights, precision="fp32"))
    assert requests[0].shapes == (load_recipe(coarse.recipe).shapes,)


def test_the_fastest_engine_can_be_put_anywhere(
    coarse: TinyModel, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcnseg.engine.deploy.fastest_engine", lambda *_, **__: built)
    file, sidecar = build_engine(EngineOptions(str(coarse.recipe), coarse.weights), out=tmp_path / "new" / "my.engine")
    assert (file, sidecar.file) == (tmp_path / "new" / "my.engine", "my.engine")
    assert trusted(file).file_sha256 == read_record(built).file_sha256


def test_a_new_comparison_is_recorded_and_counts(
    coarse: TinyModel, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "copy.engine"
    cache.copy_engine(built, copied)
    sidecar = read_record(copied)
    assert sidecar.verification
    write_record(copied, replace(sidecar, verification=replace(sidecar.verification, images="none")))
    found = verify_engine(copied).verification
    assert found
    assert found.images.endswith("of the example photographs")
    assert read_record(copied).verification == found
    other = make_tiny(tmp_path, stride=32, seed=2)
    monkeypatch.setattr(
        "fcnseg.engine.runtimes.pytorch.TorchEngine",
        lambda recipe, weights, device: TorchEngine(recipe, other.weights, device),
    )
    with pytest.raises(EngineError, match="it does not give the network's labels"):
        verify_engine(copied)
    refused(coarse, copied, "does not give the network's labels, worst at")
    assert load_engine(load_recipe(coarse.recipe), copied, proved=False)


def test_what_no_device_here_runs_is_not_called_wrong(copied: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    sidecar = read_record(copied)
    write_record(copied, replace(sidecar, identity=replace(sidecar.identity, backend="tensorrt")))
    found = verify_engine(copied)
    assert (found.verification, found.note) == (None, "not verifiable here: tensorrt needs an NVIDIA GPU")
    assert read_record(copied).verification == sidecar.verification


# ---------------------------------------------------------------------- what is refused


@pytest.fixture
def copied(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the engine with its record; the library must not see it."""
    file = tmp_path / "copy.engine"
    file.write_bytes(built.read_bytes())
    write_record(file, read_record(built))
    monkeypatch.setattr("fcnseg.engine.runtimes.openvino._core", lambda: pytest.fail("the library was handed the file"))
    return file


def refused(coarse: TinyModel, file: Path, says: str) -> None:
    with pytest.raises(EngineError, match=says) as caught:
        load_engine(load_recipe(coarse.recipe), file).__enter__()
    assert "\n" not in str(caught.value)
    assert "fcnseg build-engine" in str(caught.value)


def test_damaged_engines_are_refused(coarse: TinyModel, copied: Path) -> None:
    whole = copied.read_bytes()
    copied.write_bytes(whole[:-1])
    refused(coarse, copied, "instead of the recorded")
    copied.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(coarse, copied, "was changed since it was built")
    copied.unlink()
    refused(coarse, copied, "cannot be read")


def test_unrecorded_and_foreign_engines_are_refused(
    coarse: TinyModel, copied: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("own_home")  # another machine's: another key
    refused(coarse, copied, "not written on this machine")
    record_path(copied).write_text("{}")
    refused(coarse, copied, "is no engine record")
    record_path(copied).write_text("no json")
    refused(coarse, copied, "cannot be read")
    record_path(copied).unlink()
    refused(coarse, copied, "is not trusted")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"device": "Another CPU"}, "was built for Another CPU"),
        ({"library": "openvino 1.0"}, "built with openvino 1.0, here is openvino"),
        ({"recipe": "0" * 64}, "another recipe"),
        ({"backend": "abacus"}, "does not know"),
        ({"code": "0" * 64}, "another version of fcnseg"),
    ],
)
def test_engines_for_something_else_are_refused(
    coarse: TinyModel, copied: Path, change: dict[str, str], says: str
) -> None:
    sidecar = read_record(copied)
    write_record(copied, replace(sidecar, identity=replace(sidecar.identity, **change)))
    refused(coarse, copied, says)


def test_an_edited_record_is_refused(coarse: TinyModel, copied: Path) -> None:
    path = record_path(copied)
    path.write_text(path.read_text().replace('"fp32"', '"bf16"'))
    refused(coarse, copied, "or was edited")


@pytest.mark.usefixtures("own_home")
def test_a_damaged_engine_in_the_cache_is_built_again_and_says_so(coarse: TinyModel) -> None:
    identity = identity_of(load_recipe(coarse.recipe), request_for(coarse), [])
    keep(identity, 0.1).write_bytes(b"1234")
    assert "4 bytes instead of the recorded 8" in cache.reason_to_build(identity)
    cache.engine_path(replace(identity, library="openvino 8"), ".engine").mkdir()
    other = replace(identity, weights="f" * 64, library="openvino 9")
    assert cache.reason_to_build(other) == (
        f"changed: weights ({identity.weights[:8]} -> ffffffff), library ({identity.library} -> openvino 9)"
    )


@pytest.mark.usefixtures("own_home")
def test_an_engine_below_the_floor_is_not_published_and_remembered(
    coarse: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_tiny(tmp_path, stride=32, seed=2)
    monkeypatch.setattr(
        "fcnseg.engine.build.TorchEngine", lambda recipe, weights, device: TorchEngine(recipe, other.weights, device)
    )
    recipe = load_recipe(coarse.recipe)
    identity = identity_of(recipe, request_for(coarse), [])
    target = cache.engine_path(identity)
    with pytest.raises(EngineError, match=r"worst at \d+ x \d+, batch .* instead of"):
        build_here(coarse, "fp32", target, floor=0.9999)
    assert not target.exists()
    assert not record_path(target).exists()
    found = cache.rejected(identity)
    assert found
    assert found.agreement < 0.9999
    build_here(coarse, "fp32", target, floor=0.0)
    assert target.is_file()
    assert cache.rejected(identity) is None
    assert building._Wanted(request_for(coarse)).recorded() is None


# ---------------------------------------------------------------------- what goes wrong


def command(tiny: TinyModel, *more: object) -> list[str]:
    sizes = ["--min-shape", "1x1", "--opt-shape", "80x60", "--max-shape", "90x70", "--max-batch", "2"]
    return [sys.executable, "-m", "fcnseg", "build-engine", str(tiny.recipe), "--weights", str(tiny.weights),
            "--precision", "fp32", *sizes, *map(str, more)]  # fmt: skip


def start(tiny: TinyModel, *more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(tiny, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.fixture
def builders() -> Iterator[list[subprocess.Popen[str]]]:
    """Commands that are ended with the test."""
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        process.kill()
        process.wait()


def wait_for(what: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_two_at_once_build_once(coarse: TinyModel, builders: list[subprocess.Popen[str]], own_home: Path) -> None:
    builders += [start(coarse), start(coarse)]
    said = [p.communicate(timeout=300) for p in builders]
    assert [p.returncode for p in builders] == [0, 0], said
    assert sum("building tiny" in err for _, err in said) == 1
    assert len({out for out, _ in said}) == 1
    assert not unfinished(own_home)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_ended_build_leaves_nothing_that_is_used(
    coarse: TinyModel, builders: list[subprocess.Popen[str]], own_home: Path, ending: signal.Signals
) -> None:
    builders.append(start(coarse))
    wait_for(lambda: list(own_home.rglob(f"{PART}*")))  # the builder has begun
    wait_for(lambda: children_of(builders[0]))
    children = children_of(builders[0])
    os.kill(builders[0].pid, ending)
    _, err = builders[0].communicate(timeout=120)
    wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and alive(pid) for pid in children))
    assert not list(own_home.rglob(f"*{cache.SUFFIX}"))
    if ending == signal.SIGINT:
        assert builders[0].returncode == 130
        assert "Traceback" not in err
        assert "nothing of it is left" in err
        assert not unfinished(own_home)
    else:
        assert not cache.strays()
        assert not list(own_home.rglob(f"{PART}*"))


def children_of(process: subprocess.Popen[str]) -> list[str]:
    return subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout.split()


def alive(pid: str) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def test_a_builder_that_dies_is_one_line(
    coarse: TinyModel, own_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nread job\necho 'terminate called' >&2\nkill -9 $$\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(EngineError, match="died: it ran out of memory") as caught:
        ensure_engine(request_for(coarse), BuildHooks())
    assert "\n" not in str(caught.value)
    assert not unfinished(own_home)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing(
    coarse: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounted(tmp_path / "small", "size=100k") as small:
        monkeypatch.setenv("FCNSEG_HOME", str(small))
        with pytest.raises(OutputError, match="No space left") as caught:
            ensure_engine(request_for(coarse), BuildHooks())
        assert "\n" not in str(caught.value)
        assert not unfinished(small)


def test_a_cache_that_may_not_be_written(coarse: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted(tmp_path / "locked", "ro") as locked:
        monkeypatch.setenv("FCNSEG_HOME", str(locked))
        with pytest.raises(OutputError, match="Read-only file system; set FCNSEG_HOME"):
            ensure_engine(request_for(coarse), BuildHooks())


@pytest.mark.usefixtures("own_home")
def test_int8_needs_images_that_can_be_read(coarse: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--calibrate DIR"):
        ensure_engine(request_for(coarse, "int8"), BuildHooks())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(SettingsError, match=r"calibration image .*broken\.jpg cannot be read"):
        building.images_for(
            load_recipe(coarse.recipe),
            building._Wanted(request_for(coarse, "int8", calibrate={"color": tmp_path / "photos"})).images,
        )
