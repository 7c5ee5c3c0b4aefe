"""An input of a quantized ONNX model that takes what its QuantizeLinear would make: uint8 pixels (``folding``)."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

WANTED = onnx.TensorProto.UINT8


def take_pixels(document: onnx.ModelProto, name: str) -> bool:
    """Whether it can be done: nothing but the quantization to uint8 may read the input, transposed or not."""
    graph = document.graph
    names = set(transposed(graph, name))
    readers = [node for node in graph.node if names & {*node.input} and not names & {*node.output}]
    zeros = {tensor.name: tensor.data_type for tensor in graph.initializer}
    if not readers or any(node.op_type != "QuantizeLinear" or zeros.get(node.input[-1]) != WANTED for node in readers):
        return False
    for reader in readers:
        _read_instead(graph, reader.output[0], reader.input[0])
        graph.node.remove(reader)
    for value in (*graph.input, *graph.value_info):
        if value.name in names:
            value.type.tensor_type.elem_type = WANTED
    return True


def transposed(graph: onnx.GraphProto, name: str) -> Iterator[str]:
    """A tensor, and those that hold the same numbers in another order of axes, as converters from TensorFlow begin."""
    yield name
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] == name:
            yield from transposed(graph, node.output[0])


def _read_instead(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
