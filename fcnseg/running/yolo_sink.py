"""Label maps as text files of polygons, in the form that YOLO's segmentation models are trained with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fcnseg.running.outlines import Ring, class_polygons
from fcnseg.running.sinks import Content, FileSink
from fcnseg.types import EngineInfo, Frame, Labels, Prediction, Storage


class YoloSink(FileSink):
    """A line for each connected region of a class: its label, then x and y of each corner, as shares of the sides.

    `labels` are the classes that are written, by head; `tolerance` is that of `outlines.polygons`, px.
    """

    suffix = ".txt"

    def __init__(
        self, storage: Storage, info: EngineInfo, labels: Mapping[str, tuple[int, ...]], tolerance: float = 0
    ) -> None:
        super().__init__(storage, info)
        self.labels, self.tolerance = labels, tolerance

    def encode_head(self, frame: Frame, prediction: Prediction, head: str) -> Content:  # noqa: ARG002
        """Return the text of one head's polygons."""
        return self._lines(prediction.labels[head], self.labels.get(head, ()))

    def _lines(self, labels: Labels, chosen: tuple[int, ...]) -> Iterator[bytes]:
        for label, rings in class_polygons(labels, chosen, self.tolerance):
            for ring in rings:
                yield f"{label} {_shares(ring, *labels.shape)}\n".encode()


def _shares(ring: Ring, height: int, width: int) -> str:
    """Return the corners as shares, 0 to 1, with digits enough for the pixel up to 65,536 a side."""
    return " ".join(f"{x / width:.7g} {y / height:.7g}" for x, y in ring.tolist())
