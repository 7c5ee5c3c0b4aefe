"""Weights of an ONNX model kept as int8, per channel and symmetric, computed with in float: a quarter of the size."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": -1, "MatMul": -1, "Gather": 0}
LEAST = 1024
"""Elements from which on it pays."""


def store_as_int8(document: onnx.ModelProto) -> int:
    """Put a DequantizeLinear behind each large float weight; how many there were."""
    graph, done = document.graph, dict[str, int]()
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for name in node.input[: 1 if node.op_type == "Gather" else 2]:
            if node.op_type in CHANNEL_AXIS and name in weights and name not in done and _pays(weights[name]):
                done[name] = _axis(node, len(weights[name].dims))
    for place, (name, axis) in enumerate(done.items()):
        graph.node.insert(place, _stored(graph, weights[name], axis))
    return len(done)


def _pays(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1 and int(np.prod(tensor.dims)) >= LEAST


def _axis(node: onnx.NodeProto, rank: int) -> int:
    """The axis of output channels."""
    turned = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if turned else CHANNEL_AXIS[node.op_type] % rank


def _stored(graph: onnx.GraphProto, tensor: onnx.TensorProto, axis: int) -> onnx.NodeProto:
    array = numpy_helper.to_array(tensor)
    others = tuple(index for index in range(array.ndim) if index != axis)
    scale = np.maximum(np.abs(array).max(axis=others), 1e-12).astype(np.float32) / np.float32(127)
    shape = [-1 if index == axis else 1 for index in range(array.ndim)]
    rounded = np.clip(np.rint(array / scale.reshape(shape)), -127, 127).astype(np.int8)
    name = tensor.name
    graph.initializer.remove(tensor)
    graph.initializer.extend(
        [numpy_helper.from_array(rounded, f"{name}_int8"), numpy_helper.from_array(scale, f"{name}_scale")]
    )
    parts = [f"{name}_int8", f"{name}_scale"]
    return helper.make_node("DequantizeLinear", parts, [name], f"{name}_dequantize", axis=axis)
