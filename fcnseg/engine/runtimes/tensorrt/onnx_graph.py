"""Prepare an exported graph for TensorRT, which takes fewer types than ONNX has."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from fcnseg.errors import EngineError

if TYPE_CHECKING:
    import onnx


def prepared_graph(onnx_file: Path, outputs: Collection[str] | None) -> bytes:
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
            if name in integers and node.op_type != "Cast":
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
