"""Representable: from where to where a quantized model can tell the floats that go into it, and come out of it.

Read from the file itself: from the operator that quantizes an input first of all, or makes an output float last of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekit.formats import onnx_file, tflite_file
from edgekit.model import Format, Model

LIMITS: Mapping[int, NDArray[Any]] = {
    TensorType.INT8: np.array([-128, 127]),
    TensorType.UINT8: np.array([0, 255]),
    TensorType.INT16: np.array([-32768, 32767]),
}


@dataclass(frozen=True)
class Held:
    """What integers hold: floats from ``low`` to ``high``, with a ``step`` between two."""

    low: float
    high: float
    step: float

    @property
    def bounded(self) -> bool:
        """Whether it is that of a softmax, a sigmoid or a tanh, whose ends are reached by right."""
        return min(abs(self.low), abs(self.low + 1)) <= self.step and abs(self.high - 1) <= self.step


def inputs(model: Model) -> dict[str, Held]:
    """By the name inside the file; only of float inputs with one scale."""
    return dict(_tflite(model, BuiltinOperator.QUANTIZE) if _is_tflite(model) else _onnx(model, "QuantizeLinear"))


def outputs(model: Model) -> dict[str, Held]:
    """The same of outputs."""
    return dict(_tflite(model, BuiltinOperator.DEQUANTIZE) if _is_tflite(model) else _onnx(model, "DequantizeLinear"))


def _is_tflite(model: Model) -> bool:
    return model.format is Format.TFLITE


def _tflite(model: Model, wanted: int) -> Iterator[tuple[str, Held]]:
    document = tflite_file.unpacked(model.path.read_bytes())
    graph, into = document.subgraphs[0], wanted == BuiltinOperator.QUANTIZE
    for operator in graph.operators:
        code = document.operatorCodes[operator.opcodeIndex]
        if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted:
            ends = (graph.tensors[number] for number in (operator.inputs[0], operator.outputs[0]))
            outer, inner = ends if into else reversed([*ends])
            scales = inner.quantization
            if scales is not None and np.size(scales.scale) == 1 and inner.type in LIMITS:
                yield outer.name.decode(), _held(scales.scale[0], scales.zeroPoint[0], LIMITS[inner.type])


def _onnx(model: Model, wanted: str) -> Iterator[tuple[str, Held]]:
    graph = onnx_file.load(model.path).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        scale, zero = (constants.get(name) for name in (*node.input[1:3], "", "")[:2])
        if node.op_type == wanted and scale is not None and zero is not None:
            step, point = numpy_helper.to_array(scale), numpy_helper.to_array(zero)
            if step.size == 1 and point.dtype in (np.int8, np.uint8, np.int16):
                limits = np.iinfo(point.dtype)
                outer = node.input[0] if wanted == "QuantizeLinear" else node.output[0]
                yield outer, _held(step.item(), point.item(), np.array([limits.min, limits.max]))


def _held(scale: float, zero: float, limits: NDArray[Any]) -> Held:
    low, high = (limits.astype(np.float64) - zero) * scale
    return Held(float(low), float(high), float(scale))
