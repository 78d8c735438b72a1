"""Counts of earlier scores, read from their JSON files: a data set is scored in parts, and then as a whole."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcnseg.errors import SettingsError
from fcnseg.scoring.counting import Comparison, Fault, Totals
from fcnseg.scoring.figures import margins_of

FREE = frozenset({"num_parts", "part_id", "resamplings", "list"})
"""Settings that may differ between a part and the whole, besides the `allow_` ones."""


def merge_partial_scores(files: Sequence[Path], keys: set[str], how: Comparison, settings: Mapping[str, Any]) -> Totals:
    """Add the counts of earlier scores; a folder stands for the `.json` files in it.

    Raises SettingsError for an unreadable file, one of other settings, and pairs in two files or not among `keys`.
    """
    totals = Totals(how.classes, how.bands)
    for file in (file for path in files for file in _json_files(path)):
        score = _read(file, str(settings["head"]))
        differing = [
            name
            for name, value in settings.items()
            if name not in FREE and not name.startswith("allow_") and score["settings"].get(name) != value
        ]
        if differing:
            raise SettingsError(
                f"{file} was scored with another {' and '.join(sorted(differing))}; score its images again"
            )
        try:
            part = _totals(score, how)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise _not_a_score(file) from error
        for wrong, fault in ((part.keys & totals.keys, "in another file too"), (part.keys - keys, "not to be scored")):
            if wrong:
                raise SettingsError(
                    f"{file} has {len(wrong)} images that are {fault}: {', '.join(sorted(wrong)[:3])}; "
                    "give each part of this data set once"
                )
        totals.merge(part)
    return totals


def _json_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.json"))
    if not files:
        raise SettingsError(f"{path} holds no .json files of scores; give them or their folder")
    return files


def _read(file: Path, head: str) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        score = values["heads"][head] if "heads" in values else values
        if not isinstance(score["settings"], dict):
            raise TypeError("settings")
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}; give the file that --json wrote") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _not_a_score(file) from error
    return dict(score)


def _not_a_score(file: Path) -> SettingsError:
    return SettingsError(f"{file} is no score; give a file that `fcnseg score --json` wrote")


def _totals(score: Mapping[str, Any], how: Comparison) -> Totals:
    classes = how.classes
    totals = Totals(classes, how.bands, void=int(score["void_pixels"]))
    totals.counts[:, :classes] += np.array(score["confusion"], np.int64)
    totals.counts[:, classes] += np.array([row["predicted_void_pixels"] for row in score["per_class"]], np.int64)
    totals.images = {image["key"]: margins_of(image["class_counts"], classes) for image in score["image_scores"]}
    totals.faults = [Fault(fault["key"], fault["reason"]) for fault in score["invalid"]]
    totals.faults += [Fault(key, f"{key} is all void", all_void=True) for key in score["all_void"]]
    totals.variables = set(score["settings"]["truth_variables"])
    if how.bands:
        totals.boundary += np.array([row["boundary_counts"] for row in score["per_class"]], np.int64).T
        totals.bands += np.stack([margins_of(band["class_counts"], classes) for band in score["bands"]])
    if score["calibration"]:
        bins = [(b["pixels"], b["accuracy"] or 0, b["confidence"] or 0) for b in score["calibration"]["bins"]]
        pixels, accuracy, confidence = np.array(bins, np.float64).T
        totals.add_bins(np.stack([pixels, np.rint(pixels * accuracy), pixels * confidence]))
    if score["thresholds"]:
        totals.add_curve(np.array(score["thresholds"]["counts"], np.int64))
    return totals
