"""Label maps and probabilities in the forms that people have: each read, or refused with the true reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fcnseg.errors import LabelsError
from tests.scoring.maps import scored

TRUTH = np.random.default_rng(1).integers(0, 4, (6, 9))
PREDICTED = np.where(np.random.default_rng(2).random(TRUTH.shape) < 0.7, TRUTH, 3 - TRUTH)
HOT = np.eye(4)[PREDICTED].transpose(2, 0, 1)
LOGITS = 3 * HOT + np.random.default_rng(3).random(HOT.shape)
SOFT = np.exp(LOGITS) / np.exp(LOGITS).sum(0)
Writer = Callable[[Path], Any]

READ: dict[str, Writer] = {
    "floats.npy": lambda p: np.save(p, PREDICTED.astype(np.float32)),
    "halves.npy": lambda p: np.save(p, PREDICTED.astype(np.float16)),
    "floats.tif": lambda p: Image.fromarray(PREDICTED.astype(np.float32)).save(p),
    "trailing.npy": lambda p: np.save(p, PREDICTED[..., None]),
    "floats trailing.npy": lambda p: np.save(p, PREDICTED[..., None].astype(np.float64)),
    "one-hot.npy": lambda p: np.save(p, HOT.astype(np.uint8)),
    "one-hot last.npy": lambda p: np.save(p, HOT.transpose(1, 2, 0).astype(bool)),
    "one-hot floats.npy": lambda p: np.save(p, HOT.astype(np.float32)),
    "probabilities.npy": lambda p: np.save(p, SOFT),
    "probabilities last.npy": lambda p: np.save(p, SOFT.transpose(1, 2, 0).astype(np.float32)),
    "batch of one.npy": lambda p: np.save(p, SOFT[None]),
    "plain.npz": lambda p: np.savez(p, PREDICTED),
    "labels.npz": lambda p: np.savez_compressed(p, image=np.zeros((6, 9, 3)), label=PREDICTED),
    "nnU-Net.npz": lambda p: np.savez_compressed(p, probabilities=SOFT[:, None].astype(np.float32)),
    "nnU-Net 1.npz": lambda p: np.savez_compressed(p, softmax=SOFT.astype(np.float16)),
}

REFUSED: dict[str, tuple[Writer, str]] = {
    "halved.npy": (lambda p: np.save(p, PREDICTED + 0.5), r"fractions H x W, 0\.5 to 3\.5; .*--binary"),
    "nan.npy": (lambda p: np.save(p, np.where(PREDICTED, 1.0, np.nan)), "fractions"),
    "logits.npy": (lambda p: np.save(p, 9 * LOGITS - 5), r"sum 1; --logits reads scores before softmax"),
    "sigmoid.npy": (
        lambda p: np.save(p, np.clip(HOT + 0.3, 0, 1)),
        r"whose sums are 1\.\d+ to .*independent \(sigmoid\)",
    ),
    "five.npy": (lambda p: np.save(p, np.full((5, 6, 9), 0.2)), "probabilities of 5 classes, expected 4"),
    "five last.npy": (lambda p: np.save(p, np.full((6, 9, 5), 0.2)), r"of 5 classes \(H x W x K\), expected 4"),
    "counts.npy": (lambda p: np.save(p, 7 * HOT.astype(np.int64)), "not one-hot"),
    "two.npz": (lambda p: np.savez(p, a=PREDICTED, b=PREDICTED), "holds a, b; expected one array"),
    "infinite.npy": (lambda p: np.save(p, np.where(HOT, np.inf, 0)), "not finite"),
}


def sides(folder: Path, write: Writer, name: str, truth: NDArray[Any] = TRUTH) -> tuple[Path, Path]:
    for side in ("pred", "gt"):
        (folder / side).mkdir()
    write(folder / "pred" / name)
    np.save(folder / "gt" / f"{Path(name).stem}.npy", truth)
    return folder / "pred", folder / "gt"


@pytest.mark.parametrize("name", READ)
def test_every_form_gives_the_same_counts(name: str, tmp_path: Path) -> None:
    score = scored(*sides(tmp_path, READ[name], name), classes=4)
    expected = np.zeros((4, 4), int)
    np.add.at(expected, (TRUTH.ravel(), PREDICTED.ravel()), 1)
    assert score.confusion.tolist() == expected.tolist()
    probable = "probabilities" in name or "nnU-Net" in name or name in ("batch of one.npy", "one-hot floats.npy")
    assert (score.calibration is not None) == probable


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_none_of_them_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    write, reason = REFUSED[name]
    with pytest.raises(LabelsError, match=reason):
        scored(*sides(tmp_path, write, name), classes=4)


def test_ground_truth_may_be_one_hot_but_not_uncertain(tmp_path: Path) -> None:
    predictions, truth = sides(tmp_path, lambda p: np.save(p, TRUTH), "x.npy", np.eye(4, dtype=np.float32)[TRUTH])
    assert scored(predictions, truth, classes=4).pixel_accuracy == 1
    np.save(truth / "x.npy", SOFT)
    with pytest.raises(LabelsError, match=r"gt/x.npy holds probabilities; ground truth must be labels"):
        scored(predictions, truth, classes=4)


def test_where_both_axes_fit_the_sums_tell(tmp_path: Path) -> None:
    first, last = np.array([[[0.9, 0.2]], [[0.1, 0.8]]]), np.array([[[0.9, 0.1]], [[0.3, 0.7]]])  # both 2 x 1 x 2
    pair = sides(tmp_path, lambda p: np.save(p, first), "x.npy", np.array([[0, 1]]))
    assert scored(*pair, classes=2).pixel_accuracy == 1
    np.save(pair[0] / "x.npy", last)
    np.save(pair[1] / "x.npy", np.array([[0], [1]]))
    assert scored(*pair, classes=2).pixel_accuracy == 1


def test_logits_are_read_if_said_so(tmp_path: Path) -> None:
    pair = sides(tmp_path, lambda p: np.save(p, LOGITS.astype(np.float32)), "x.npy")
    score = scored(*pair, classes=4, logits=True)
    np.save(pair[0] / "x.npy", np.rint(9 * LOGITS).astype(np.int8))
    assert scored(*pair, classes=4, logits=True).confusion.tolist() == score.confusion.tolist()
    np.save(pair[0] / "x.npy", SOFT.astype(np.float32))
    of_softmax = scored(*pair, classes=4)
    assert score.confusion.tolist() == of_softmax.confusion.tolist()
    assert score.calibration is not None
    assert of_softmax.calibration is not None
    assert score.calibration.expected_error == pytest.approx(of_softmax.calibration.expected_error, abs=1e-6)


@pytest.mark.parametrize("trailing", [False, True])
def test_sigmoid_masks(tmp_path: Path, trailing: bool) -> None:
    foreground = np.array([[0.1, 0.5, 0.51], [0.9, 1.0, 0.0]], np.float32)
    values = foreground[..., None] if trailing else foreground
    pair = sides(tmp_path, lambda p: np.save(p, values), "x.npy", np.array([[0, 0, 1], [1, 1, 0]]))
    score = scored(*pair, binary=True)
    assert (score.pixel_accuracy, score.calibration is not None, score.thresholds is not None) == (1, True, True)
    np.save(pair[0] / "x.npy", np.where(foreground > 0.5, 4.0, -4.5))
    assert scored(*pair, binary=True, logits=True).pixel_accuracy == 1
    with pytest.raises(LabelsError, match="--logits reads scores before the sigmoid"):
        scored(*pair, binary=True)
    np.save(pair[0] / "x.npy", np.where(foreground > 0.5, 255.0, 0.0))
    assert scored(*pair, binary=True).pixel_accuracy == 1


def test_many_maps_in_one_array(tmp_path: Path) -> None:
    np.save(tmp_path / "gt.npy", np.stack([TRUTH, PREDICTED, TRUTH]))
    np.save(tmp_path / "pred.npy", np.stack([TRUTH, TRUTH, TRUTH])[..., None])
    score = scored(tmp_path / "pred.npy", tmp_path / "gt.npy", classes=4)
    assert [(image.key, image.pixel_accuracy == 1) for image in score.image_scores] == [
        ("000000", True), ("000001", False), ("000002", True)
    ]  # fmt: skip
    np.save(tmp_path / "pred.npy", np.stack([SOFT, SOFT, SOFT]))
    assert scored(tmp_path / "pred.npy", tmp_path / "gt.npy", classes=4).images == 3
    np.save(tmp_path / "pred.npy", np.stack([TRUTH, TRUTH]))
    with pytest.raises(LabelsError, match="1 without a prediction: 000002"):
        scored(tmp_path / "pred.npy", tmp_path / "gt.npy", classes=4)
    with pytest.raises(LabelsError, match="of several maps N x H x W the file itself is given"):
        scored(*sides(tmp_path, lambda p: np.save(p, np.stack([TRUTH] * 5)), "x.npy"), classes=4)


def test_class_dict_names_classes_and_their_colours(tmp_path: Path) -> None:
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nroad,128,64,128\nVoid,0,0,0\ntraffic light,250,170,30\n")
    colors = np.array([[(128, 64, 128), (0, 0, 0), (250, 170, 30)]], np.uint8)
    pair = sides(tmp_path, lambda p: Image.fromarray(colors).save(p), "x.png", np.array([[0, 1, 2]]))
    score = scored(*pair, classes=tmp_path / "class_dict.csv")  # labels are lines of the file: 1 is void
    assert [row.name for row in score.per_class] == ["road", "traffic light"]
    assert (score.pixels, score.void_pixels, score.pixel_accuracy) == (2, 1, 1)
    (tmp_path / "palette.csv").write_text("name,r,g,b\n0,128,64,128\n1,0,0,0\n2,250,170,30\n")
    assert scored(*pair, classes=3, palette=tmp_path / "palette.csv").pixel_accuracy == 1


@pytest.mark.parametrize("separator", ["\t", " "])
def test_a_list_may_have_two_columns(tmp_path: Path, separator: str) -> None:
    for side, name in (("pred", "a_leftImg8bit"), ("gt", "a_gtFine_labelIds"), ("gt", "b_gtFine_labelIds")):
        (tmp_path / side / "city").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / side / "city" / f"{name}.npy", TRUTH)
    columns = "leftImg8bit/val/city/a_leftImg8bit.png", "gtFine/val/city/a_gtFine_labelIds.png"
    (tmp_path / "val.txt").write_text(separator.join(columns) + "\n")
    score = scored(tmp_path / "pred", tmp_path / "gt", classes=4, list=tmp_path / "val.txt")
    assert [image.key for image in score.image_scores] == ["a_leftImg8bit"]
