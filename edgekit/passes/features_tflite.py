"""TFLite, float or quantized → the same with what its last dense layer takes as one more output, as it is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError
from edgekit.formats import tflite_file, tflite_graph
from edgekit.model import Model
from edgekit_runtime.features import Features

DENSE = frozenset({"CONV_2D", "FULLY_CONNECTED"})
BEHIND = frozenset({"DEQUANTIZE", "LOGISTIC", "LOG_SOFTMAX", "QUANTIZE", "RESHAPE", "SOFTMAX", "SQUEEZE"})
"""What may stand between the last layer and the first output."""


def write(model: Model, path: Path) -> Features:
    """Raises: ConversionError."""
    data = model.path.read_bytes()
    index = dense(model, tflite_graph.read(data).graphs[0]).inputs[0]
    document = tflite_file.unpacked(data)
    graph = document.subgraphs[0]
    graph.outputs = [*graph.outputs, index]
    path.write_bytes(tflite_file.packed(document))
    return _told(graph.tensors[index])


def dense(model: Model, graph: tflite_graph.Graph) -> tflite_graph.Operator:
    """The last layer: it takes the features, the weights and, mostly, a bias. Raises: ConversionError."""
    makers = {number: operator for operator in graph.operators for number in operator.outputs}
    operator = makers.get(graph.outputs[0])
    while operator is not None and operator.op in BEHIND:
        operator = makers.get(operator.inputs[0])
    found = operator is not None and operator.op in DENSE and graph.tensors[operator.inputs[1]].size
    if operator is None or not found or operator.inputs[0] in (*graph.inputs, *graph.outputs):
        raise ConversionError(
            f"{model.path.name}: has no features to train on: its first output comes from no dense layer behind others",
            "build it without features = true",
        )
    return operator


def _told(tensor: Any) -> Features:
    """Its size is 1."""
    name, quantization = tensor.name.decode(), tensor.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
        return Features(name, 1)
    return Features(name, 1, float(quantization.scale[0]), int(quantization.zeroPoint[0]))
