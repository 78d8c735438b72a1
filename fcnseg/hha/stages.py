"""The ends of the pipeline that encodes depth: a source that loads HHA images, and a sink of PNG files."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fcnseg.hha.depth_maps import DepthMaps
from fcnseg.hha.encoders import Encoders
from fcnseg.io.own_outputs import NAME, SOFTWARE
from fcnseg.io.storage import LocalFolder
from fcnseg.types import Failure, Frame, OutputName, Prediction, Reference, Reserve

MARK = (SOFTWARE, f"{NAME} hha")
"""Text chunk of the PNGs that are written: they may be overwritten."""

SUFFIX = ".png"


class HhaSource:
    """Depth maps as a source of HHA images: loading one encodes it."""

    def __init__(self, maps: DepthMaps, encoders: Encoders) -> None:
        self._maps, self._encoders = maps, encoders

    def __iter__(self) -> Iterator[Reference | Failure]:
        return iter(self._maps)

    def fingerprint(self, reference: Reference) -> str:
        """Return the fingerprint of a depth map, its raw one included."""
        return self._maps.fingerprint(reference)

    def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
        """Read a depth map and encode it. Raises ImageError."""
        pair = self._maps.read(reference)
        reserve(sum(part.nbytes for part in pair if part is not None))
        return Frame(reference.key, reference.stem, {"hha": self._encoders(pair)})

    def close(self) -> None:
        """Nothing of its own is open."""


class NoNetwork:
    """A predictor that predicts nothing: HHA images go to their sink as they are."""

    batch = 1

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()

    def prepared(self, frame: Frame) -> Frame:
        """Return the frame as it is."""
        return frame

    def stream(self, batches: Iterable[Sequence[Frame]]) -> Iterator[tuple[Frame, Prediction]]:
        """Yield every frame with an empty prediction."""
        for batch in batches:
            yield from ((frame, Prediction({})) for frame in batch)

    def finished(self, frame: Frame, prediction: Prediction) -> Prediction:  # noqa: ARG002
        """Return the prediction as it is."""
        return prediction


class HhaSink:
    """HHA images as PNG, with a mark."""

    names = (OutputName("", SUFFIX),)

    def __init__(self, storage: LocalFolder) -> None:
        self.storage = storage

    def encode(self, frame: Frame, prediction: Prediction) -> Iterator[tuple[str, Iterable[bytes]]]:  # noqa: ARG002
        """Yield the name and content of the PNG."""
        mark, content = PngInfo(), io.BytesIO()
        mark.add_text(*MARK)
        Image.fromarray(frame.inputs["hha"]).save(content, "PNG", pnginfo=mark)
        yield f"{frame.stem}{SUFFIX}", [content.getvalue()]
