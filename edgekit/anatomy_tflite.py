"""The anatomy of a TFLite model."""

from __future__ import annotations

from edgekit.anatomy import QUANTIZED, Anatomy, Layer, precision
from edgekit.formats import tflite_graph
from edgekit.formats.tflite_graph import Graph, Operator, Tensor

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
VARIABLES = ("CALL_ONCE", "READ_VARIABLE", "VAR_HANDLE")
"""What leads to the numbers of a variable, and computes nothing."""
UNPACKING = ("DEQUANTIZE", "DENSIFY")
"""Of a constant done once, before the first call."""


def read(model: bytes) -> Anatomy:
    """Raises: ValueError, one line."""
    file, taken = tflite_graph.read(model), set[int]()
    layers = tuple(layer for graph in file.graphs for layer in _layers(graph, taken))
    return Anatomy(layers, file.needs)


def _layers(graph: Graph, taken: set[int]) -> list[Layer]:
    tensors, layers = dict(graph.tensors), list[Layer]()
    for operator in graph.operators:
        if operator.op in UNPACKING and all(tensors[number].size for number in operator.inputs):
            tensors.update((number, tensors[operator.inputs[0]]) for number in operator.outputs if operator.inputs)
        elif operator.op not in (*CONVERSIONS, *VARIABLES):
            layers.append(_layer(operator, tensors, taken))
    return layers


def _layer(operator: Operator, tensors: dict[int, Tensor], taken: set[int]) -> Layer:
    """``taken``: the buffers that layers before have counted."""
    given = [tensors[number] for number in operator.inputs]
    constants = [tensor for tensor in given if tensor.size]
    fresh = {tensor.buffer: tensor.size for tensor in constants if tensor.buffer not in taken}
    taken.update(fresh)
    weight = max(constants, key=lambda tensor: tensor.size, default=None)
    made = tensors[operator.outputs[0]] if operator.outputs else None
    word = precision([_kind(each) for each in given if not each.size], _kind(weight) if weight else "")
    return Layer(
        made.name if made else operator.op, operator.op, word, sum(fresh.values()), made.shape if made else None
    )


def _kind(tensor: Tensor) -> str:
    signed = tensor.kind.removeprefix("u")
    return signed if tensor.quantized and signed in QUANTIZED else tensor.kind
