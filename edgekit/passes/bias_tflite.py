"""Bias correction (``edgekit.quantization.bias``) of a TFLite model, before its weights are quantized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.formats import tflite_file
from edgekit.passes.constants_tflite import Constants
from edgekit.quantization.bias import Array, Means, rounding, shift

SUFFIX = "_corrected"
WEIGHTS, BIAS = 1, 2


def correct(model: bytes, means: Means, kept: frozenset[str]) -> bytes:
    """The model with its convolutions and matrix products corrected, but for those that are ``kept`` in float."""
    document = tflite_file.unpacked(model)
    for graph in document.subgraphs:
        for operator in graph.operators:
            code = document.operatorCodes[operator.opcodeIndex]
            work = LOSSES.get(max(code.builtinCode, code.deprecatedBuiltinCode))
            if work and _name(graph, operator.outputs[0]) not in kept:
                _correct(document, graph, operator, work, means)
    return tflite_file.packed(document)


def _correct(document: Any, graph: Any, operator: Any, work: Callable[[Array], Array], means: Means) -> None:
    constants = Constants(document, graph)
    weights, before = (constants.read(operator, place) for place in (WEIGHTS, BIAS))
    mean = means(_name(graph, operator.inputs[0]), -1)
    change = shift(work(weights), mean) if weights is not None and mean is not None else None
    if change is not None and before is not None:  # converters write zeros for a layer without bias
        constants.write(operator, BIAS, before + change, SUFFIX)


def _name(graph: Any, index: int) -> str:
    name: str = graph.tensors[index].name.decode()
    return name


def _convolution(weights: Array) -> Array:
    """[outputs, height, width, inputs of a group]."""
    return np.asarray(rounding(weights, 0).sum(axis=(1, 2)))


def _depthwise(weights: Array) -> Array:
    """[1, height, width, outputs]."""
    return np.asarray(rounding(weights, 3).sum(axis=(0, 1, 2))[:, np.newaxis])


def _product(weights: Array) -> Array:
    """[outputs, inputs]."""
    return rounding(weights, 0)


LOSSES: dict[int, Callable[[Array], Array]] = {
    schema.BuiltinOperator.CONV_2D: _convolution,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: _depthwise,
    schema.BuiltinOperator.FULLY_CONNECTED: _product,
}
