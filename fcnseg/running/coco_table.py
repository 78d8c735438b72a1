"""COCO's JSON of a run: images, categories, and an annotation for each class in each image, as RLE or as polygons."""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fcnseg.errors import SettingsError
from fcnseg.io.names import plain
from fcnseg.running.class_choice import Heads
from fcnseg.running.outlines import polygons
from fcnseg.types import EngineInfo, Frame, Prediction

SPOOL_BYTES = 64 << 20
"""How much of the annotations waits in memory, until all images are written; more goes to an unnamed file."""


class CocoTable:
    """One annotation for each class that occurs in an image: semantic segmentation knows no instances.

    `labels` are the classes that are annotated. `tolerance` None: run-length encodings, which are exact; else a polygon
    for each connected region, within so many pixels of its outline: 0 is exact. Areas and boxes are those of the pixels
    in any case.
    """

    def __init__(self, info: EngineInfo, labels: Iterable[int], tolerance: float | None = None) -> None:
        (self.head, self.space), *_ = info.heads.items()
        self.labels, self.tolerance, self.info = tuple(labels), tolerance, info

    def entry(self, frame: Frame, prediction: Prediction) -> bytes:
        """Return the size of the image and its annotations, without numbers, as compressed JSON."""
        height, width = frame.size
        labels = prediction.labels[self.head]
        present = set(np.unique(labels).tolist())
        annotations = [self._annotation(labels == label, label) for label in self.labels if label in present]
        return zlib.compress(json.dumps([width, height, annotations]).encode(), 1)

    def _annotation(self, mask: Any, label: int) -> str:
        """Return an annotation as the inside of a JSON object."""
        from pycocotools import mask as rle  # an extra

        encoded = rle.encode(np.asfortranarray(mask.view(np.uint8)))
        segmentation: Any = {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}
        if self.tolerance is not None:
            segmentation = [ring.ravel().tolist() for ring in polygons(mask, self.tolerance)]
        values = {
            "category_id": label,
            "area": int(rle.area(encoded)),
            "bbox": [int(side) for side in rle.toBbox(encoded)],
            "iscrowd": 0,
            "segmentation": segmentation,
        }
        return json.dumps(values, separators=(",", ":"))[1:-1]

    def write(self, file: BinaryIO, entries: Iterable[tuple[str, bytes]]) -> None:
        """Write the file: images and annotations are numbered from 1, and stream."""
        versions = self.info.versions.get("fcnseg", "")
        info = {"description": f"{self.info.model} by fcnseg {versions}", "weights_sha256": self.info.weights_sha256}
        categories = [{"id": label, "name": self.space.names[label]} for label in self.labels]
        file.write(f'{{"info":{json.dumps(info)},"categories":{json.dumps(categories)},"images":['.encode())
        folder = str(Path(file.name).parent) if hasattr(file, "name") else None  # there is room where the file is to be
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=folder) as annotations:
            number = 0
            for image, (key, entry) in enumerate(entries, 1):
                width, height, texts = json.loads(zlib.decompress(entry))
                described = {"id": image, "file_name": plain(key), "width": width, "height": height}
                file.write(f"{',' if image > 1 else ''}\n{json.dumps(described)}".encode())
                for text in texts:
                    number += 1
                    start = "," if number > 1 else ""
                    annotations.write(f'{start}\n{{"id":{number},"image_id":{image},{text}}}'.encode())
            file.write(b'\n],"annotations":[')
            annotations.seek(0)
            shutil.copyfileobj(annotations, file, 1 << 20)
        file.write(b"\n]}\n")


def refuse_several_heads(model: str, heads: Heads) -> None:
    """Raise SettingsError for a model of several heads: there is one set of categories in a file."""
    if len(heads) > 1:
        raise SettingsError(
            f"--polygons: {model} has the heads {' and '.join(heads)}, and a COCO file has one set of categories; use "
            "--yolo, which has a folder for each head"
        )
