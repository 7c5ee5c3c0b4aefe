"""Bias correction (``edgekit.bias``) of a TFLite model, before its weights are quantized."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.bias import Array, Means, rounding, shift
from edgekit.formats import tflite_file

SUFFIX = b"_corrected"


def correct(model: bytes, means: Means, kept: frozenset[str]) -> bytes:
    """The model with its convolutions and matrix products corrected, but for those that are ``kept`` in float."""
    document = tflite_file.unpacked(model)
    for graph in document.subgraphs:
        for operator in graph.operators:
            code = document.operatorCodes[operator.opcodeIndex]
            work = LOSSES.get(max(code.builtinCode, code.deprecatedBuiltinCode))
            if work and _name(graph, operator.outputs[0]) not in kept:
                _correct(document, graph, operator, work, means)
    return tflite_file.packed(document)


def _correct(document: Any, graph: Any, operator: Any, work: Callable[[Array], Array], means: Means) -> None:
    weights = _constant(document, graph, operator.inputs[1])
    mean = means(_name(graph, operator.inputs[0]), -1)
    change = shift(work(weights), mean) if weights is not None and mean is not None else None
    old = operator.inputs[2] if len(operator.inputs) > 2 else -1
    before = _constant(document, graph, old) if old >= 0 else None
    if change is None or before is None:  # converters write zeros for a layer without bias
        return
    data = np.frombuffer((before + change).astype(np.float32).tobytes(), np.uint8)
    if _is_alone(document, graph, old):
        document.buffers[graph.tensors[old].buffer].data = data
        return
    buffer, tensor = schema.BufferT(), copy(graph.tensors[old])
    buffer.data = data
    tensor.buffer, tensor.name = len(document.buffers), tensor.name + SUFFIX + str(len(graph.tensors)).encode()
    document.buffers.append(buffer)
    graph.tensors.append(tensor)
    operator.inputs = [*operator.inputs[:2], len(graph.tensors) - 1]


def _is_alone(document: Any, graph: Any, index: int) -> bool:
    """Whether one operator alone reads a tensor, and the tensor alone its buffer."""
    readers = sum(list(each.inputs).count(index) for each in graph.operators if each.inputs is not None)
    buffer = graph.tensors[index].buffer
    return readers == 1 and sum(each.buffer == buffer for part in document.subgraphs for each in part.tensors) == 1


def _constant(document: Any, graph: Any, index: int) -> Array | None:
    tensor = graph.tensors[index]
    data = document.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or data is None or not len(data):
        return None
    return np.frombuffer(bytes(data), np.float32).reshape(tensor.shape)


def _name(graph: Any, index: int) -> str:
    name: str = graph.tensors[index].name.decode()
    return name


def _convolution(weights: Array) -> Array:
    """[outputs, height, width, inputs of a group]."""
    return np.asarray(rounding(weights, 0).sum(axis=(1, 2)))


def _depthwise(weights: Array) -> Array:
    """[1, height, width, outputs]."""
    return np.asarray(rounding(weights, 3).sum(axis=(0, 1, 2))[:, np.newaxis])


def _product(weights: Array) -> Array:
    """[outputs, inputs]."""
    return rounding(weights, 0)


LOSSES: dict[int, Callable[[Array], Array]] = {
    schema.BuiltinOperator.CONV_2D: _convolution,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: _depthwise,
    schema.BuiltinOperator.FULLY_CONNECTED: _product,
}
