"""Unfused: the conversions between float and integers that an engine still executes after it fused what it can.

Those on the way into integers and on the way out again are the price of a model that takes and gives floats. Any other
comes from an operator that the engine has no integer form of, or does not recognize: it goes to float and back in the
midst of the graph, and that is often slower than a float model.
"""

from __future__ import annotations

import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import BundleError
from edgekit_runtime.bundle import MODEL_TYPE, Bundle
from edgekit_runtime.engines.external import names_files
from edgekit_runtime.engines.ort import CPU, ERRORS_ONLY, KEEP_FLOAT, foreign_errors

if TYPE_CHECKING:
    import onnx

    from edgekit.formats.tflite_graph import Graph, Operator

QUANTIZE = ("QuantizeLinear", "QUANTIZE")
DEQUANTIZE = ("DequantizeLinear", "DEQUANTIZE")
REQUANTIZE = "REQUANTIZE"
"""From one scale of integers to another; TFLite writes it as QUANTIZE."""


@dataclass(frozen=True)
class Node:
    """An operator of an executed graph; tensors go by any name."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Unfused:
    """Conversions left in the midst of a graph, and how many there are at its ``ends``.

    ``constants``: weights that are turned into floats at every call. ``between``: how many operators of each kind take
    floats that were integers before, the most first. ``engine``: whose graph it is.
    """

    quantize: int
    dequantize: int
    constants: int
    ends: int
    between: dict[str, int]
    engine: str

    @property
    def pairs(self) -> int:
        """Ways to float and back; 0 exactly when nothing but the ends and constants is left."""
        return max(self.quantize, self.dequantize)

    def as_dict(self) -> dict[str, Any]:
        return {"pairs": self.pairs, **asdict(self)}


def unfused(bundle: Bundle) -> Unfused | None:
    """Of a bundle's model, in the engine that serves its format on this host's CPU; None for a format of a plug-in.

    Another processor, and TensorRT, fuse by rules of their own.
    Raises: BundleError when the bytes, which others may have made, are no such model.
    """
    form = bundle.manifest.format
    if form not in COUNTERS:
        return None
    try:
        return COUNTERS[form](bundle.read(bundle.layer(MODEL_TYPE)))
    except ValueError as error:
        raise BundleError(f"{bundle.root}: its model cannot be read: {error}", "build it again") from error


def count(nodes: Sequence[Node], ends: frozenset[str], engine: str) -> Unfused:
    """Pure. ``nodes`` in the order in which they are executed; ``ends``: the inputs and outputs of the graph. A tensor
    that no node makes and that is no input is constant.

    At the ends are the first conversion on the way from an input, where integers are computed with next, and the last
    one on the way to an output, where they were computed with before.
    """
    makers = {name: node for node in nodes for name in node.outputs}
    dequantize = [node for node in nodes if node.op in DEQUANTIZE]
    constants = {
        node for node in dequantize if not {*node.inputs[:1]} & ends and not {*node.inputs[:1]} & makers.keys()
    }
    back, onward, only_back = _come_back(nodes, constants), _lead_to_integers(nodes), _only_back(nodes, ends)
    again = [node for node in nodes if node.op in QUANTIZE and not _first(node, back, only_back)]
    again += [node for node in nodes if node.op == REQUANTIZE and not ends & {*node.inputs, *node.outputs}]
    away = [node for node in dequantize if node not in constants and not _last(node, makers, onward)]
    every = sum(node.op in (*QUANTIZE, *DEQUANTIZE, REQUANTIZE) for node in nodes)
    left = len(again) + len(away) + len(constants)
    return Unfused(len(again), len(away), len(constants), every - left, _between(nodes, away), engine)


def _come_back(nodes: Sequence[Node], constants: set[Node]) -> set[str]:
    """The tensors that are computed from floats that were integers before."""
    found: set[str] = set()
    for node in nodes:
        if (node.op in DEQUANTIZE and node not in constants) or found & {*node.inputs}:
            found.update(node.outputs)
    return found


def _lead_to_integers(nodes: Sequence[Node]) -> set[str]:
    """The tensors from which a quantized one is computed."""
    found: set[str] = set()
    for node in reversed(nodes):
        if node.op in QUANTIZE or found & {*node.outputs}:
            found.update(node.inputs)
    return found


def _only_back(nodes: Sequence[Node], ends: frozenset[str]) -> set[str]:
    """The quantized tensors that are turned into floats again and used in no other way."""
    made = {name for node in nodes if node.op in QUANTIZE for name in node.outputs}
    return made - ends - {name for node in nodes if node.op not in DEQUANTIZE for name in node.inputs}


def _first(node: Node, back: set[str], only_back: set[str]) -> bool:
    return not back & {*node.inputs} and not only_back & {*node.outputs}


def _last(node: Node, makers: Mapping[str, Node], onward: set[str]) -> bool:
    maker = makers.get(node.inputs[0])
    return not onward & {*node.outputs} and not (maker and maker.op in QUANTIZE)


def _between(nodes: Sequence[Node], away: Sequence[Node]) -> dict[str, int]:
    floats = {name for node in away for name in node.outputs}
    users = (node for node in nodes if floats & {*node.inputs} and node.op not in (*QUANTIZE, *DEQUANTIZE))
    return dict(Counter(node.op for node in users).most_common())


def _onnx(model: bytes) -> Unfused:
    """By the graph that onnxruntime writes down after all its optimizations. Raises: ValueError."""
    nodes, ends = _flat(_optimized(model))
    return count(nodes, ends, f"onnxruntime {version('onnxruntime')} on {platform.machine()}")


def _optimized(model: bytes) -> onnx.GraphProto:
    import onnx
    import onnxruntime as ort

    if names_files(model):
        raise ValueError("it keeps its weights in other files")
    settings = ort.SessionOptions()
    settings.log_severity_level, settings.intra_op_num_threads = ERRORS_ONLY, 1
    with tempfile.TemporaryDirectory() as folder:
        settings.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        try:
            ort.InferenceSession(
                model, settings, providers=[CPU], enable_fallback=0, disabled_optimizers=KEEP_FLOAT
            )  # a fallback prints
            return onnx.load(settings.optimized_model_filepath).graph
        except foreign_errors() as error:
            raise ValueError(" ".join(str(error).split())[:300]) from error


def _flat(graph: onnx.GraphProto) -> tuple[list[Node], frozenset[str]]:
    """The nodes of the graph and of its branches and loops, those before the node that they are part of."""
    weights = {tensor.name for tensor in graph.initializer}
    nodes, ends = list[Node](), {each.name for each in (*graph.input, *graph.output)} - weights
    for node in graph.node:
        parts = [_flat(each) for attribute in node.attribute for each in (attribute.g, *attribute.graphs) if each.node]
        given = {name for _, part in parts for name in part}
        nodes += [each for part, _ in parts for each in part]
        nodes.append(Node(node.op_type, tuple(filter(None, [*node.input, *sorted(given)])), tuple(node.output)))
        ends |= given
    return nodes, frozenset(ends)


def _tflite(model: bytes) -> Unfused:
    """By the file: LiteRT executes it as it stands, but unpacks constants before the first call. Raises: ValueError."""
    from edgekit.formats import tflite_graph

    nodes, ends = list[Node](), set[str]()
    for number, graph in enumerate(tflite_graph.read(model).graphs):
        nodes += [_node(graph, each, f"{number}:") for each in graph.operators if not _unpacks(graph, each)]
        ends |= {f"{number}:{each}" for each in (*graph.inputs, *graph.outputs)}
    return count(nodes, frozenset(ends), f"LiteRT {version('ai-edge-litert')}")


def _node(graph: Graph, operator: Operator, prefix: str) -> Node:
    inputs, outputs = (tuple(f"{prefix}{each}" for each in part) for part in (operator.inputs, operator.outputs))
    integers = operator.inputs and not graph.tensors[operator.inputs[0]].kind.startswith("float")
    return Node(REQUANTIZE if operator.op in QUANTIZE and integers else operator.op, inputs, outputs)


def _unpacks(graph: Graph, operator: Operator) -> bool:
    return operator.op in DEQUANTIZE and all(graph.tensors[each].size for each in operator.inputs)


COUNTERS: dict[str, Callable[[bytes], Unfused]] = {"onnx": _onnx, "tflite": _tflite}
