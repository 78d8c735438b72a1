"""Build TensorRT plans. Every status is checked here, and the library's log goes into the error."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcnseg.engine.hardware import cuda_capability
from fcnseg.engine.runtimes.tensorrt.library import NOTED, REASON_CHARACTERS, TensorRTLibrary, load_library
from fcnseg.engine.runtimes.tensorrt.onnx_graph import prepared_graph
from fcnseg.engine.runtimes.tensorrt.progress import OnProgress, progress_monitor, watched
from fcnseg.engine.runtimes.tensorrt.timings import timing_cache
from fcnseg.errors import EngineError
from fcnseg.recipes import MODALITIES, Shapes

WORKSPACE_BYTES = 4 << 30
"""What TensorRT may take within a layer, if it builds with that: kernels that need more do not fit most GPUs."""


@dataclass(frozen=True)
class Plan:
    """A plan's bytes. `is_static`: its memory is planned before it runs; else it may be short of it at any time.
    `layers` describes each layer in the library's words, where that was asked for."""

    content: memoryview
    is_static: bool
    layers: tuple[str, ...] = ()


def build_plan(
    onnx_file: Path,
    library: str,
    profiles: Sequence[Shapes],
    *,
    outputs: Collection[str] | None = None,
    describe: bool = False,
    on_progress: OnProgress = lambda phase, part: None,
) -> Plan:
    """Build an exported graph into a plan for the current CUDA device.

    One optimisation profile a `Shapes`: batches of 1 to `max_batch`, tuned for full ones of the typical size; every
    modality has the same N, H and W. The graph's own types are the plan's (strongly typed), and TF32 is off.
    `outputs` names those the plan keeps (default: all); `describe` has its layers described. `on_progress` gets the
    library's phase and the fraction done, 0..1; it is called from this thread while another builds, and an exception of
    its own, like Ctrl-C, ends the build and surfaces here. Raises EngineError, with the library's own reason, for a
    graph or profiles it cannot build or a missing library.
    """
    loaded = load_library(library)
    _check_profiles(profiles)
    builder = loaded.builder()
    limits = (WORKSPACE_BYTES, None) if library == "tensorrt" else (None,)  # TensorRT-RTX does not build with less
    for limit_bytes in limits:
        loaded.forget()
        network, _parser = _parsed(loaded, builder, onnx_file, outputs)
        config = _configured(loaded, builder, network, profiles)
        if limit_bytes:
            pool = loaded.module.MemoryPoolType.WORKSPACE
            config.set_memory_pool_limit(pool, min(limit_bytes, config.get_memory_pool_limit(pool)))
        if describe:
            config.profiling_verbosity = loaded.module.ProfilingVerbosity.DETAILED
        monitor = progress_monitor(loaded.module)
        config.progress_monitor = monitor
        with timing_cache(loaded, config):
            content = watched(lambda: builder.build_serialized_network(network, config), monitor, on_progress)  # noqa: B023
        if content is not None:
            return _described(loaded, content)
    raise loaded.refusal(f"cannot build {onnx_file.name}", "try --backend torch")


def _described(library: TensorRTLibrary, content: Any) -> Plan:
    notes = "\n".join(library.notes)
    layers = [line for line in notes.splitlines() if "LayerType: " in line]
    return Plan(memoryview(content).cast("B"), NOTED[0] not in notes, tuple(layers))


def _parsed(
    library: TensorRTLibrary, builder: Any, onnx_file: Path, outputs: Collection[str] | None
) -> tuple[Any, Any]:
    """Return the network, and the parser, which owns its weights until the plan is built."""
    strongly_typed = 1 << int(library.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strongly_typed)
    if network is None:
        raise library.refusal("cannot begin a network", "try --backend torch")
    parser = library.module.OnnxParser(network, library.logger)
    parsed = parser.parse(prepared_graph(onnx_file, outputs), path=str(onnx_file))
    _check_parsed(library, parser, network, parsed, onnx_file)
    return network, parser


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
        library.forget()
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
    """Return the builder's configuration: exact float32, memory by the shapes at hand, the GPU that is here, and the
    profiles."""
    config = builder.create_builder_config()
    config.clear_flag(library.module.BuilderFlag.TF32)
    resize = getattr(library.module.PreviewFeature, "RUNTIME_ACTIVATION_RESIZE_10_10", None)
    if resize is not None:  # before TensorRT 10.10 fused layers keep the memory of the largest shapes
        config.set_preview_feature(resize, True)
    if library.name == "tensorrt-rtx" and cuda_capability():  # by default for several kinds, and never for 7.5
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(library.module.ComputeCapability.CURRENT, 0):
            raise library.refusal("does not build for this GPU", "use --backend torch")
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
            raise library.refusal(
                f"does not take sizes {_size(shapes.smallest)} to {_size(shapes.largest)} for this graph",
                "give a range that the graph allows",
            )
    return config
