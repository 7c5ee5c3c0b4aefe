"""TFLite, float or quantized → the same with what its head takes as one more output, as it is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgekit.formats import tflite_file, tflite_graph
from edgekit.model import Model
from edgekit.passes import head_layers
from edgekit_runtime.features import Features

DENSE = frozenset({"CONV_2D", "FULLY_CONNECTED"})
BEHIND = frozenset({"DEQUANTIZE", "LOG_SOFTMAX", "QUANTIZE", "RESHAPE", "SOFTMAX", "SQUEEZE"})
"""What may stand between the last layer and the first output."""
BETWEEN = BEHIND | {"RELU"}
"""What may stand between two layers of a head."""
SIGMOID = "LOGISTIC"
NONE = schema.ActivationFunctionType.NONE


def write(model: Model, path: Path) -> Features:
    """Raises: ConversionError."""
    document = tflite_file.unpacked(model.path.read_bytes())
    index, graph = int(layers(model, document)[0].inputs[0]), document.subgraphs[0]
    graph.outputs = [*graph.outputs, index]
    path.write_bytes(tflite_file.packed(document))
    return _told(graph.tensors[index])


def layers(model: Model, document: Any) -> list[Any]:
    """The dense layers of its head, the first one first, of the model unpacked: each takes numbers, its weights and,
    mostly, a bias; the last gives logits.

    Raises: ConversionError.
    """
    graph = tflite_graph.read(model.path.read_bytes()).graphs[0]

    def before(operator: tflite_graph.Operator | None) -> tflite_graph.Operator | None:
        if operator is None:
            return _dense(model, graph, graph.outputs[0], BEHIND)
        return _dense(model, graph, operator.inputs[0], BETWEEN)

    places = [graph.operators.index(layer) for layer in head_layers.of(model, before)]
    found = [document.subgraphs[0].operators[place] for place in places]
    _check_logits(model, found[-1])
    return found


def _check_logits(model: Model, last: Any) -> None:
    """Whether it has no activation in it; a fully connected layer may have no options at all."""
    activation = getattr(last.builtinOptions, "fusedActivationFunction", NONE)
    if activation != NONE:
        name = next(name for name, number in vars(schema.ActivationFunctionType).items() if number == activation)
        raise head_layers.featureless(model, head_layers.ACTIVATED.format(name))


def _dense(
    model: Model, graph: tflite_graph.Graph, gives: int, passing: frozenset[str]
) -> tflite_graph.Operator | None:
    """The layer that a tensor comes from, by way of operators that are passed over; None where it comes from none."""
    makers = {number: operator for operator in graph.operators for number in operator.outputs}
    operator = makers.get(gives)
    while operator is not None and operator.op in passing:
        operator = makers.get(operator.inputs[0])
    if operator is not None and operator.op == SIGMOID:
        raise head_layers.featureless(model, head_layers.SIGMOID)
    if operator is None or operator.op not in DENSE:
        return None
    weight = makers.get(operator.inputs[1])
    stored = weight.inputs[0] if weight is not None and weight.op == "DEQUANTIZE" else operator.inputs[1]
    if not graph.tensors[stored].size:
        return None
    return None if operator.inputs[0] in (*graph.inputs, *graph.outputs) else operator


def _told(tensor: Any) -> Features:
    """Its size is 1."""
    name, quantization = tensor.name.decode(), tensor.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
        return Features(name, 1)
    return Features(name, 1, float(quantization.scale[0]), int(quantization.zeroPoint[0]))
