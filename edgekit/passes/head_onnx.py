"""The head of a float ONNX model, its last dense layers: read out of it, and put back when it has learned.

A head as ``edgekit_train.heads`` writes it: ``head.0.weight`` [features, units], ``head.0.bias``, and so on, ReLU
between. It may have come back with more layers than it went with, and is the model's head from then on. What comes of
it is a float model like any other, to be quantized, gated and signed as one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgekit.errors import ConversionError
from edgekit.formats import onnx_file
from edgekit.model import Model, derived
from edgekit.passes import features_onnx, head_names
from edgekit.passes.cutting import part_onnx
from edgekit.passes.proof import load
from edgekit_train import heads
from edgekit_train.update import Weights


@dataclass(frozen=True)
class Layer:
    """Where a layer is: the ``nodes`` from ``takes`` to ``gives``; what it computes with, [features, units].

    ``axes`` of its bias as it is written: one of more than the scores have gives these as many.
    """

    nodes: tuple[onnx.NodeProto, ...]
    takes: str
    gives: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    axes: int = 1


def weights_of(model: Model) -> Weights:
    """Those that training starts from. Raises: ConversionError."""
    return heads.named([(layer.weight, layer.bias) for layer in _head(model, onnx_file.load(model.path))])


def merged(model: Model, weights: Weights, path: Path) -> Model:
    """The model with another head, in a new file.

    Raises: ConversionError, InvalidInput for weights that are no head, EngineError for a model that does not load.
    """
    document, learned = onnx_file.load(model.path), heads.layers(weights)
    old = _head(model, document)
    wanted = (len(old[0].weight), old[-1].bias.size)
    if (learned[0][0].shape[0], learned[-1][1].size) != wanted:
        raise ConversionError(f"{model.path.name}: has a head of {wanted[0]} features and {wanted[1]} classes")
    _put(document.graph, old, learned)
    onnx.save(document, path)
    result = replace(derived(model, path, head_names.NAME), head_layers=len(learned))
    load(result).close()
    return result


def _put(graph: onnx.GraphProto, old: list[Layer], learned: list[heads.Layer]) -> None:
    """Another head in the place of the old one, of which nothing is left."""
    takes, last, depth = old[0].takes, old[-1], len(learned)
    for node in _nodes_of(graph, old):
        graph.node.remove(node)
    _forget(graph, takes)
    prefix = head_names.free(tensor.name for tensor in graph.initializer)
    place = 1 + next(index for index, node in enumerate(graph.node) if takes in node.output)
    for offset, node in enumerate(_nodes((takes, last.gives), prefix, depth, last.nodes[0].op_type)):
        graph.node.insert(place + offset, node)
    arrays, bias = heads.named(learned, prefix), f"{prefix}.{depth - 1}.bias"
    arrays[bias] = arrays[bias].reshape((1,) * (last.axes - 1) + (-1,))
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())


def _head(model: Model, document: onnx.ModelProto) -> list[Layer]:
    return [_layer(model, document, node) for node in features_onnx.layers(model, document.graph)]


def _layer(model: Model, document: onnx.ModelProto, layer: onnx.NodeProto) -> Layer:
    if layer.op_type not in ("Gemm", "MatMul"):
        raise ConversionError(f"{model.path.name}: its last layer is a {layer.op_type}", "give the float model")
    told = {each.name: helper.get_attribute_value(each) for each in layer.attribute}
    nodes = features_onnx.with_bias(document.graph, layer)
    bias = _other(nodes[-1], nodes[-2].output[0]) if len(nodes) > 1 else "".join(layer.input[2:])
    found = part_onnx.values(document, [name for name in (layer.input[1], bias) if name])
    given = found[layer.input[1]]
    if told.get("transA") or given.ndim != 2 or given.dtype != np.float32:
        raise ConversionError(f"{model.path.name}: its last layer is no matrix of floats, features by classes")
    weight = (given.T if told.get("transB") else given) * np.float32(told.get("alpha", 1.0))
    offset = found[bias].reshape(-1) * np.float32(told.get("beta", 1.0)) if bias else np.zeros(1, np.float32)
    offset = np.broadcast_to(offset, weight.shape[1:]).astype(np.float32)
    axes = max(found[bias].ndim, 1) if len(nodes) > 1 else 1
    return Layer(nodes, layer.input[0], nodes[-1].output[0], np.ascontiguousarray(weight), offset.copy(), axes)


def _other(node: onnx.NodeProto, name: str) -> str:
    return str(next(each for each in node.input if each != name))


def _nodes_of(graph: onnx.GraphProto, head: list[Layer]) -> list[onnx.NodeProto]:
    """Those of its layers, and the ReLUs between, as ``_nodes`` writes them."""
    inner = {layer.takes for layer in head[1:]}
    between = [node for node in graph.node if inner & set(node.output)]
    return [*between, *(node for layer in head for node in layer.nodes)]


def _nodes(ends: tuple[str, str], prefix: str, depth: int, kind: str) -> list[onnx.NodeProto]:
    """Layers of the ``kind`` that was there, and a ReLU between; they take and give tensors of the names that were."""
    made, (takes, given) = [], ends
    for name in (f"{prefix}.{place}" for place in range(depth)):
        last = name == f"{prefix}.{depth - 1}"
        gives = given if last else f"{name}.sum"
        made += _dense(takes, gives, name, kind)
        takes = f"{name}.relu"
        if not last:
            made.append(helper.make_node("Relu", [gives], [takes], takes))
    return made


def _dense(takes: str, gives: str, name: str, kind: str) -> list[onnx.NodeProto]:
    """A Gemm, or a MatMul and what adds its bias: that takes more than two axes, [N, 1, features] among them."""
    weight, bias, product = f"{name}.weight", f"{name}.bias", f"{name}.product"
    if kind == "Gemm":
        return [helper.make_node(kind, [takes, weight, bias], [gives], name)]
    return [
        helper.make_node("MatMul", [takes, weight], [product], name),
        helper.make_node("Add", [product, bias], [gives], bias),
    ]


def _forget(graph: onnx.GraphProto, takes: str) -> None:
    """Initializers, and nodes, that nothing takes any more, beside what the head does: weights may come from nodes."""
    used = {takes, *(value.name for value in graph.output)}
    for node in reversed(list(graph.node)):
        if used & set(node.output):
            used |= part_onnx.taken(node)
        else:
            graph.node.remove(node)
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(kept)
