import doctest
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fcnseg
from fcnseg.errors import EngineError, ImageError, SettingsError, UnknownModelError, WeightsError
from fcnseg.running import segmenter as segmenter_module
from tests.conftest import TinyModel, make_tiny, photograph
from tests.snippets import ROOT


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(sorted((ROOT / "examples/street/images").glob("*.jpg"))[0], "photo.jpg")
    (example,) = doctest.DocTestFinder(recurse=False).find(segmenter_module.load, "load", globs={})
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every engine that a segmenter opens."""
    opened: list[Any] = []
    real = segmenter_module.engine_from

    def recording(*arguments: Any, **options: Any) -> Any:
        opened.append(real(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(segmenter_module, "engine_from", recording)
    return opened


def test_nothing_is_acquired_before_entry(tiny: TinyModel, engines: list[Any]) -> None:
    segmenter = fcnseg.load(str(tiny.recipe), tiny.weights, backend="torch")
    assert engines == []
    with segmenter:
        assert len(engines) == 1
        assert segmenter.info.backend == "torch"
    assert len(engines) == 1


def test_it_works_without_a_with_block(tmp_path: Path, tiny: TinyModel, engines: list[Any]) -> None:
    photo = photograph(tmp_path / "a.png")
    segmenter = fcnseg.load(str(tiny.recipe), str(tiny.weights), backend="torch")
    by_path = segmenter(photo)
    pixels, image = np.asarray(Image.open(photo)), Image.open(photo)
    for prediction in segmenter([str(photo), pixels, image], probabilities=True):
        assert np.array_equal(prediction.labels["labels"], by_path.labels["labels"])
        assert prediction.probabilities["labels"].shape == (5, 30, 40)
    assert len(engines) == 1  # torch's gives both
    with pytest.raises(ImageError):
        segmenter(tmp_path / "absent.png")
    segmenter.close()
    segmenter.close()
    with pytest.raises(EngineError, match="closed"):
        segmenter(photo)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"model": "street-fcn9s"}, UnknownModelError, "did you mean"),
        ({"model": "absent.toml"}, UnknownModelError, "no recipe file"),
        ({"backend": "caffe"}, SettingsError, "use auto, torch"),
        ({"device": "gpu"}, SettingsError, "auto, cpu, cuda"),
        ({"precision": "fp4"}, SettingsError, "auto, fp32, bf16"),
        ({"backend": "openvino", "precision": "fp16"}, SettingsError, "fp32, bf16, int8"),
        ({"engine": "absent.engine"}, SettingsError, "is not there"),
        ({"model": "nyud-fcn32s-hha"}, SettingsError, "use fcnseg.run"),
    ],
)
def test_faults_of_the_options_are_found_early(
    options: dict[str, Any], error: type[Exception], says: str, engines: list[Any]
) -> None:
    with pytest.raises(error, match=says):
        fcnseg.load(**options)
    assert engines == []


def test_missing_weights_are_found_at_first_use(tmp_path: Path) -> None:
    model = make_tiny(tmp_path)
    segmenter = fcnseg.load(str(model.recipe), tmp_path / "absent.safetensors", backend="torch")
    with pytest.raises(WeightsError, match=r"absent\.safetensors"), segmenter:
        pass
