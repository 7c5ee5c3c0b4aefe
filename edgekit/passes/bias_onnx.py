"""Bias correction (``edgekit.quantization.bias``) of an ONNX model, before its weights are quantized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from edgekit.quantization.bias import Array, Means, rounding, shift

SUFFIX = "_corrected"


def correct(document: onnx.ModelProto, means: Means, kept: frozenset[str]) -> None:
    """In place: convolutions and matrix products with constant weights, but for those that are ``kept`` in float."""
    graph = document.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    users = Counter(name for node in graph.node for name in node.input)
    for node in list(graph.node):
        if node.op_type not in SHIFTS or node.name in kept or node.input[1] not in weights:
            continue
        change = SHIFTS[node.op_type](node, numpy_helper.to_array(weights[node.input[1]]), means)
        target = _adder(graph, node, users) if node.op_type == "MatMul" else node
        if change is not None and target is not None:
            _add(graph, target, change, weights)
    _drop_unread(graph)


def _convolution(node: NodeProto, weights: Array, means: Means) -> Array | None:
    mean = means(node.input[0], 1)
    lost = rounding(weights, 0)
    return None if mean is None else shift(lost.sum(axis=tuple(range(2, lost.ndim))), mean)


def _gemm(node: NodeProto, weights: Array, means: Means) -> Array | None:
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA", 0)
    return _product(node, weights.T if given.get("transB", 0) else weights, means) if plain else None


def _product(node: NodeProto, weights: Array, means: Means) -> Array | None:
    mean = means(node.input[0], -1)
    return None if mean is None or weights.ndim != 2 else shift(rounding(weights, 1).T, mean)


def _adder(graph: onnx.GraphProto, node: NodeProto, users: Counter[str]) -> NodeProto | None:
    """The addition of a constant that alone takes what a matrix product gives."""
    found = [each for each in graph.node if each.op_type == "Add" and node.output[0] in each.input]
    return found[0] if len(found) == 1 and users[node.output[0]] == 1 else None


def _add(graph: onnx.GraphProto, node: NodeProto, change: Array, weights: dict[str, onnx.TensorProto]) -> None:
    """To the bias of a layer, or the constant of an addition, which may be shared with others: it gets its own."""
    place = next((i for i, name in enumerate(node.input) if name in weights), None) if node.op_type == "Add" else 2
    if place is None:
        return
    has = len(node.input) > place and bool(node.input[place])
    before = numpy_helper.to_array(weights[node.input[place]]) if has and node.input[place] in weights else None
    if (has and before is None) or (before is not None and before.shape not in (change.shape, ())):
        return
    name = f"{node.output[0]}{SUFFIX}"
    made = numpy_helper.from_array((change if before is None else before + change).astype(np.float32), name)
    graph.initializer.append(made)
    weights[name] = made
    if has:
        node.input[place] = name
    else:
        del node.input[place:]
        node.input.append(name)


def _drop_unread(graph: onnx.GraphProto) -> None:
    """The biases that were replaced."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    inner = any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute)
    kept = [tensor for tensor in graph.initializer if inner or tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


SHIFTS: dict[str, Callable[[NodeProto, Array, Means], Array | None]] = {
    "Conv": _convolution,
    "Gemm": _gemm,
    "MatMul": _product,
}
