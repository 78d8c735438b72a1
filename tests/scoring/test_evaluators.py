"""Scores against the evaluators that others publish: cityscapesScripts, torchmetrics, scikit-learn."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as cityscapes  # noqa: N813 - a module
from cityscapesscripts.helpers.labels import labels as cityscapes_labels
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_fscore_support
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import DiceScore

from fcnseg.scoring.measures import Tally, per_image_means
from fcnseg.scoring.named_labels import named_labels
from tests.scoring.maps import random_maps, save, scored


def cityscapes_pairs(folder: Path, images: int) -> list[tuple[Path, Path]]:
    """Label ids of every kind on both sides: void ones too."""
    rng = np.random.default_rng(images)
    pairs = []
    for number in range(images):
        truth = rng.integers(0, 34, (24, 31))
        predicted = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 34, truth.shape))
        name = f"aachen_{number:06}_000019"
        pairs.append(
            (
                save(folder / f"pred/{name}_leftImg8bit.png", predicted.astype(np.uint8)),
                save(folder / f"gt/aachen/{name}_gtFine_labelIds.png", truth.astype(np.uint8)),
            )
        )
    return pairs


def test_cityscapes_scripts_count_the_same(tmp_path: Path) -> None:
    args = cityscapes.args
    args.evalInstLevelScore, args.evalPixelAccuracy, args.quiet = False, False, True
    matrix, instances = cityscapes.generateMatrix(args), cityscapes.generateInstanceStats(args)
    for predicted, truth in cityscapes_pairs(tmp_path, 3):
        cityscapes.evaluatePair(str(predicted), str(truth), matrix, instances, {}, args)
    score = scored(
        tmp_path / "pred", tmp_path / "gt", labels="cityscapes", pred_labels="cityscapes",
        pred_pattern="{stem}_leftImg8bit.png", gt_pattern="*/{stem}_gtFine_labelIds.png",
    )  # fmt: skip
    ids = {label.name: label.id for label in cityscapes_labels if not label.ignoreInEval and 0 <= label.id < 34}
    assert {row.name: row.iu for row in score.per_class} == {
        name: cityscapes.getIouScoreForLabel(number, matrix, args) for name, number in ids.items()
    }
    assert score.predicted_void_pixels > 0
    assert score.averaged_over["mean_iu"] == 19


def test_cityscapes_values_and_colours_are_those_of_its_scripts() -> None:
    own = named_labels("cityscapes")
    evaluated = [label for label in cityscapes_labels if not label.ignoreInEval and 0 <= label.id < 34]
    assert own.classes == tuple(label.name for label in evaluated)
    assert own.colors == tuple(label.color for label in evaluated)
    for label in cityscapes_labels:
        if -1 <= label.id < 34:
            assert own.values[label.id] == (label.trainId if label.trainId not in (255, -1) else -1)
    train_ids = named_labels("cityscapes-train-ids")
    assert [train_ids.values[label.trainId] for label in evaluated] == [*range(19)]


@functools.cache
def street() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The shipped street labels, and predictions that are these moved by some pixels."""
    files = sorted(Path("examples/street/labels").glob("*.png"))[:4]
    truths = [np.asarray(Image.open(file))[:300, :400].astype(np.int64) for file in files]
    return np.stack(truths), np.stack([np.roll(t, (3, 5), (0, 1)) for t in truths])


def test_street_labels_score_as_in_scikit_learn_and_torchmetrics(tmp_path: Path) -> None:
    truths, predictions = street()
    for number, (truth, predicted) in enumerate(zip(truths, predictions, strict=True)):
        save(tmp_path / f"gt/{number}.png", truth.astype(np.uint8))
        save(tmp_path / f"pred/{number}.png", predicted.astype(np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", model="street-fcn8s")
    counted = truths != 11
    true, given = truths[counted], predictions[counted]
    np.testing.assert_array_equal(score.confusion, confusion_matrix(true, given, labels=range(11)))
    precision, recall, dice, _ = precision_recall_fscore_support(true, given, labels=range(11), zero_division=np.nan)
    for name, theirs in (("precision", precision), ("accuracy", recall), ("dice", dice)):
        np.testing.assert_allclose([getattr(row, name) for row in score.per_class], theirs, atol=1e-12)
    metric = MulticlassJaccardIndex(11, average=None, ignore_index=11)
    ius = metric(torch.from_numpy(predictions), torch.from_numpy(truths)).numpy()
    np.testing.assert_allclose([row.iu for row in score.per_class], ius, atol=1e-6)


def test_per_image_dice_is_torchmetrics(tmp_path: Path) -> None:
    pairs = [random_maps(seed, 5, void=0.0) for seed in range(6)]
    for number, (truth, predicted) in enumerate(pairs):
        save(tmp_path / f"gt/{number}.png", truth.astype(np.uint8))
        save(tmp_path / f"pred/{number}.png", predicted.astype(np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", classes=5)
    truths, predictions = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
    for background, ours in ((True, "mean_dice"), (False, "foreground_mean_dice")):
        metric = DiceScore(5, include_background=background, average="macro", input_format="index")
        assert float(metric(predictions, truths)) == pytest.approx(score.per_image[ours], abs=1e-6)


def test_per_image_means_leave_out_images_without_the_class() -> None:
    """As nnU-Net: of class 1, absent from the second image, the first alone counts; a false alarm there counts as 0."""
    margins = np.array([[[8, 4], [10, 4], [8, 6]], [[9, 0], [9, 0], [9, 0]], [[8, 0], [9, 0], [8, 1]]])
    means = per_image_means(Tally.of_margins(margins))
    assert means["foreground_mean_dice"] == pytest.approx((8 / 10 + 0) / 2)
    assert means["mean_dice"] == pytest.approx(((16 / 18 + 1 + 16 / 17) / 3 + 0.4) / 2)


def test_the_threshold_curve_is_scikit_learns(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    truth = rng.random((40, 50)) < 0.3
    probability = np.clip(rng.normal(np.where(truth, 0.6, 0.35), 0.2), 0, 1).astype(np.float32)
    (tmp_path / "gt").mkdir()
    np.save(tmp_path / "gt/x.npy", truth)
    (tmp_path / "pred").mkdir()
    np.save(tmp_path / "pred/x.npy", probability)
    curve = scored(tmp_path / "pred", tmp_path / "gt", binary=True).thresholds
    assert curve is not None
    steps = np.ceil(probability.astype(np.float64) * 100)
    assert curve.average_precision == pytest.approx(average_precision_score(truth.ravel(), steps.ravel()), abs=1e-12)
    for point in curve.points[::10]:
        given = (probability > point.threshold).ravel()
        precision, recall, dice, _ = precision_recall_fscore_support(
            truth.ravel(), given, average="binary", zero_division=np.nan
        )
        np.testing.assert_allclose((point.precision, point.recall), (precision, recall), atol=1e-12)
        if point.precision == point.precision:
            assert point.dice == pytest.approx(dice, abs=1e-12)
