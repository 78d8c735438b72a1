"""OpenCV's DNN module running the same network: the peer that `benchmarks.engines` measures against.

A user of the authors' release would hand OpenCV its two Caffe files. This writes those files for any recipe and
weights, so OpenCV reads what it would read there. Its ONNX importer gives the same speed and bit-identical scores
but one image size a file, and `cv2.dnn` reads a Caffe definition without input shapes for every size.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial, reduce
from pathlib import Path
from platform import python_version
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

import fcnseg
from fcnseg.engine.bench_session import Candidate, open_candidate
from fcnseg.engine.runtimes.common import ClosesOnExit, check_inputs, engine_info
from fcnseg.errors import EngineError, ImageError, SettingsError
from fcnseg.models.backbones import Conv, Layer, LocalResponseNorm, MaxPool
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.types import Engine, Labels, Pixels, Probabilities
from fcnseg.weights.tensors import Array
from fcnseg.workers.process import WorkerDiedError
from fcnseg.workers.remote import RemoteFunction

if TYPE_CHECKING:
    from fcnseg.models.fcn import FCN

INPUT = "data"


def open_engine_or_peer(model: str, weights: Path | None, device: str, candidate: Candidate) -> Engine:
    """Return a candidate's engine: OpenCV's for the backend "opencv", else that of `fcnseg bench`."""
    if candidate.backend == "opencv":
        return OpenCvEngine(find_recipe(model), weights, candidate.precision)
    return open_candidate(model, weights, device, None, {}, candidate)


class OpenCvEngine(ClosesOnExit):
    """A recipe's network in OpenCV's DNN module, on the CPU in fp32; for models that take one colour image.

    Images are prepared by `cv2.dnn.blobFromImage`, labels are the arg-max of its scores. The first image of a size
    makes OpenCV lay the network out anew. Nothing is acquired before entry. Raises SettingsError for a model or a
    precision it does not have, EngineError without OpenCV or if OpenCV cannot read the network.
    """

    def __init__(self, recipe: Recipe, weights: Path | None = None, precision: str = "fp32") -> None:
        if precision != "fp32":
            raise SettingsError(f"precision {precision!r} is unknown to the opencv backend; use fp32")
        if recipe.modalities != ("color",) or len(recipe.streams) != 1:
            raise SettingsError(
                f"{recipe.name} takes {' and '.join(recipe.modalities)}; the opencv backend runs models of one "
                "colour image"
            )
        self.recipe, self.weights = recipe, weights
        self._net: Any = None

    def __enter__(self) -> Self:
        self._cv2 = _opencv()
        with tempfile.TemporaryDirectory(prefix="fcnseg-") as folder:
            text, numbers = Path(folder, "net.prototxt"), Path(folder, "net.caffemodel")
            self._outputs, sha256 = _converted(self.recipe, self.weights, text, numbers)
            try:
                self._net = self._cv2.dnn.readNetFromCaffe(str(text), str(numbers))
            except self._cv2.error as error:
                raise EngineError(
                    f"OpenCV {self._cv2.__version__} cannot read {self.recipe.name}: {_reason(error)}; "
                    "leave the opencv backend out"
                ) from error
        self.info = engine_info(
            self.recipe,
            backend="opencv",
            device="cpu",
            precision="fp32",
            weights_sha256=sha256,
            versions={"fcnseg": fcnseg.__version__, "opencv": self._cv2.__version__, "python": python_version()},
        )
        return self

    def close(self) -> None:
        """Release the network."""
        self._net = None

    def infer(
        self, inputs: Mapping[str, Pixels], probabilities: bool = False
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        """Labels N x H x W of each head and, if asked, float32 probabilities N x K x H x W. See `types.Engine`."""
        check_inputs(self.recipe, inputs)
        results = [self._scores(image) for image in inputs["color"]]
        names = [head.name for head in self.recipe.heads]
        labels = {name: np.stack([_labels(r[h]) for r in results]) for h, name in enumerate(names)}
        if not probabilities:
            return labels, None
        return labels, {name: np.stack([_softmax(r[h]) for r in results]) for h, name in enumerate(names)}

    def _scores(self, image: Pixels) -> list[Array]:
        """Float32 scores of each head, K x H x W, of one image uint8 H x W x 3."""
        if self._net is None:
            raise EngineError("the engine is closed; use it inside its `with` block")
        source = self.recipe.streams[0].inputs[0]
        swap = source.order == "bgr"
        blob = self._cv2.dnn.blobFromImage(image, 1.0, None, source.mean, swapRB=swap)  # the mean comes after the swap
        try:
            self._net.setInput(blob, INPUT)
            return [scores[0] for scores in self._net.forward(self._outputs)]
        except self._cv2.error as error:
            height, width = image.shape[:2]
            raise ImageError(f"OpenCV cannot run {width} x {height} pixels: {_reason(error)}", "predict") from error


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise EngineError(
            f"the opencv backend needs OpenCV: {error}; `pip install 'opencv-python-headless<5'` installs it"
        ) from error
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        raise EngineError(
            f"OpenCV {cv2.__version__} reads no Caffe files; `pip install 'opencv-python-headless<5'` brings one "
            "that does"
        )
    return cv2  # type: ignore[no-any-return,unused-ignore]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _labels(scores: Array) -> Labels:
    return np.asarray(scores.argmax(0), np.uint8 if len(scores) <= 256 else np.uint16)


def _softmax(scores: Array) -> Probabilities:
    powers = np.exp(scores - scores.max(0))
    return np.asarray(powers / powers.sum(0))


# ---------------------------------------------------------------------- the network as Caffe's two files


def _converted(recipe: Recipe, weights: Path | None, text: Path, numbers: Path) -> tuple[list[str], str]:
    """Write Caffe's files in a subprocess unless this process has torch anyway.

    A user of OpenCV would not have torch in memory, and the benchmark compares memory.
    """
    convert = partial(write_caffe, recipe, weights, text)
    if "torch" in sys.modules:
        return convert(numbers)
    try:
        remote = RemoteFunction(convert)
        try:
            return remote(numbers)
        finally:
            remote.stop()
    except WorkerDiedError as died:
        raise EngineError(f"converting {recipe.name} for OpenCV failed: {died}; free some memory") from died


def write_caffe(recipe: Recipe, weights: Path | None, text: Path, numbers: Path) -> tuple[list[str], str]:
    """Write a recipe's network of one stream as Caffe's definition (prototxt) and weights; returns its heads' outputs
    and the SHA-256 of the weights it was made from. Raises what loading weights raises, and OSError."""
    from fcnseg.weights.loading import load_whole_model

    loaded = load_whole_model(recipe, weights)
    with numbers.open("wb") as file:
        writer = _CaffeWriter(loaded.network(), file)
        outputs = writer.write()
    text.write_text("\n".join(writer.lines), encoding="utf-8")
    return outputs, loaded.sha256


class _CaffeWriter:
    """Collects the definition's lines; layers with numbers go to `file` as they come. Methods return the top."""

    def __init__(self, network: FCN, file: IO[bytes]) -> None:
        self.network, self.file = network, file
        self.modules = dict(network.named_children())
        self.lines = ['name: "net"', f'input: "{INPUT}"']

    def write(self) -> list[str]:
        """Everything, the trunk first; returns the tops that hold the scores."""
        spec, (stream,) = self.network.spec, self.network.spec.streams
        top, taps = INPUT, {}
        for index, layer in enumerate(self.network.layers):
            first = index == 0 and stream.first_layer
            top = self.run(layer, first or layer.name + stream.suffix, top)
            if layer.name in spec.skips:
                taps[layer.name] = self.scaled(f"scale_{layer.name}{stream.suffix}", top)
        taps["fr"] = top
        return [self.fuse(head.suffix, stream.suffix, taps) for head in spec.heads]

    def run(self, layer: Layer, name: str, bottom: str) -> str:
        if isinstance(layer, Conv):
            top = self.numbered(name, bottom)
            return self.layer("ReLU", f"relu_{name}", (top,), top=top)
        if isinstance(layer, MaxPool):
            w = layer.window
            pool = f"pool: MAX kernel_size: {w.kernel} stride: {w.stride} pad: {w.pad}"
            return self.layer("Pooling", name, (bottom,), f"pooling_param {{ {pool} }}")
        if isinstance(layer, LocalResponseNorm):
            return self.layer("LRN", name, (bottom,), "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")
        suffix = name.removeprefix(layer.name)
        tops = [reduce(lambda top, part: self.run(part, part.name + suffix, top), b, bottom) for b in layer.branches]
        return self.layer("Concat", f"{name}/output", tops)

    def scaled(self, name: str, bottom: str) -> str:
        return self.numbered(name, bottom) if name in self.modules else bottom

    def fuse(self, head: str, stream: str, taps: Mapping[str, str]) -> str:
        """One head: see `FCN.fuse`."""
        top = self.numbered(f"score_fr{stream}{head}", taps["fr"])
        for step in self.network.fusion:
            top = self.numbered(step.name + head, top)
            if step.target is None:
                return self.crop(f"score{head}", top, INPUT, step.offset)
            skip = self.numbered(f"score_{step.target}{stream}{head}", taps[step.target])
            if step.offset >= 0:
                top = self.crop(f"{top}_cropped", top, skip, step.offset)
            else:
                skip = self.crop(f"{skip}_cropped", skip, top, -step.offset)
            top = self.layer("Eltwise", f"fuse_{step.target}{head}", (top, skip), "eltwise_param { operation: SUM }")
        raise AssertionError("a fusion plan ends at the image")

    def crop(self, name: str, bottom: str, like: str, offset: int) -> str:
        return self.layer("Crop", name, (bottom, like), f"crop_param {{ axis: 2 offset: {offset} }}")

    def numbered(self, name: str, bottom: str) -> str:
        """A layer with weights, and its record in the weight file."""
        from torch import nn

        from fcnseg.models.fcn import ChannelScale

        module = self.modules[name]
        if isinstance(module, ChannelScale):
            kind, body = "Scale", ""
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            kind = "Convolution" if isinstance(module, nn.Conv2d) else "Deconvolution"
            sizes = f"kernel_size: {module.kernel_size[0]} stride: {module.stride[0]} pad: {module.padding[0]}"
            more = f"group: {module.groups}" + ("" if module.bias is not None else " bias_term: false")
            body = f"convolution_param {{ num_output: {module.out_channels} {sizes} {more} }}"
        else:
            raise TypeError(f"{name} is a {type(module).__name__}, which no recipe's network has")
        arrays = [np.ascontiguousarray(parameter.numpy(), "<f4") for parameter in module.parameters()]
        self.file.write(_header(name, kind, arrays))
        for array in arrays:
            self.file.write(_blob_header(array))
            self.file.write(array.data)
        return self.layer(kind, name, (bottom,), body)

    def layer(self, kind: str, name: str, bottoms: Sequence[str], body: str = "", top: str = "") -> str:
        inputs = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self.lines.append(f'layer {{ name: "{name}" type: "{kind}" {inputs} top: "{top or name}" {body} }}')
        return top or name


# Caffe's protocol buffers (caffe.proto): NetParameter.layer = 100; LayerParameter.name = 1, type = 2, blobs = 7;
# BlobProto.shape = 7, data = 5; BlobShape.dim = 1. Headers are apart from the numbers, which are not copied.


def _header(name: str, kind: str, arrays: Sequence[Array]) -> bytes:
    """The start of a layer's record: all but its blobs."""
    start = _field(1, name.encode()) + _field(2, kind.encode())
    blobs = sum(len(_blob_header(array)) + 4 * array.size for array in arrays)
    return _tag(100, len(start) + blobs) + start


def _blob_header(array: Array) -> bytes:
    """The start of a blob: all but its float32 numbers."""
    shape = _field(7, _field(1, b"".join(_varint(d) for d in array.shape)))
    start = shape + _tag(5, 4 * array.size)
    return _tag(7, len(start) + 4 * array.size) + start


def _field(number: int, payload: bytes) -> bytes:
    return _tag(number, len(payload)) + payload


def _tag(number: int, length: int) -> bytes:
    """The tag and length of a length-delimited field."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
