"""The rest of a colour's normalization (``folding.Rest``), taken up by the first convolutions of a TFLite model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator

from edgekit.formats import tflite_file
from edgekit.passes.constants_tflite import Constants
from edgekit.quantization import folding
from edgekit.quantization.bias import Array
from edgekit.quantization.folding import Rest

WEIGHTS, BIAS = 1, 2
SUFFIX = "_colours"
PADDING = (BuiltinOperator.PAD, BuiltinOperator.PADV2, BuiltinOperator.MIRROR_PAD)
LAST = 3
"""The axis of the colours in what a convolution reads."""


def write(source: Path, result: Path, rests: Mapping[str, tuple[int, Rest]]) -> bool:
    """See ``fold_colours.Writer``."""
    document = tflite_file.unpacked(source.read_bytes())
    graph = document.subgraphs[0]
    names = {graph.tensors[index].name.decode(): index for index in graph.inputs}
    if not all(_fold(document, names[name], axis, rest) for name, (axis, rest) in rests.items()):
        return False
    result.write_bytes(tflite_file.packed(document))
    return True


def _fold(document: Any, index: int, axis: int, rest: Rest) -> bool:
    found = list(_takers(document, index, axis))
    constants = Constants(document, document.subgraphs[0])
    return bool(found) and all(each is not None and _take(constants, *each, rest) for each in found)


def _takers(document: Any, index: int, axis: int) -> Iterator[tuple[Any, int] | None]:
    """The convolutions, each with its kind, that a tensor goes into, at most moved about before; None for others."""
    graph = document.subgraphs[0]
    if index in graph.outputs:
        yield None
    for operator in [each for each in graph.operators if each.inputs is not None and index in each.inputs]:
        code = document.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        if operator.inputs[0] == index and kind in (*PADDING, BuiltinOperator.TRANSPOSE):
            order = None if kind in PADDING else Constants(document, graph).read(operator, 1)
            moved = axis if kind in PADDING else folding.moved(axis, None if order is None else order.tolist())
            yield from _takers(document, operator.outputs[0], moved)
        else:
            yield (operator, kind) if operator.inputs[0] == index and kind in LAYOUTS and axis == LAST else None


def _take(constants: Constants, operator: Any, kind: int, rest: Rest) -> bool:
    weights, bias = (constants.read(operator, place) for place in (WEIGHTS, BIAS))
    there, back = LAYOUTS[kind]
    made = None if weights is None else folding.into(there(weights.astype(np.float64)), rest)
    if made is None or bias is None:
        return False
    constants.write(operator, WEIGHTS, back(made[0]), SUFFIX)
    constants.write(operator, BIAS, bias + made[1], SUFFIX)
    return True


def _moves(source: int, goal: int) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    return (lambda x: np.moveaxis(x, source, goal), lambda x: np.moveaxis(x, goal, source))


LAYOUTS = {
    BuiltinOperator.CONV_2D: _moves(3, 1),
    BuiltinOperator.DEPTHWISE_CONV_2D: _moves(3, 0),
}
"""To outputs × inputs of a group × height × width, and back: the one has [outputs, height, width, inputs of a group],
the other [1, height, width, outputs]."""
