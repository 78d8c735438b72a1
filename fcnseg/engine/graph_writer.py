"""Write ONNX graphs: nodes, numbers, sizes that are known only when the graph runs, and files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from fcnseg.errors import OutputError
from fcnseg.io.atomic import PART

OPSET = 20

SINGLE_FILE_BYTES = 2**31 - 2**20
"""A protobuf message holds less than 2 GiB; larger weights go into a file of their own."""

IN_GRAPH_BYTES = 1024
"""Smaller numbers are part of the graph's own file in any case: sizes and the like are read when it is parsed."""

ALIGNMENT = 64

Tensor = str
"""The name of a tensor in the graph."""


class GraphWriter:
    """Collects an ONNX graph. Each method that adds to it returns the name of the tensor that it adds.

    Maps are N x C x H x W. A size is a tensor of two integers, the height and the width.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.numbers: dict[Tensor, NDArray[Any]] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    # ------------------------------------------------------------------ parts

    def input(self, name: str, dtype: int, axes: Sequence[str | int]) -> Tensor:
        """Add an input; axes that differ from call to call have names."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, axes))
        return name

    def output(self, tensor: Tensor, dtype: int, axes: Sequence[str | int]) -> None:
        """Make a tensor an output, of its own name."""
        self.outputs.append(helper.make_tensor_value_info(tensor, dtype, axes))

    def number(self, value: Any, name: str = "") -> Tensor:
        """Add numbers; those without a name are kept once."""
        array = np.asarray(value)
        name = name or f"{array.dtype}:{array.shape}:{array.ravel().tolist()}"
        self.numbers.setdefault(name, array)
        return name

    def integers(self, *values: int) -> Tensor:
        """Add a list of integers."""
        return self.number(np.array(values, np.int64))

    def node(self, kind: str, *inputs: Tensor, name: str = "", output: str = "", **attributes: Any) -> Tensor:
        """Add a node, called by its layer's `name` if it is one; `output` names its tensor."""
        name = name or f"{kind}:{len(self.nodes)}"  # no layer's name has a colon
        output = output or f"{name}:{kind}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output

    def cast(self, x: Tensor, dtype: int, output: str = "") -> Tensor:
        """Convert to another type."""
        return self.node("Cast", x, output=output, to=dtype)

    # ------------------------------------------------------------------ sizes and cutting to them

    def size_of(self, x: Tensor) -> Tensor:
        """Return the height and width of a map."""
        return self.node("Shape", x, start=2, end=4)

    def whole(self, kind: str, a: Tensor, b: Tensor | int) -> Tensor:
        """Compute with sizes: "Add", "Sub", "Mul", "Div" (rounded down) or "Mod", of numbers that are not negative."""
        return self.node(kind, a, b if isinstance(b, str) else self.number(np.int64(b)))

    def crop(self, x: Tensor, offset: int, size: Tensor) -> Tensor:
        """Cut a map of that size out of another, from row and column `offset` on."""
        end = self.whole("Add", size, offset) if offset else size
        return self.node("Slice", x, self.integers(offset, offset), end, self.integers(2, 3))

    def pad(self, x: Tensor, before: int, after: Tensor | int) -> Tensor:
        """Put zeros around a map: `before` rows and columns at the start, as many as the size `after` says at the end;
        a number for both if it is one."""
        if isinstance(after, int):
            return self.node("Pad", x, self.integers(0, 0, before, before, 0, 0, after, after))
        start = self.integers(0, 0, before, before, 0, 0)
        return self.node("Pad", x, self.node("Concat", start, after, axis=0))

    def interpolated(self, x: Tensor, size: Tensor) -> Tensor:
        """Interpolate a map bilinearly to that size, the corners of the outermost pixels on one another."""
        whole = self.node("Concat", self.node("Shape", x, end=2), size, axis=0)
        return self.node("Resize", x, "", "", whole, mode="linear", coordinate_transformation_mode="half_pixel")

    # ------------------------------------------------------------------ files

    def save(self, path: Path, metadata: Mapping[str, str], *, separate_numbers: bool = False) -> None:
        """Write the graph as an ONNX file, whole or not at all.

        With `separate_numbers` (and above 2 GiB in any case) the large ones go into `<path>.data`. Raises OutputError.
        """
        separate = separate_numbers or sum(array.nbytes for array in self.numbers.values()) > SINGLE_FILE_BYTES
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=PART) as folder:
                data = Path(folder) / f"{path.name}.data"
                numbers = self._with_data_file(data) if separate else [_tensor(*item) for item in self.numbers.items()]
                graph = helper.make_graph(self.nodes, "labels", self.inputs, self.outputs, numbers)
                model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
                model.producer_name = "fcnseg"
                helper.set_model_props(model, dict(sorted(metadata.items())))
                (Path(folder) / path.name).write_bytes(model.SerializeToString())
                for file in sorted(
                    Path(folder).iterdir(), reverse=True
                ):  # the numbers before the graph that names them
                    os.replace(file, path.parent / file.name)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; check its permissions and space") from error

    def _with_data_file(self, data: Path) -> list[TensorProto]:
        tensors = []
        with data.open("wb") as file:
            for name, array in self.numbers.items():
                if array.nbytes < IN_GRAPH_BYTES:
                    tensors.append(_tensor(name, array))
                    continue
                file.write(b"\0" * (-file.tell() % ALIGNMENT))
                tensor = _typed(name, array)
                tensor.data_location = TensorProto.EXTERNAL
                for key, value in (("location", data.name), ("offset", file.tell()), ("length", array.nbytes)):
                    tensor.external_data.add(key=key, value=str(value))
                file.write(np.ascontiguousarray(array).view(np.uint8).data)  # bfloat16 has no buffer of its own
                tensors.append(tensor)
        return tensors


def _tensor(name: str, array: NDArray[Any]) -> TensorProto:
    tensor = _typed(name, array)
    tensor.raw_data = array.tobytes()
    return tensor


def _typed(name: str, array: NDArray[Any]) -> TensorProto:
    return TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
