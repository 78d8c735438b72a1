"""The model that ships: its size, its card, and what it does on real and rendered streets."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fcnseg
from fcnseg.recipes import find_recipe, recipe_folder
from fcnseg.scoring.confusion import confusion
from fcnseg.scoring.measures import Tally, mean_iu

ROOT = Path(__file__).parent.parent
CAMVID = ROOT.parent / "shared" / "camvid" / "val"
CARD = (recipe_folder() / "street-fcn8s.md").read_text()


@pytest.fixture(scope="module")
def segmenter() -> Iterator[fcnseg.Segmenter]:
    with fcnseg.load(device="cpu") as loaded:
        yield loaded


def measured(segmenter: fcnseg.Segmenter, folder: Path) -> float:
    """Mean IU in percent over a folder of images/ and labels/."""
    counts = np.zeros((11, 11), np.int64)
    for path in sorted((folder / "images").iterdir()):
        truth = np.array(Image.open(folder / "labels" / f"{path.stem}.png"))
        truth[truth >= 11] = 255
        counts += confusion(truth, segmenter(path).labels["labels"], 11)
    return 100 * float(mean_iu(Tally.of(counts)))


def claimed(what: str) -> float:
    (figure,) = re.findall(rf"\| {what} \| ([0-9.]+) %", CARD)
    return float(figure)


def test_it_is_small_and_the_card_is_beside_it() -> None:
    bundled = find_recipe("street-fcn8s").bundled
    assert bundled is not None
    assert bundled.stat().st_size <= 20e6


@pytest.mark.slow
@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs the CamVid photographs")
def test_mean_iu_on_photographs_is_what_the_card_says(segmenter: fcnseg.Segmenter) -> None:
    found = measured(segmenter, CAMVID)
    assert found >= 52
    assert found == pytest.approx(claimed("mean IU, camvid/val"), abs=0.1)


def test_mean_iu_on_the_examples_is_what_the_card_says(segmenter: fcnseg.Segmenter) -> None:
    found = measured(segmenter, ROOT / "examples" / "street")
    assert found == pytest.approx(claimed("mean IU, examples/street"), abs=0.1)
