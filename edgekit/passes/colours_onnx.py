"""The rest of a colour's normalization (``folding.Rest``), taken up by the first convolutions of an ONNX model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from edgekit.formats import onnx_file
from edgekit.quantization import folding
from edgekit.quantization.bias import Array
from edgekit.quantization.folding import Rest

MOVING = ("Pad", "Transpose")
CHANNELS = 1


def write(source: Path, result: Path, rests: Mapping[str, tuple[int, Rest]]) -> bool:
    """See ``fold_colours.Writer``."""
    document = onnx.load(source)
    if not all(_fold(document.graph, name, axis, rest) for name, (axis, rest) in rests.items()):
        return False
    onnx.save(document, result)
    return True


def _fold(graph: onnx.GraphProto, name: str, axis: int, rest: Rest) -> bool:
    found = list(_takers(graph, name, axis))
    return bool(found) and all(node is not None and _take(graph, node, rest) for node in found)


def _takers(graph: onnx.GraphProto, name: str, axis: int) -> Iterator[NodeProto | None]:
    """The convolutions that a tensor goes into, at most moved about before; None for anything else."""
    if name in {value.name for value in graph.output}:
        yield None
    for node in [each for each in onnx_file.nodes(graph) if name in each.input]:
        if node.op_type in MOVING and node.input[0] == name:
            order = next((list(each.ints) for each in node.attribute if each.name == "perm"), None)
            moved = axis if node.op_type == "Pad" else folding.moved(axis, order)
            yield from _takers(graph, node.output[0], moved)
        else:
            yield node if node.op_type == "Conv" and node.input[0] == name and axis == CHANNELS else None


def _take(graph: onnx.GraphProto, node: NodeProto, rest: Rest) -> bool:
    """The node gets weights and a bias of its own; others may share those that it had."""
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name in node.input}
    has_bias = len(node.input) > 2 and bool(node.input[2])
    if node.input[1] not in known or (has_bias and node.input[2] not in known):
        return False
    made = folding.into(known[node.input[1]].astype(np.float64), rest)
    if made is None or known[node.input[1]].dtype != np.float32:
        return False
    weights, change = made
    names = [_new(graph, node, "weights", weights)]
    names.append(_new(graph, node, "bias", change + (known[node.input[2]] if has_bias else 0.0)))
    old, taken = list(node.input[1:]), node.input[0]
    del node.input[:]
    node.input.extend([taken, *names])
    _drop(graph, old)
    return True


def _new(graph: onnx.GraphProto, node: NodeProto, role: str, values: Array) -> str:
    """The name of new weights, which no other tensor has."""
    taken = {name for each in onnx_file.nodes(graph) for name in (*each.input, *each.output)}
    name = f"{node.output[0]}_{role}"
    while name in taken:
        name += "_"
    graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
    return name


def _drop(graph: onnx.GraphProto, names: list[str]) -> None:
    """Those that nothing reads any more."""
    read = {name for node in onnx_file.nodes(graph) for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name not in names or tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
