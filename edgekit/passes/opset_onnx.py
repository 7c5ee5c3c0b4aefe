"""ONNX at an older operator set, also where ONNX's own converter knows no way back for what did not change.

Opset 18 gave some operators more than they had (https://onnx.ai/onnx/operators). A node that uses none of it means the
same in 17, but the converter stops at it, or leaves an attribute that 17 does not know. Such attributes are left out,
and such nodes set aside, in a domain of their own, while the rest is converted.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper

ASIDE = "edgekit.same"
SAME = range(13, 18)
"""The operator sets in which the nodes set aside mean what they mean in 18."""
REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
IDLE: dict[str, dict[str, Any]] = {
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": b"stretch"},
    "ScatterElements": {"reduction": b"none"},
    "ScatterND": {"reduction": b"none"},
    **{f"Reduce{name}": {"noop_with_empty_axes": 0} for name in REDUCTIONS},
}
"""Attributes that older operator sets don't all know, with the value that changes nothing."""
EXTENSIONS = {
    "Pad": ("axes", "wrap"),
    "Resize": ("axes", "antialias", "keep_aspect_ratio_policy"),
    "ScatterElements": ("reduction",),
    "ScatterND": ("reduction",),
}
"""Operators without a way back: the attributes, inputs and modes of 18 and newer that there is none for."""
PAD_INPUTS = 3


def at_opset(document: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Raises: ConvertError, RuntimeError, ValueError where an operator has no older form."""
    kept = onnx.ModelProto()
    kept.CopyFrom(document)
    for node in kept.graph.node if opset in SAME else ():
        _leave_out_idle(node)
        if not node.domain and _plain(node):
            node.domain = ASIDE
    kept.opset_import.append(helper.make_opsetid(ASIDE, 1))
    converted = onnx.version_converter.convert_version(kept, opset)
    for node in converted.graph.node:
        node.domain = "" if node.domain == ASIDE else node.domain
    sets = [entry for entry in converted.opset_import if entry.domain != ASIDE]
    del converted.opset_import[:]
    converted.opset_import.extend(sets)
    return converted


def _leave_out_idle(node: onnx.NodeProto) -> None:
    idle = IDLE.get(node.op_type, {})
    kept = [each for each in node.attribute if idle.get(each.name, ...) != helper.get_attribute_value(each)]
    del node.attribute[:]
    node.attribute.extend(kept)


def _plain(node: onnx.NodeProto) -> bool:
    if node.op_type not in EXTENSIONS:
        return False
    used = {each.name for each in node.attribute} | {each.s.decode() for each in node.attribute if each.name == "mode"}
    more = node.op_type == "Pad" and len(node.input) > PAD_INPUTS
    return not more and not used & set(EXTENSIONS[node.op_type])
