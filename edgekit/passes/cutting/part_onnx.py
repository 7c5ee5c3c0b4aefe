"""A part of an ONNX model: what computes some of its tensors, as a model that gives these."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgekit.compat.fingerprint_onnx import ELEMENT_NAMES
from edgekit.formats import onnx_file
from edgekit_runtime.engines import EngineOptions, ort

KINDS = {f"tensor({kind})": number for number, kind in ELEMENT_NAMES.items()}


def taken(node: onnx.NodeProto) -> set[str]:
    """What the node takes, and what its branches and loops take from outside."""
    return {name for each in with_inner(node) for name in each.input if name}


def with_inner(node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
    """The node, and those of its branches and loops."""
    yield node
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from onnx_file.nodes(graph)


def fixed(graph: onnx.GraphProto) -> set[str]:
    """The tensors that do not depend on the inputs."""
    moving = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if moving & taken(node) or node.op_type.startswith("Random"):
            moving |= set(node.output)
    every = {name for node in graph.node for name in (*node.input, *node.output) if name}
    return every - moving


def with_outputs(document: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """The part that computes these tensors, with the types and sizes that onnxruntime finds for them.

    Raises: what onnxruntime does where it does not load.
    """
    part, needed, kept = onnx.ModelProto(), set(names), list[onnx.NodeProto]()
    for node in reversed(document.graph.node):
        if needed & set(node.output):
            needed |= taken(node)
            kept.insert(0, node)
    part.CopyFrom(document)
    _put(part.graph, "node", kept)
    _put(part.graph, "initializer", [tensor for tensor in document.graph.initializer if tensor.name in needed])
    _put(part.graph, "value_info", [])
    _put(part.graph, "output", [onnx.ValueInfoProto(name=name) for name in names])
    onnx_file.drop_unused_opsets(part)
    _put(part.graph, "output", declared(part))
    return part


def values(document: onnx.ModelProto, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Tensors that are ``fixed``. Raises: as ``with_outputs``."""
    found = {each.name: numpy_helper.to_array(each) for each in document.graph.initializer if each.name in names}
    others = [name for name in names if name not in found]
    if others:
        part = with_outputs(document, others)
        _put(part.graph, "input", [])
        found |= ort.load(part.SerializeToString(), EngineOptions()).run({})
    return found


def _put(graph: onnx.GraphProto, field: str, kept: Sequence[Any]) -> None:
    kept = list(kept)
    graph.ClearField(field)
    getattr(graph, field).extend(kept)


def declared(part: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Its outputs, with the types and sizes that onnxruntime finds. Raises: what onnxruntime does."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ort.ERRORS_ONLY
    session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=[ort.CPU], enable_fallback=0)
    return [helper.make_tensor_value_info(each.name, KINDS[each.type], each.shape) for each in session.get_outputs()]
