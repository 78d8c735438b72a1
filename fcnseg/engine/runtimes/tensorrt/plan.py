"""Build TensorRT plans: TensorRT 10 and 11 and TensorRT-RTX, from one code path.

Almost nothing in these libraries raises: every status is checked here, and what the library logged goes into the
error. `engine` runs plans.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcnseg.engine.runtimes.tensorrt.progress import OnProgress, progress_monitor, watched
from fcnseg.errors import EngineError
from fcnseg.recipes import MODALITIES, Shapes

if TYPE_CHECKING:
    import onnx

MODULES = {"tensorrt": ("tensorrt", "TensorRT"), "tensorrt-rtx": ("tensorrt_rtx", "TensorRT-RTX")}
"""Each library's module and its name in messages."""

REASON_CHARACTERS = 500
"""The most that an error repeats of a library's messages."""


@dataclass(frozen=True)
class TensorRTLibrary:
    """A loaded library: its module, and the one logger that it takes in a process."""

    title: str
    module: Any
    logger: Any
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=4))

    def reason(self) -> str:
        """Return the library's last error messages on one line, oldest first, and forget them."""
        text = "; ".join(dict.fromkeys(self.errors)) or "it gave no reason"
        self.errors.clear()
        return text if len(text) <= REASON_CHARACTERS else f"{text[:REASON_CHARACTERS]}..."


_loaded: dict[str, TensorRTLibrary] = {}
_loading = threading.Lock()


def load_library(name: str) -> TensorRTLibrary:
    """Return the library "tensorrt" or "tensorrt-rtx", imported when first asked for.

    Raises EngineError, naming the extra that brings it, if it is not installed or does not load.
    """
    with _loading:
        if name not in _loaded:
            module_name, title = MODULES[name]
            try:
                module = importlib.import_module(module_name)
            except (ImportError, OSError) as error:
                raise EngineError(
                    f"{title} cannot be loaded ({error}); `pip install 'fcnseg[{name}]'` installs it"
                ) from error
            errors: deque[str] = deque(maxlen=4)
            _loaded[name] = TensorRTLibrary(title, module, _logger(module, errors), errors)
        return _loaded[name]


def _logger(module: Any, errors: deque[str]) -> Any:
    log = logging.getLogger("fcnseg.tensorrt")

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR):
                errors.append(" ".join(msg.split()))
            elif severity == module.ILogger.WARNING:
                log.debug("%s", msg)

    return Logger()


# ---------------------------------------------------------------------- building


def build_plan(
    onnx_file: Path,
    library: str,
    profiles: Sequence[Shapes],
    *,
    outputs: Collection[str] | None = None,
    on_progress: OnProgress = lambda phase, part: None,
) -> memoryview:
    """Build an exported graph into a plan for the current CUDA device; returns its bytes.

    One optimisation profile a `Shapes`: batches of 1 to `max_batch`, tuned for full ones of the typical size; every
    modality has the same N, H and W. The graph's own types are the plan's (strongly typed), and TF32 is off.
    `outputs` names those the plan keeps (default: all). `on_progress` gets the library's phase and the fraction done,
    0..1; it is called from this thread while another builds, and an exception of its own, like Ctrl-C, ends the build
    and surfaces here. Raises EngineError, with the library's own reason, for a graph or profiles it cannot build or a
    missing library.
    """
    loaded = load_library(library)
    _check_profiles(profiles)
    loaded.errors.clear()
    builder = loaded.module.Builder(loaded.logger)
    strongly_typed = 1 << int(loaded.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strongly_typed)
    parser = loaded.module.OnnxParser(network, loaded.logger)  # owns the weights until the plan is built
    parsed = parser.parse(_prepared(onnx_file, outputs), path=str(onnx_file))
    _check_parsed(loaded, parser, network, parsed, onnx_file)
    config = _configured(loaded, builder, network, profiles)
    monitor = progress_monitor(loaded.module)
    config.progress_monitor = monitor
    plan = watched(lambda: builder.build_serialized_network(network, config), monitor, on_progress)
    if plan is None:
        raise EngineError(f"{loaded.title} cannot build {onnx_file.name}: {loaded.reason()}; try --backend torch")
    return memoryview(plan).cast("B")


def _check_profiles(profiles: Sequence[Shapes]) -> None:
    if not profiles:
        raise EngineError("an engine needs at least one range of sizes; give it smallest, typical and largest")
    for shapes in profiles:
        limits = zip(shapes.smallest, shapes.typical, shapes.largest, strict=True)
        if shapes.max_batch < 1 or not all(1 <= low <= typical <= high for low, typical, high in limits):
            raise EngineError(
                f"sizes from {_size(shapes.smallest)} over {_size(shapes.typical)} to {_size(shapes.largest)} in "
                f"batches of {shapes.max_batch} are no range; give smallest <= typical <= largest, all from 1"
            )


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _check_parsed(library: TensorRTLibrary, parser: Any, network: Any, parsed: bool, onnx_file: Path) -> None:
    """Check that the graph arrived whole, with the inputs of fcnseg's graphs."""
    if not parsed:
        faults = [parser.get_error(i) for i in range(parser.num_errors)]
        said = "; ".join(" ".join(f"{e.node_operator()} {e.node_name()} {e.desc()}".split()) for e in faults)
        library.errors.clear()
        raise EngineError(
            f"{library.title} cannot read {onnx_file.name}: {said[:REASON_CHARACTERS]}; export it again, or try "
            "--backend torch"
        )
    if network.num_layers == 0 or network.num_inputs == 0 or network.num_outputs == 0:
        raise EngineError(f"{onnx_file.name} holds no network; export it again with `fcnseg export`")
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        shape, dtype = tuple(tensor.shape), tensor.dtype.name
        channels = MODALITIES.get(tensor.name)
        if channels is None or len(shape) != 4 or shape[3] != channels or dtype != _input_type(tensor.name):
            raise EngineError(
                f"{onnx_file.name} takes {tensor.name!r} as {dtype} {shape}, which no fcnseg graph does; give uint8 "
                "color or hha (N, H, W, 3) or float32 depth (N, H, W, 1)"
            )


def _input_type(modality: str) -> str:
    return "FLOAT" if modality == "depth" else "UINT8"


def _configured(library: TensorRTLibrary, builder: Any, network: Any, profiles: Sequence[Shapes]) -> Any:
    """Return the builder's configuration: exact float32, and the profiles."""
    config = builder.create_builder_config()
    config.clear_flag(library.module.BuilderFlag.TF32)
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for tensor in (network.get_input(i) for i in range(network.num_inputs)):
            low, typical, high = (
                (batch, *size, tensor.shape[3])
                for batch, size in (
                    (1, shapes.smallest),
                    (shapes.max_batch, shapes.typical),
                    (shapes.max_batch, shapes.largest),
                )
            )
            profile.set_shape(tensor.name, low, typical, high)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(
                f"{library.title} does not take sizes {_size(shapes.smallest)} to {_size(shapes.largest)} for this "
                f"graph: {library.reason()}; give a range that the graph allows"
            )
    return config


# ---------------------------------------------------------------------- the graph, as TensorRT wants it


def _prepared(onnx_file: Path, outputs: Collection[str] | None) -> bytes:
    """Return the graph as bytes, with the types TensorRT takes; weights of a separate file stay there.

    uint8 may only be cast: inputs become float32 before anything else reads them, labels go through float32 on their
    way to uint8, and where they are uint16, which TensorRT does not have, they become int32.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError as error:
        raise EngineError(f"building needs {error.name}; `pip install onnx` installs it") from error
    try:
        model = onnx.load(str(onnx_file), format="protobuf", load_external_data=False)
    except OSError as error:
        raise EngineError(f"{onnx_file} cannot be read: {error.strerror}; export the graph again") from error
    except DecodeError as error:
        raise EngineError(f"{onnx_file.name} is no ONNX file ({error}); export the graph again") from error
    _keep_outputs(model.graph, outputs, onnx_file.name)
    _cast_inputs(model.graph)
    _cast_outputs(model.graph)
    del model.graph.value_info[:]  # some of these types are others now
    return bytes(model.SerializeToString())


def _keep_outputs(graph: onnx.GraphProto, outputs: Collection[str] | None, name: str) -> None:
    if outputs is None:
        return
    present = {output.name: output for output in graph.output}
    missing = set(outputs) - set(present)
    if missing:
        raise EngineError(f"{name} has no output {', '.join(sorted(missing))}; it gives {', '.join(present)}")
    for unwanted in set(present) - set(outputs):
        graph.output.remove(present[unwanted])


def _cast_inputs(graph: onnx.GraphProto) -> None:
    from onnx import TensorProto
    from onnx.helper import make_node

    integers = {i.name for i in graph.input if i.type.tensor_type.elem_type == TensorProto.UINT8}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in integers and node.op_type not in ("Cast", "Shape"):
                node.input[place] = f"{name}_float"
    for name in sorted(integers):
        graph.node.insert(0, make_node("Cast", [name], [f"{name}_float"], f"{name}_cast", to=TensorProto.FLOAT))


def _cast_outputs(graph: onnx.GraphProto) -> None:
    from onnx import TensorProto
    from onnx.helper import make_node

    types = {output.name: output.type.tensor_type for output in graph.output}
    for place, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "Cast" or node.output[0] not in types:
            continue
        name = node.output[0]
        if types[name].elem_type == TensorProto.UINT16:
            types[name].elem_type = node.attribute[0].i = TensorProto.INT32
        elif types[name].elem_type == TensorProto.UINT8:
            graph.node.insert(
                place, make_node("Cast", [node.input[0]], [f"{name}_float"], f"{name}_cast", to=TensorProto.FLOAT)
            )
            graph.node[place + 1].input[0] = f"{name}_float"
