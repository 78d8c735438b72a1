"""OpenVINO on CPUs: compile the graph to a file, and run such a file.

Precisions are always stated and read back: OpenVINO takes bfloat16 wherever the processor has it unless told
otherwise, when it compiles and again when it loads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fcnseg.engine.coarse_labels import Blocks, coarse_labels, has_coarse_labels
from fcnseg.engine.options import check_precision
from fcnseg.engine.record import open_engine_file
from fcnseg.engine.runtimes.common import (
    ClosesOnExit,
    Compiled,
    GraphSource,
    check_inputs,
    check_memory,
    coarse_names,
    output_names,
    too_large,
)
from fcnseg.engine.runtimes.openvino_last_layers import LastLayers
from fcnseg.errors import (
    EngineError,
    ImageError,
    NoMoreThreadsError,
    SettingsError,
    TooLargeError,
    installs,
    is_out_of_memory,
    is_out_of_threads,
)
from fcnseg.models.spec import network_spec, plan_fusion
from fcnseg.recipes import Recipe
from fcnseg.types import EngineInfo, Labels, Pixels, Probabilities
from fcnseg.weights.tensors import Array
from fcnseg.workers.limits import affine_cores, numeric_threads
from fcnseg.workers.signals import SYSTEM_STOPS

if TYPE_CHECKING:
    from fcnseg.engine.identity import EngineIdentity

TRUNK_TYPES = {"fp32": {"f32"}, "bf16": {"bf16"}, "int8": {"u8", "i8"}}
"""The types that most convolutions of an engine of each precision compute in."""

LATENCY = {"PERFORMANCE_HINT": "LATENCY"}  # two streams were not faster than one (ENGINES, two cores)


def _library() -> Any:
    """Return the openvino module. Raises EngineError if it is not installed or does not load."""
    try:
        with _signals_held():
            import openvino
    except ImportError as error:
        raise EngineError(f"openvino cannot be loaded ({error}); {installs('openvino')}") from error
    return openvino


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Postpone Ctrl-C and its kin to the end of the block.

    Inside the module's C++ initialisation they would pass for an ImportError. Blocking them would not do, as other
    threads (of the numeric libraries) take them then.
    """
    held: list[int] = []
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread() and "openvino" not in sys.modules:
        for number in (signal.SIGINT, *SYSTEM_STOPS):
            if callable(handler := signal.getsignal(number)):
                before[number] = handler
                signal.signal(number, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first in held[:1]:
            signal.raise_signal(first)


@cache
def _core() -> Any:
    """Return the Core that serves the whole process: it holds the plugin."""
    return _library().Core()


def processor_has(precision: str) -> bool:
    """Tell whether this processor computes in that precision ("fp32", "bf16", "int8") natively."""
    return precision.upper() in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _settings() -> dict[str, Any]:
    """Return the settings of all models. OpenVINO counts threads by affinity; of a container's share it does not
    know."""
    threads = numeric_threads()
    return {**LATENCY, **({"INFERENCE_NUM_THREADS": threads} if threads < affine_cores() else {})}


def _hint(precision: str) -> Any:
    """Return the type of all that is not quantised: int8 engines leave the rest in float32."""
    types = _library().Type
    return types.bf16 if precision == "bf16" else types.f32


# ---------------------------------------------------------------------- building


def compile_engines(builder: GraphSource, identity: EngineIdentity, outputs: Mapping[Path, Sequence[str]]) -> Compiled:
    """Write compiled models with the outputs named for each file.

    Where these are labels alone and the network allows, the models give scores before the last upsampling instead, of
    which the engine makes the same labels.
    """
    from fcnseg.engine.graph import GraphForm  # brings onnx, which nothing but compiling needs

    coarse = has_coarse_labels(network_spec(builder.recipe), builder.weights())
    graph = builder.write("graph", form=GraphForm(classes_last=True), coarse_scores=coarse)
    if coarse:
        labels = output_names(builder.recipe)
        outputs = {f: coarse_names(builder.recipe) if names == labels else names for f, names in outputs.items()}
    builder.on_progress("calibrating" if identity.precision == "int8" else "compiling", 0.3)
    compile_graph(graph, outputs, identity.precision, builder.calibration())
    return Compiled(graph)


def compile_graph(
    onnx_file: Path,
    engines: Mapping[Path, Iterable[str]],
    precision: str,
    calibration: Sequence[Mapping[str, Pixels]] = (),
) -> None:
    """Compile an exported graph for this processor and write it: `engines` maps each file to its outputs.

    int8 quantises the trunk's convolutions by what `calibration` (inputs N x H x W x C by modality) shows;
    preprocessing, scores and upsampling stay float32. Raises EngineError with OpenVINO's reason, or if what was
    compiled is not what was asked for.
    """
    check_precision(precision, "openvino")
    if precision == "bf16" and not processor_has("bf16"):
        raise EngineError("this processor has no bfloat16 arithmetic; use --precision fp32 or int8")
    with _translated(f"OpenVINO cannot compile {onnx_file.name}"):
        model = _core().read_model(onnx_file)
        if precision == "int8":
            model = _quantize(model, calibration)
        for file, outputs in engines.items():
            kept = model.clone()
            for port in kept.outputs:
                if not port.get_names() & set(outputs):
                    kept.remove_result(port.get_node())
            compiled = compiled_for_processor(kept, precision)
            with file.open("wb") as stream:
                stream.write(compiled.export_model().getbuffer())


def compiled_for_processor(model: Any, precision: str) -> Any:
    """Return a model compiled in a precision. Raises EngineError if most of its convolutions are in another."""
    compiled = _compiled(model, precision)
    _check_precision(compiled, precision)
    return compiled


def _compiled(model: Any, precision: str = "fp32") -> Any:
    return _core().compile_model(model, "CPU", {**_settings(), "INFERENCE_PRECISION_HINT": _hint(precision)})


def _quantize(model: Any, calibration: Sequence[Mapping[str, Pixels]]) -> Any:
    """Quantise the trunk after training, by NNCF."""
    if not calibration:
        raise SettingsError("int8 needs images to calibrate on; name a folder of typical ones with --calibrate DIR")
    os.environ.setdefault("NNCF_CI", "1")  # its word for: no telemetry
    try:
        with _output_hidden():
            import nncf
    except ImportError as error:
        raise EngineError(f"int8 needs nncf ({error}); {installs('nncf')}") from error
    ignored = [op.get_friendly_name() for op in model.get_ops() if not _is_trunk_convolution(op)]
    with _output_hidden():
        logging.getLogger("nncf").setLevel(logging.ERROR)
        return nncf.quantize(
            model,
            nncf.Dataset(list(calibration)),
            subset_size=len(calibration),
            preset=nncf.QuantizationPreset.PERFORMANCE,  # symmetric: zero padding stays zero
            ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
        )


def _is_trunk_convolution(op: Any) -> bool:
    if op.get_type_name() not in ("Convolution", "GroupConvolution"):
        return False
    node = op.input_value(1).get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return not node.get_friendly_name().startswith("score_")


@contextlib.contextmanager
def _output_hidden() -> Iterator[None]:
    """Hide the progress that NNCF draws on standard output, which is for results."""
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _check_precision(compiled: Any, precision: str) -> None:
    """Read back what was compiled. Raises EngineError if it is not the precision that was asked for."""
    hint = compiled.get_property("INFERENCE_PRECISION_HINT")
    types = [
        op.get_rt_info()["runtimePrecision"].astype(str)
        for op in compiled.get_runtime_model().get_ops()
        if op.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    right = sum(t in TRUNK_TYPES[precision] for t in types)
    if hint != _hint(precision) or 2 * right <= len(types):
        raise EngineError(
            f"OpenVINO compiled {precision} as {hint.to_string()} with {right} of {len(types)} convolutions in "
            f"{' or '.join(sorted(TRUNK_TYPES[precision]))}; use --precision fp32"
        )


# ---------------------------------------------------------------------- running


class OpenVINOEngine(ClosesOnExit):
    """A compiled file on this processor; see `types.Engine`.

    `info` and `sha256` are from the file's record; other bytes than these are not loaded. Images of a batch run one at
    a time: kernels differ by batch size, and labels must not depend on batch composition. Several threads may call
    `infer`; they take turns. A file whose model gives coarse scores has its labels made here: see `coarse_labels`.
    """

    def __init__(
        self, recipe: Recipe, file: Path, info: EngineInfo, *, sha256: str, probabilities: bool = False
    ) -> None:
        self.recipe, self.file, self.info, self.sha256 = recipe, file, info, sha256
        self.probabilities = probabilities
        self._settings: dict[str, Any] = {}  # empty while closed
        self._request: Any = None  # none after a failure, until the next call
        self._last_layers: dict[str, LastLayers] = {}  # of each head, if the model gives coarse scores
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._settings = {**_settings(), "INFERENCE_PRECISION_HINT": _hint(self.info.precision)}
        self._load()
        return self

    def _load(self) -> None:
        library = _library()
        with open_engine_file(self.file, self.sha256) as file, _translated(f"OpenVINO cannot load {self.file}"):
            # mapped privately and not copied: the weights stay in the page cache
            self._blob = library.Tensor(np.memmap(file, dtype=np.uint8, mode="c"), shared_memory=True)
            compiled = _core().import_model(self._blob, "CPU", self._settings)
            self._request = compiled.create_infer_request()
        _check_precision(compiled, self.info.precision)
        self._outputs = {name: i for i, port in enumerate(compiled.outputs) for name in port.get_names()}
        if set(coarse_names(self.recipe)) <= set(self._outputs):
            spec = network_spec(self.recipe)
            self._blocks, window = Blocks.of(spec), plan_fusion(spec)[-1].window
            self._last_layers = {
                head.name: LastLayers(head.labels.classes, window, _compiled) for head in self.recipe.heads
            }

    @property
    def coarse(self) -> bool:
        """True if labels are made of scores before the last upsampling."""
        return bool(self._last_layers)

    def close(self) -> None:
        """Release the model."""
        self._request = self._blob = None
        self._settings, self._last_layers = {}, {}

    def infer(
        self, inputs: Mapping[str, Pixels], probabilities: bool = False
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        """Labels N x H x W of each head and, if asked, float32 probabilities N x K x H x W. See `types.Engine`."""
        if not self._settings:
            raise EngineError("the engine is closed; use it inside its `with` block")
        if probabilities and not self.probabilities:
            raise EngineError("this engine gives labels alone; open one with probabilities")
        rows = check_inputs(self.recipe, inputs)
        names = output_names(self.recipe, probabilities)
        outputs: dict[str, list[Array]] = {name: [] for name in names}
        with self._lock:
            for row in range(rows):
                self._infer_one({m: pixels[row : row + 1] for m, pixels in inputs.items()}, outputs)
        stacked = {name: np.concatenate(parts) for name, parts in outputs.items()}
        heads = [head.name for head in self.recipe.heads]
        labels = {head: stacked[head] for head in heads}
        if not probabilities:
            return labels, None
        return labels, dict(zip(heads, (stacked[name] for name in names[len(heads) :]), strict=True))

    def _infer_one(self, inputs: dict[str, Pixels], outputs: dict[str, list[Array]]) -> None:
        size = height, width = next(iter(inputs.values())).shape[1:3]
        check_memory(self.recipe, height, width, 2 if self.info.precision == "bf16" else 4)
        if self._request is None:
            self._load()
        try:
            self._request.infer({m: np.ascontiguousarray(pixels) for m, pixels in inputs.items()})
            found = self._labels(size) if self._last_layers else {name: self._output(name) for name in outputs}
            if any(array.shape[-2:] != size for array in found.values()):
                raise MemoryError("out of memory")  # OpenVINO may leave an output empty and say nothing
        except (RuntimeError, MemoryError) as error:
            # what it computes after a failed allocation is wrong without a word
            self._request, self._blob, self._last_layers = None, None, {}
            if is_out_of_memory(error):
                raise TooLargeError(too_large(height, width)) from error
            raise ImageError(f"OpenVINO cannot run {width} x {height} pixels: {_reason(error)}", "predict") from error
        for name, array in found.items():
            outputs[name].append(array.copy())  # overwritten by the next

    def _output(self, name: str) -> Array:
        array: Array = self._request.get_output_tensor(self._outputs[name]).data
        if not array.size:
            raise MemoryError("out of memory")
        return array

    def _labels(self, size: tuple[int, int]) -> dict[str, Labels]:
        """Make the labels 1 x H x W of each head from the scores before the last upsampling."""
        scores = zip(self._last_layers.items(), map(self._output, coarse_names(self.recipe)), strict=True)
        return {head: coarse_labels(values, size, self._blocks, last)[None] for (head, last), (values,) in scores}


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn RuntimeError, which OpenVINO raises for everything, into an EngineError of one line with its reason."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_threads(error):
            raise NoMoreThreadsError from error
        raise EngineError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return the last line that says something: the first ones name OpenVINO's source files."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Exception from")]
    return said[-1] if said else str(error)
