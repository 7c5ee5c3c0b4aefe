"""The head of a float TFLite model, its last dense layer: read out of it, and put back when it has learned.

One layer only: to come back with more, the model has to be ONNX.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgekit.errors import ConversionError
from edgekit.formats import tflite_file, tflite_graph
from edgekit.model import Model, derived
from edgekit.passes import features_tflite
from edgekit_train import heads
from edgekit_train.update import Weights

FLOAT32 = 0
"""Of LiteRT's TensorType."""


def weights_of(model: Model) -> Weights:
    """Those that training starts from. Raises: ConversionError."""
    document = tflite_file.unpacked(model.path.read_bytes())
    tensors = _tensors(model, document)
    weight = _value(document, tensors[0])
    bias = _value(document, tensors[1]) if len(tensors) > 1 else np.zeros(weight.shape[0], np.float32)
    return heads.named([(np.ascontiguousarray(weight.reshape(weight.shape[0], -1).T), bias)])


def merged(model: Model, weights: Weights, path: Path) -> Model:
    """The model with another head, in a new file. Raises: ConversionError, InvalidInput for weights that are none."""
    (weight, bias), *more = heads.layers(weights)
    document = tflite_file.unpacked(model.path.read_bytes())
    tensors = _tensors(model, document)
    if more or len(tensors) < 2:
        what = f"{len(more) + 1} layers" if more else "a bias"
        raise ConversionError(
            f"{model.path.name}: a head with {what} does not fit into TFLite", "give the model as ONNX"
        )
    if tuple(tensors[0].shape[i] for i in (0, -1)) != weight.T.shape:
        raise ConversionError(
            f"{model.path.name}: has a head of {tensors[0].shape[-1]} features and {tensors[0].shape[0]} classes"
        )
    for tensor, array in zip(tensors, (weight.T, bias), strict=True):
        _put(document, tensor, array)
    path.write_bytes(tflite_file.packed(document))
    return derived(model, path, "merge-head")


def _tensors(model: Model, document: Any) -> list[Any]:
    """The weights [classes, …, features] and, where there is one, the bias."""
    graph = tflite_graph.read(model.path.read_bytes()).graphs[0]
    found = [document.subgraphs[0].tensors[index] for index in features_tflite.dense(model, graph).inputs[1:]]
    sizes = found[0].shape
    if any(tensor.type != FLOAT32 for tensor in found) or sizes[0] * sizes[-1] != np.prod(sizes):
        raise ConversionError(f"{model.path.name}: its last layer is no matrix of floats", "give the float model")
    return found


def _value(document: Any, tensor: Any) -> NDArray[np.float32]:
    return np.frombuffer(bytes(document.buffers[tensor.buffer].data), "<f4").reshape(tensor.shape).copy()


def _put(document: Any, tensor: Any, array: NDArray[np.float32]) -> None:
    """In a buffer of its own: tensors may share one. What nobody takes any more is emptied."""
    old, buffer = tensor.buffer, schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(array, "<f4").tobytes(), np.uint8)
    document.buffers.append(buffer)
    tensor.buffer = len(document.buffers) - 1
    if all(each.buffer != old for graph in document.subgraphs for each in graph.tensors):
        document.buffers[old].data = None
