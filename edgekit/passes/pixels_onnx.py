"""An input of a quantized ONNX model that takes what its QuantizeLinear would make: uint8 pixels (``folding``)."""

from __future__ import annotations

import onnx


def take_pixels(document: onnx.ModelProto, name: str) -> bool:
    """Whether it can be done: nothing but the quantization to uint8 may read the input."""
    graph = document.graph
    readers = [node for node in graph.node if name in node.input]
    zeros = {tensor.name: tensor.data_type for tensor in graph.initializer}
    wanted = onnx.TensorProto.UINT8
    if not readers or any(node.op_type != "QuantizeLinear" or zeros.get(node.input[-1]) != wanted for node in readers):
        return False
    for reader in readers:
        _read_instead(graph, reader.output[0], name)
        graph.node.remove(reader)
    next(value for value in graph.input if value.name == name).type.tensor_type.elem_type = wanted
    return True


def _read_instead(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
