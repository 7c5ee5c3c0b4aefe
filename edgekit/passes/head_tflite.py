"""The head of a float TFLite model, its last dense layers: read out of it, and put back when it has learned.

It may come back with more layers than it went with: further ones are of the kind of the last, with a ReLU in them, and
are the model's head from then on.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgekit.errors import ConversionError
from edgekit.formats import tflite_file
from edgekit.model import Model, derived
from edgekit.passes import features_tflite, head_names
from edgekit.passes.constants_tflite import Constants
from edgekit.passes.proof import load
from edgekit_train import heads
from edgekit_train.update import Weights

Floats = NDArray[np.float32]


def weights_of(model: Model) -> Weights:
    """Those that training starts from. Raises: ConversionError."""
    document = tflite_file.unpacked(model.path.read_bytes())
    return heads.named([_values(document, operator) for operator in _operators(model, document)])


def merged(model: Model, weights: Weights, path: Path) -> Model:
    """The model with another head, in a new file.

    Raises: ConversionError, InvalidInput for weights that are no head, EngineError for a model that does not load.
    """
    learned, document = heads.layers(weights), tflite_file.unpacked(model.path.read_bytes())
    operators = _operators(model, document)
    size, classes = _values(document, operators[0])[0].shape[0], _values(document, operators[-1])[1].size
    if (len(learned[0][0]), learned[-1][1].size) != (size, classes):
        raise ConversionError(f"{model.path.name}: has a head of {size} features and {classes} classes")
    if len(operators) != len(learned):
        operators = _rebuilt(document, operators, len(learned))
    for operator, (weight, bias) in zip(operators, learned, strict=True):
        _fill(document, operator, weight, bias)
    path.write_bytes(tflite_file.packed(document))
    result = replace(derived(model, path, head_names.NAME), head_layers=len(learned))
    load(result).close()
    return result


def _operators(model: Model, document: Any) -> list[Any]:
    """The layers, the first one first: fully connected ones, or convolutions of one place."""
    found = features_tflite.layers(model, document)
    for layer in found:
        tensors = [document.subgraphs[0].tensors[index] for index in _constants(layer) if index is not None]
        sizes = tensors[0].shape
        computed = any(document.buffers[tensor.buffer].data is None for tensor in tensors)
        odd = computed or any(tensor.type != schema.TensorType.FLOAT32 for tensor in tensors)
        if odd or sizes[0] * sizes[-1] != np.prod(sizes):
            raise ConversionError(f"{model.path.name}: its last layer is no matrix of floats", "give the float model")
    return found


def _values(document: Any, operator: Any) -> tuple[Floats, Floats]:
    """Weights [features, units] and bias of a layer; zeros where it has none."""
    weight, bias = (index if index is None else _value(document, index) for index in _constants(operator))
    assert weight is not None
    matrix = np.ascontiguousarray(weight.reshape(len(weight), -1).T)
    return matrix, np.zeros(len(weight), np.float32) if bias is None else bias


def _value(document: Any, index: int) -> Floats:
    tensor = document.subgraphs[0].tensors[index]
    return np.frombuffer(bytes(document.buffers[tensor.buffer].data), "<f4").reshape(tensor.shape).copy()


def _constants(operator: Any) -> tuple[int, int | None]:
    """The tensors of weights and bias."""
    weight, *bias = (int(index) for index in operator.inputs[1:])
    return weight, bias[0] if bias and bias[0] >= 0 else None


def _rebuilt(document: Any, operators: list[Any], depth: int) -> list[Any]:
    """As many layers, their weights yet to be filled in: the last one, with others like it before."""
    graph, last = document.subgraphs[0], operators[-1]
    place = _without(document, operators[:-1], last)
    prefix = head_names.free(tensor.name.decode() for tensor in graph.tensors if tensor.name)
    takes, made = int(operators[0].inputs[0]), list[Any]()
    for name in (f"{prefix}.{number}" for number in range(depth - 1)):
        layer = _rectified(deepcopy(last))
        weight = _like(graph, int(last.inputs[1]), f"{name}.weight")
        given = _like(graph, int(last.outputs[0]), f"{name}.relu")
        layer.inputs, layer.outputs = [takes, weight], [given]
        made.append(layer)
        takes = given
    last.inputs = [takes, *last.inputs[1:]]
    graph.operators[place:place] = made
    return [*made, last]


def _rectified(operator: Any) -> Any:
    """With a ReLU in it; a fully connected layer may have no options at all."""
    if operator.builtinOptions is None:
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
    operator.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
    return operator


def _without(document: Any, gone: list[Any], last: Any) -> int:
    """Take layers away, and what they alone computed with; the place where the head begins then."""
    graph = document.subgraphs[0]
    for operator in gone:
        graph.operators.remove(operator)
    for index in {index for operator in gone for index in _constants(operator) if index is not None}:
        if not Constants(document, graph).readers(index):
            _put(document, index, np.zeros(0, np.float32))
    return int(graph.operators.index(last))


def _like(graph: Any, index: int, name: str) -> int:
    """A tensor more, without numbers, of the kind of another."""
    made = deepcopy(graph.tensors[index])
    made.name, made.buffer, made.quantization = name.encode(), 0, None
    graph.tensors.append(made)
    return len(graph.tensors) - 1


def _fill(document: Any, operator: Any, weight: Floats, bias: Floats) -> None:
    """Weights [features, units] and bias into a layer, which gives as many units as that then."""
    graph, (place, offset) = document.subgraphs[0], _own(document, operator)
    middle = [1] * (len(graph.tensors[place].shape) - 2)
    _put(document, place, weight.T.reshape(len(bias), *middle, len(weight)))
    _put(document, offset, bias)
    given = graph.tensors[operator.outputs[0]]
    for sizes in (given.shape, given.shapeSignature):
        if sizes is not None and len(sizes):
            sizes[-1] = len(bias)


def _own(document: Any, operator: Any) -> tuple[int, int]:
    """Its tensors of weights and bias, which no other layer reads: new ones where there is none, or others do."""
    graph, (place, offset) = document.subgraphs[0], _constants(operator)
    name, readers = graph.tensors[place].name.decode(), Constants(document, graph).readers
    own = place if readers(place) == 1 else _like(graph, place, f"{name}.{len(graph.tensors)}")
    if offset is None:
        offset = _like(graph, place, f"{name}.bias")
    elif readers(offset) > 1:
        offset = _like(graph, offset, f"{name}.bias.{len(graph.tensors)}")
    operator.inputs = [operator.inputs[0], own, offset]
    return own, offset


def _put(document: Any, index: int, array: Floats) -> None:
    """In a buffer of its own: tensors may share one. What nobody takes any more is emptied."""
    tensor, buffer = document.subgraphs[0].tensors[index], schema.BufferT()
    old, tensor.shape = tensor.buffer, np.array(array.shape, np.int32)
    buffer.data = np.frombuffer(np.ascontiguousarray(array, "<f4").tobytes(), np.uint8)
    document.buffers.append(buffer)
    tensor.buffer = len(document.buffers) - 1
    if old and all(each.buffer != old for graph in document.subgraphs for each in graph.tensors):
        document.buffers[old].data = None
