"""The end of an ONNX graph as steps of a postprocess: the nodes from some on, written in numpy's operators.

A node has such a form when the runtime's table of operators has its name, and takes its inputs and attributes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, helper, numpy_helper

from edgekit.passes.cutting.part_onnx import taken, with_inner
from edgekit_postprocess import Constant, Step, Value

PLUGINS = ("EfficientNMS_TRT",)
"""Operators of other domains than ONNX's that there is a numpy form of."""
WORDS = {AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING, AttributeProto.INTS, AttributeProto.FLOATS}


@dataclass(frozen=True)
class Without:
    """A node that has no form in numpy, and why."""

    node: onnx.NodeProto
    why: str


def behind(graph: onnx.GraphProto, starts: Collection[tuple[str, str]]) -> list[onnx.NodeProto]:
    """The nodes of these operators, by domain and name, and all that are computed from what they give."""
    reached, found = set[str](), list[onnx.NodeProto]()
    for node in graph.node:
        inner = {(each.domain, each.op_type) for each in with_inner(node)}
        if inner & set(starts) or reached & taken(node):
            reached |= {name for name in node.output if name}
            found.append(node)
    return found


def steps(nodes: Iterable[onnx.NodeProto]) -> tuple[list[Step], list[Without]]:
    """The steps of those nodes that have a form, and the nodes that have none. Constants are no steps."""
    found, missing = list[Step](), list[Without]()
    for node in nodes:
        try:
            found.append(_step(node))
        except ValueError as error:
            missing.append(Without(node, str(error)))
    return found, missing


def _step(node: onnx.NodeProto) -> Step:
    if node.domain not in ("", "ai.onnx") and node.op_type not in PLUGINS:
        raise ValueError(f"no operator {node.domain}.{node.op_type}")
    attributes = {each.name: value for each in node.attribute if (value := _value(node, each)) is not None}
    if node.op_type == "Split":
        attributes = {"num_outputs": len(node.output), **attributes}
    if node.op_type == "ConstantOfShape":
        attributes = _filling(node)
    step = Step(node.op_type, tuple(node.input), tuple(node.output), attributes)
    step.check()
    return step


def _value(node: onnx.NodeProto, attribute: AttributeProto) -> Value | None:
    if node.op_type == "ConstantOfShape":
        return None
    if attribute.type not in WORDS:
        raise ValueError(f"{node.op_type} with {attribute.name}")
    value: Any = helper.get_attribute_value(attribute)
    if not np.isfinite([*attribute.floats, attribute.f]).all():
        raise ValueError(f"{node.op_type} with {attribute.name} infinite or no number")
    if node.op_type == "Cast" and attribute.name == "to":
        return str(helper.tensor_dtype_to_np_dtype(value).name)
    if isinstance(value, bytes):
        return value.decode()
    return tuple(value) if isinstance(value, Sequence) else value


def _filling(node: onnx.NodeProto) -> dict[str, Value]:
    for attribute in node.attribute:
        array = numpy_helper.to_array(attribute.t).reshape(())
        return {"value": array.item() if array.dtype.kind != "b" else int(array), "dtype": array.dtype.name}
    return {}


def constant(array: NDArray[Any]) -> Constant:
    """Floats by the fewest digits that tell them. Raises: ValueError for what JSON has no number for."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("a constant that is infinite or no number")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"a constant of {array.dtype}")
    numbers = [float(str(each)) if array.dtype.kind == "f" else int(each) for each in array.ravel()]
    return Constant(array.dtype.name, array.shape, tuple(numbers))
