import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.opencv_peer import OpenCvEngine, open_engine_or_peer
from fcnseg.engine.bench import BenchOptions, bench
from fcnseg.engine.bench_frames import made_up_frames
from fcnseg.engine.bench_session import Candidate, Workload
from fcnseg.engine.runtimes.pytorch import TorchEngine
from fcnseg.errors import EngineError, ImageError, SettingsError
from fcnseg.recipes import find_recipe
from tests.conftest import TinyModel, make_tiny

RNG = np.random.default_rng(0)

SKIP_SCALES = "[architecture.skip_scales]\npool3 = 0.5\npool4 = 2.0\n"


def image(height: int, width: int, count: int = 1) -> np.ndarray:
    return RNG.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("geometry", ["same", "caffe"])
@pytest.mark.parametrize(
    ("backbone", "stride"), [("vgg16", 8), ("vgg16", 16), ("vgg16", 32), ("alexnet", 32), ("googlenet", 32)]
)
def test_labels_and_probabilities_agree_with_torch_at_any_size(
    tmp_path: Path, backbone: str, stride: int, geometry: str
) -> None:
    model = make_tiny(tmp_path, backbone=backbone, stride=stride, geometry=geometry)
    recipe = find_recipe(model.recipe)
    with OpenCvEngine(recipe, model.weights) as theirs, TorchEngine(recipe, model.weights, "cpu") as ours:
        assert (theirs.info.backend, theirs.info.precision, theirs.info.device) == ("opencv", "fp32", "cpu")
        assert theirs.info.weights_sha256 == ours.info.weights_sha256
        for pixels in (image(60, 80, 2), image(33, 71), image(60, 80)):
            (labels, found), (expected, wanted) = (e.infer({"color": pixels}, True) for e in (theirs, ours))
            assert labels["labels"].dtype == np.uint8
            assert (labels["labels"] == expected["labels"]).mean() >= 0.999
            assert found is not None
            assert wanted is not None
            assert np.abs(found["labels"] - wanted["labels"]).max() < 1e-3


def test_a_network_with_scaled_skips_and_rgb_input_agrees(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from fcnseg.models import FCN, network_spec

    model = make_tiny(tmp_path)
    text = (
        model.recipe.read_text()
        .replace('order = "bgr"', 'order = "rgb"')
        .replace("[[streams]]", f"{SKIP_SCALES}[[streams]]")
    )
    model.recipe.write_text(text)
    recipe = find_recipe(model.recipe)
    state = {**FCN(network_spec(recipe)).state_dict(), **load_file(model.weights)}
    save_file({k: v.contiguous() for k, v in state.items()}, model.weights, {"recipe": recipe.name})
    with OpenCvEngine(recipe, model.weights) as theirs, TorchEngine(recipe, model.weights, "cpu") as ours:
        pixels = {"color": image(50, 70)}
        assert (theirs.infer(pixels)[0]["labels"] == ours.infer(pixels)[0]["labels"]).mean() >= 0.999


def test_what_it_cannot_do_is_said_before_anything_is_loaded(tmp_path: Path, tiny: TinyModel) -> None:
    with pytest.raises(SettingsError, match="use fp32"):
        OpenCvEngine(find_recipe(tiny.recipe), tiny.weights, "bf16")
    with pytest.raises(SettingsError, match="one colour image"):
        OpenCvEngine(find_recipe(make_tiny(tmp_path, streams="depth", stride=32).recipe))
    engine = OpenCvEngine(find_recipe(tiny.recipe), Path("nowhere.safetensors"))
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"color": image(3, 3)})
    with pytest.raises(ImageError, match="N x H x W x 3"):
        engine.infer({"color": image(3, 3).astype(np.float32)})


def test_a_missing_opencv_names_the_package(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with (
        pytest.raises(EngineError, match=r"pip install 'opencv-python-headless<5'"),
        OpenCvEngine(find_recipe(tiny.recipe), tiny.weights),
    ):
        pass


def test_an_opencv_without_the_importer_says_which_to_take(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    monkeypatch.delattr(cv2.dnn, "readNetFromCaffe")
    with (
        pytest.raises(EngineError, match="reads no Caffe files"),
        OpenCvEngine(find_recipe(tiny.recipe), tiny.weights),
    ):
        pass


def test_it_is_measured_beside_the_engines_of_fcnseg(tiny: TinyModel) -> None:
    recipe = find_recipe(tiny.recipe)
    opener = partial(open_engine_or_peer, str(tiny.recipe), tiny.weights, "cpu")
    workload = Workload(recipe, tuple(made_up_frames(recipe, (48, 64), 2)), opener, "cpu")
    candidates = [Candidate("opencv", "fp32"), Candidate("torch", "fp32")]
    result = bench(candidates, workload, BenchOptions(repeat=1, warm_up=1))
    assert result.peer == "opencv:fp32"
    for row in result.rows:
        assert (row.failure, row.device) == (None, "cpu")
        assert row.figures is not None
        assert row.figures.agreement is not None
        assert row.figures.agreement >= 0.999
    assert result.rows[0].figures is not None
    assert result.rows[0].figures.speed_ratio == 1


def test_without_torch_its_files_are_written_by_another_process(
    tiny: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with OpenCvEngine(find_recipe(tiny.recipe), tiny.weights) as engine:
        assert engine.infer({"color": image(40, 30)})[0]["labels"].shape == (1, 40, 30)
