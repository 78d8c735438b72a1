"""Winograd convolutions on processors: MNN beside OpenVINO, on the graph that engines are made of.

From the project's root, with MNN installed (`uv pip install mnn==3.6.1`): `python -m benchmarks.winograd speed` for the
time of an image, interleaved; `... labels IMAGES` for the share of pixels with the labels of the plain network in ONNX
Runtime, and of those that change with the threads, the batch, the images before and the tiles; `... start` for the time
to load, what a new size costs and the peak memory, each in a fresh process.

Asked of a backend: 1.5 times OpenVINO's speed in fp32, 99.99 % of the labels, and the same labels whatever the batch,
the tiles, the number of workers and the images before.

The weights are a trained network's at both widths. Full width is voc-fcn8s with each channel of street-fcn8s copied,
the copies scaled at random and the weights after them shared among them at random, which changes no score but for
rounding; classes that street-fcn8s does not have never win. `level` is MNN's WINOGRAD_MEMORY_LEVEL: 3, its default,
takes the units 2, 4 or 6 by a layer's size, 1 the unit 2 alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from fcnseg.engine.bench_frames import made_up_frames
from fcnseg.engine.bench_session import peak_memory_bytes
from fcnseg.engine.graph import PLAIN, write_graph
from fcnseg.engine.hardware import cpu_name
from fcnseg.engine.onnx_session import session_of
from fcnseg.models import network_spec
from fcnseg.models.halo import halo_of
from fcnseg.models.layers import bilinear_kernel, weight_layers
from fcnseg.recipes import find_recipe
from fcnseg.running.tile_grid import cut_image
from fcnseg.types import Pixels
from fcnseg.weights.loading import load_whole_model
from fcnseg.weights.tensors import Array
from fcnseg.workers.limits import usable_cores

MODELS = {"street-fcn8s": (360, 480), "voc-fcn8s": (375, 500)}
LEVELS = (3, 1)
HINT_WINOGRAD_MEMORY_LEVEL = 3
SPREAD = 0.3
NEVER = -30.0
TILE = 704
TAPS = {"score_fr": "fc7", "score_pool4": "conv4_3", "score_pool3": "conv3_3"}
Network = Callable[[Pixels], list[Array]]


# ---------------------------------------------------------------------- networks


def write_wide_weights(path: Path) -> None:
    """Write weights of voc-fcn8s that give the scores of street-fcn8s (see above)."""
    random, narrow = np.random.default_rng(0), load_whole_model(find_recipe("street-fcn8s"), None).tensors
    wide: dict[str, Array] = {}
    copied: dict[str, tuple[Array, Array]] = {"": (np.arange(3), np.ones(3, np.float32))}
    before = ""
    for layer in weight_layers(network_spec(find_recipe("voc-fcn8s"))):
        if layer.kind == "deconvolution":
            kernel = bilinear_kernel(layer.window.kernel)
            wide[f"{layer.name}.weight"] = np.broadcast_to(kernel, layer.shapes[f"{layer.name}.weight"]).copy()
            continue
        weight, bias = narrow[f"{layer.name}.weight"], narrow[f"{layer.name}.bias"]
        if layer.kind == "score":
            origin, shares = copied[TAPS[layer.name]]
            wide[f"{layer.name}.weight"] = np.zeros(layer.shapes[f"{layer.name}.weight"], np.float32)
            wide[f"{layer.name}.weight"][: len(weight)] = weight[:, origin] * shares[:, None, None]
            wide[f"{layer.name}.bias"] = np.full(layer.channels, NEVER, np.float32)
            wide[f"{layer.name}.bias"][: len(bias)] = bias
            continue
        origin, shares = copied[before]
        copies = np.arange(layer.channels) % len(weight)
        scales = np.exp(SPREAD * random.standard_normal(layer.channels)).astype(np.float32)
        wide[f"{layer.name}.weight"] = weight[copies][:, origin] * shares[:, None, None] * scales[:, None, None, None]
        wide[f"{layer.name}.bias"] = bias[copies] * scales
        portions = (0.5 + random.random(layer.channels)).astype(np.float32)
        portions /= np.bincount(copies, portions).astype(np.float32)[copies]
        copied[layer.name], before = (copies, portions / scales), layer.name
    save_file(wide, path, {"recipe": "voc-fcn8s"})


def write_files(folder: Path, model: str, *, probabilities: bool) -> None:
    """Write a model's graphs into `folder`: graph.onnx without margins, the same as graph.mnn, and plain.onnx."""
    recipe, weights = find_recipe(model), None
    if model == "voc-fcn8s":
        write_wide_weights(weights := folder / "weights.safetensors")
    tensors, kind = load_whole_model(recipe, weights).tensors, "float32" if probabilities else None
    write_graph(folder / "graph.onnx", recipe, tensors, probabilities=kind)
    write_graph(folder / "plain.onnx", recipe, tensors, probabilities=kind, form=PLAIN)
    # not the command mnnconvert: on import it installs a package by pip and reports its use
    convert = "import _tools, sys; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
    files = [
        "-f",
        "ONNX",
        "--modelFile",
        folder / "graph.onnx",
        "--MNNModel",
        folder / "graph.mnn",
        "--bizCode",
        "bench",
    ]
    subprocess.run([sys.executable, "-c", convert, *map(str, files)], stdout=subprocess.DEVNULL, check=True)


class Mnn:
    """A graph in a session of MNN; called with images uint8 N x H x W x 3, it returns the outputs named."""

    def __init__(self, file: Path, outputs: Sequence[str], *, level: int, threads: int) -> None:
        self.mnn, self.outputs, self.shape = import_module("MNN"), outputs, ()
        self.net = self.mnn.Interpreter(str(file))
        self.net.setSessionHint(HINT_WINOGRAD_MEMORY_LEVEL, level)
        self.session = self.net.createSession({"backend": "CPU", "numThread": threads, "precision": "high"})

    def __call__(self, pixels: Pixels) -> list[Array]:
        """Return the outputs of a batch of images."""
        mnn, pixels = self.mnn, np.ascontiguousarray(pixels)
        if pixels.shape != self.shape:
            self.net.resizeTensor(self.net.getSessionInput(self.session, "color"), pixels.shape)
            self.net.resizeSession(self.session)
            self.shape = pixels.shape
        image = mnn.Tensor(pixels.shape, mnn.Halide_Type_Uint8, pixels, mnn.Tensor_DimensionType_Caffe)
        self.net.getSessionInput(self.session, "color").copyFrom(image)
        if code := self.net.runSession(self.session):
            raise SystemExit(f"MNN stopped with code {code}")
        return [self._array(name) for name in self.outputs]

    def _array(self, name: str) -> Array:
        mnn, output = self.mnn, self.net.getSessionOutput(self.session, name)
        kind = output.getDataType()
        array = np.empty(output.getShape(), np.uint8 if kind == mnn.Halide_Type_Uint8 else np.float32)
        copy = mnn.Tensor(array.shape, kind, array, mnn.Tensor_DimensionType_Caffe)
        output.copyToHostTensor(copy)
        return np.array(copy.getNumpyData()).reshape(array.shape)  # it does not share memory with `array`


class OpenVino:
    """The same in OpenVINO."""

    def __init__(self, file: Path, outputs: Sequence[str], *, threads: int) -> None:
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self.request = import_module("openvino").Core().compile_model(file, "CPU", settings).create_infer_request()
        self.outputs = outputs

    def __call__(self, pixels: Pixels) -> list[Array]:
        """Return the outputs of a batch of images."""
        results = self.request.infer({"color": np.ascontiguousarray(pixels)})
        return [results[name].copy() for name in self.outputs]


def engines(folder: Path, outputs: Sequence[str]) -> dict[str, Callable[[int], Network]]:
    """Return what opens each engine of a folder of `write_files`, with a number of threads."""
    openers: dict[str, Callable[[int], Network]] = {
        "openvino": lambda threads: OpenVino(folder / "graph.onnx", outputs, threads=threads)
    }
    for level in LEVELS:
        openers[f"mnn level {level}"] = lambda threads, level=level: Mnn(
            folder / "graph.mnn", outputs, level=level, threads=threads
        )
    return openers


# ---------------------------------------------------------------------- measurements


def measure_speed(folder: Path, model: str, given: argparse.Namespace) -> None:
    """Print the time of an image, every engine by turns."""
    write_files(folder, model, probabilities=False)
    pixels = made_up_frames(find_recipe(model), MODELS[model], 1)[0].inputs["color"][None]
    opened = {name: opener(usable_cores()) for name, opener in engines(folder, ["labels"]).items()}
    seconds: dict[str, list[float]] = {name: [] for name in opened}
    for _ in range(1 + given.rounds):
        for name, network in opened.items():
            start = time.perf_counter()
            network(pixels)
            seconds[name].append(time.perf_counter() - start)
    first = median(seconds["openvino"][1:])
    for name, (_, *times) in seconds.items():
        spread = f"{min(times):.4f} to {max(times):.4f}"
        print(
            f"{model} {name}: {median(times):.4f} s ({spread}), {first / median(times):.2f} times openvino", flush=True
        )


def measure_labels(folder: Path, model: str, given: argparse.Namespace) -> None:
    """Print the pixels whose labels differ: from the plain network's, and from the same engine's otherwise called."""
    write_files(folder, model, probabilities=True)
    outputs = ["labels", "probabilities"]
    images = [np.asarray(Image.open(file).convert("RGB"))[None] for file in sorted(given.images.iterdir())]
    images = [image for image in images if image.shape == images[0].shape][: given.count]
    large = np.concatenate([np.concatenate(images[i : i + 3], axis=2) for i in (0, 3, 6)], axis=1)
    plain = session_of(str(folder / "plain.onnx"))
    expected = [plain.run(outputs, {"color": image}) for image in images]
    cores = usable_cores()
    for name, opener in engines(folder, outputs).items():
        network = opener(cores)
        alone = [network(image) for image in images]
        print_difference(f"{model} {name}, from the plain network", expected, alone)
        single = opener(1)
        print_difference(f"{model} {name}, 1 thread", alone, [single(image) for image in images])
        other = opener(cores)
        other(images[0][:, :96, :128])
        print_difference(f"{model} {name}, after a small image", alone, [other(image) for image in images])
        del single, other
        together = network(np.concatenate(images[:3]))
        batch = [[array[row : row + 1] for array in together] for row in range(3)]
        print_difference(f"{model} {name}, in batches of 3", alone[:3], batch)
        print_difference(f"{model} {name}, in tiles", [network(large)], [in_tiles(opener(cores), large, model)])


def in_tiles(network: Network, image: Pixels, model: str) -> list[Array]:
    """Return the outputs for one image from tiles of at most TILE px a side, as `fcnseg run --tile` cuts them."""
    halo = halo_of(network_spec(find_recipe(model)))
    whole: list[Array] = []
    for rows, columns in cut_image(image.shape[1:3], halo, (TILE, TILE)):
        for number, part in enumerate(network(image[:, rows.pixels, columns.pixels])):
            if number == len(whole):
                whole.append(np.empty((*part.shape[:-2], *image.shape[1:3]), part.dtype))
            whole[number][..., rows.labels, columns.labels] = part[..., rows.kept, columns.kept]
    return whole


def print_difference(title: str, expected: Sequence[Sequence[Array]], actual: Sequence[Sequence[Array]]) -> None:
    """Print how many labels differ, and the largest difference of a probability."""
    pixels = sum(labels.size for labels, _ in expected)
    differ = sum(int((a[0] != b[0]).sum()) for a, b in zip(expected, actual, strict=True))
    largest = max(float(np.abs(a[1] - b[1]).max()) for a, b in zip(expected, actual, strict=True))
    print(f"{title}: {differ} of {pixels} labels ({1 - differ / pixels:.4%} the same), by {largest:.1e}", flush=True)


def measure_start(folder: Path, model: str, _given: argparse.Namespace) -> None:
    """Print what loading, sizes and memory cost, each engine in a fresh process."""
    write_files(folder, model, probabilities=False)
    for name in engines(folder, ["labels"]):
        process = multiprocessing.get_context("spawn").Process(target=_start, args=(folder, model, name))
        process.start()
        process.join()


def _start(folder: Path, model: str, name: str) -> None:
    height, width = MODELS[model]
    frames = [
        made_up_frames(find_recipe(model), size, 1)[0].inputs["color"][None]
        for size in ((height, width), (height - 40, width - 60), (height, width))
    ]
    moments = [time.perf_counter()]
    network = engines(folder, ["labels"])[name](usable_cores())
    for frame in (frames[0], frames[0], *frames[1:]):
        moments.append(time.perf_counter())
        network(frame)
    moments.append(time.perf_counter())
    load, first, again, other, back = np.diff(moments)
    peak = peak_memory_bytes() / 2**30
    print(
        f"{model} {name}: loaded in {load:.2f} s, first image {first:.2f} s, again {again:.2f}, another size "
        f"{other:.2f}, the first size again {back:.2f}; peak {peak:.2f} GiB",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("images", type=Path, nargs="?", help="for `labels`: a folder of photographs of one size")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=9, help="images timed on each engine")
    parser.add_argument("--count", type=int, default=9, help="photographs compared, 9 at least")
    given = parser.parse_args()
    if given.part == "labels" and not given.images:
        parser.error("labels needs a folder of photographs")
    print(f"{cpu_name()}, {usable_cores()} cores, {datetime.now(UTC):%Y-%m-%d}: benchmarks.winograd {given.part}")
    for model in given.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            PARTS[given.part](Path(folder), model, given)


PARTS = {"speed": measure_speed, "labels": measure_labels, "start": measure_start}

if __name__ == "__main__":
    main()
