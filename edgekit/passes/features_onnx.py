"""ONNX, float or quantized → the same with what its head takes as one more output, as it is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.formats import onnx_file
from edgekit.model import Model
from edgekit.passes import head_layers
from edgekit.passes.cutting import part_onnx
from edgekit.passes.onnx_errors import as_conversion_error
from edgekit_runtime.features import Features

DENSE = frozenset({"Conv", "Gemm", "MatMul"})
INTEGER = frozenset({"QGemm", "QLinearConv", "QLinearMatMul"})
"""They take, before anything else, a tensor with its scale and its zero point."""
BEHIND = frozenset(
    {"Add", "Cast", "DequantizeLinear", "Flatten", "Identity", "LogSoftmax", "QLinearAdd", "QLinearSoftmax"}
    | {"QuantizeLinear", "Reshape", "Softmax", "Squeeze"}
)
"""What may stand between the last layer and the first output."""
BETWEEN = BEHIND | {"Relu"}
"""What may stand between two layers of a head."""
ADDING = frozenset({"Add", "QLinearAdd"})
"""They may, where they add the bias of a layer that has none of its own."""
SIGMOID = frozenset({"QLinearSigmoid", "Sigmoid"})
UNBIASED = frozenset({"MatMul", "QLinearMatMul"})
ROUNDING = frozenset({"DequantizeLinear", "QuantizeLinear"})


def write(model: Model, path: Path) -> Features:
    """Raises: ConversionError."""
    document = onnx_file.load(model.path)
    graph = document.graph
    told = _told(graph, layers(model, graph)[0])
    if told.tensor in {value.name for value in (*graph.input, *graph.output)}:
        raise head_layers.featureless(model, head_layers.NONE)
    graph.output.append(onnx.ValueInfoProto(name=told.tensor))
    with as_conversion_error(model, "loading with its features"):
        typed = part_onnx.declared(document)[-1]
    graph.output.pop()
    graph.output.append(typed)
    onnx.save(document, path)
    return told


def layers(model: Model, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The dense layers of its head, the first one first; their weights are fixed. Raises: ConversionError."""
    fixed = part_onnx.fixed(graph)

    def before(node: onnx.NodeProto | None) -> onnx.NodeProto | None:
        gives, passing = (graph.output[0].name, BEHIND) if node is None else (node.input[0], BETWEEN)
        layer, passed = _dense(graph, fixed, gives, passing | SIGMOID)
        if any(each.op_type in SIGMOID for each in passed):
            raise head_layers.featureless(model, head_layers.SIGMOID)
        own = with_bias(graph, layer) if layer else ()
        for each in passed:
            if layer and each.op_type in ADDING and each not in own:
                raise head_layers.featureless(model, head_layers.ADDED.format(each.name or each.op_type))
        return layer

    return head_layers.of(model, before)


def with_bias(graph: onnx.GraphProto, layer: onnx.NodeProto) -> tuple[onnx.NodeProto, ...]:
    """The layer, and what is behind it as far as its bias is added, where nothing else takes what it gives."""
    fixed, ends = part_onnx.fixed(graph), {value.name for value in graph.output}
    found = [layer]
    while layer.op_type in UNBIASED and found[-1].output[0] not in ends:
        users = [node for node in graph.node if found[-1].output[0] in part_onnx.taken(node)]
        if len(users) != 1 or users[0].op_type not in ADDING | ROUNDING:
            break
        found.append(users[0])
        if users[0].op_type in ADDING:
            return tuple(found) if set(users[0].input) - {found[-2].output[0]} <= fixed | {""} else (layer,)
    return (layer,)


def _dense(
    graph: onnx.GraphProto, fixed: set[str], gives: str, passing: frozenset[str]
) -> tuple[onnx.NodeProto | None, list[onnx.NodeProto]]:
    """The layer that a tensor comes from, None where it comes from none; the operators that are passed over."""
    makers, passed = {name: node for node in graph.node for name in node.output}, list[onnx.NodeProto]()
    node = makers.get(gives)
    while node is not None and node.op_type in passing:
        passed.append(node)
        moving = [name for name in node.input if name and name not in fixed]
        node = makers.get(moving[0]) if len(moving) == 1 else None
    if node is None or node.op_type not in DENSE | INTEGER or node.input[0] in fixed:
        return None, passed
    return node if node.input[3 if node.op_type in INTEGER else 1] in fixed else None, passed


def _told(graph: onnx.GraphProto, layer: onnx.NodeProto) -> Features:
    """The integers where the layer takes some, as they are; its size is 1."""
    given = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    maker = next((node for node in graph.node if layer.input[0] in node.output), None)
    parts = layer if layer.op_type in INTEGER else maker
    if parts is None or (parts is maker and maker.op_type != "DequantizeLinear"):
        return Features(layer.input[0], 1)
    scale, zero = given.get(parts.input[1]), given.get(parts.input[2]) if len(parts.input) > 2 else np.zeros(1)
    if scale is None or zero is None or scale.size != 1:
        return Features(layer.input[0], 1)
    return Features(parts.input[0], 1, float(scale.item()), int(zero.item()))
