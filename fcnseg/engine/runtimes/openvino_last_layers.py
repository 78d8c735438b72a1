"""The last deconvolution and arg-max of a graph as a model of their own, for `coarse_labels`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fcnseg.models.geometry import Window
from fcnseg.models.layers import bilinear_kernel
from fcnseg.types import Labels
from fcnseg.weights.tensors import Array


class LastLayers:
    """Labels of the upsampled map of float32 scores K x h x w, by the operations of the whole graph.

    `compile_model` compiles a model in float32 for this processor. It is called at first use: few images need it.
    """

    def __init__(self, classes: int, window: Window, compile_model: Callable[[Any], Any]) -> None:
        self.classes, self.window, self._compile_model = classes, window, compile_model
        self._request: Any = None

    def __call__(self, scores: Array) -> Labels:
        """Return labels of (h - 1) s + k rows and (w - 1) s + k columns: uint8, or uint16 above 256 classes."""
        if self._request is None:
            self._request = self._compile_model(self._model()).create_infer_request()
        self._request.infer([np.ascontiguousarray(scores[None])])
        labels: Labels = self._request.get_output_tensor(0).data[0].copy()  # overwritten by the next
        return labels

    def _model(self) -> Any:
        """Return the model: nodes as OpenVINO makes them of the graph's."""
        import openvino
        from openvino import opset13 as ops

        kernel = bilinear_kernel(self.window.kernel)
        kernels = np.ascontiguousarray(np.broadcast_to(kernel, (self.classes, 1, 1, *kernel.shape)))
        scores = ops.parameter([1, self.classes, -1, -1], np.float32)
        upsampled = ops.group_convolution_backprop_data(scores, ops.constant(kernels), [self.window.stride] * 2)
        last = ops.transpose(upsampled, ops.constant([0, 2, 3, 1]))
        best = ops.topk(last, ops.constant(1), 3, "max", "value", "i64", stable=True)
        labels = ops.squeeze(best.output(1), ops.constant([3]))
        return openvino.Model([ops.convert(labels, "u8" if self.classes <= 256 else "u16")], [scores])
