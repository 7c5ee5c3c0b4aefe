"""QOperators: ONNX's operators of integers, and where each has its parts.

https://onnx.ai/onnx/operators and https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import helper


@dataclass(frozen=True)
class Form:
    """The float operator that it stands for, and the places of its inputs.

    ``quantized``: those of tensors, each followed by its scale and zero point. ``result``: the scale of the result, in
    front of its zero point; where both are missing the result is float. ``bias``: an int32 bias, of the scale of both
    tensors together. ``plain``: what is taken as it is. ``axis``: that of the second tensor which may have a scale per
    channel.
    """

    op: str
    quantized: tuple[int, ...]
    result: int
    bias: int | None = None
    plain: tuple[int, ...] = ()
    axis: int | None = None


UNARY = ("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax")
FORMS = {
    "QLinearConv": Form("Conv", (0, 3), 6, bias=8, axis=0),
    "QLinearMatMul": Form("MatMul", (0, 3), 6, axis=-1),
    "QGemm": Form("Gemm", (0, 3), 7, bias=6, axis=-1),
    "QLinearAdd": Form("Add", (0, 3), 6),
    "QLinearMul": Form("Mul", (0, 3), 6),
    "QLinearWhere": Form("Where", (1, 4), 7, plain=(0,)),
    **{f"QLinear{op}": Form(op, (0,), 3) for op in UNARY},
}
SUMS = {"ConvInteger": 0, "MatMulInteger": -1}
"""Operators that give sums of integers as they are; the axis along which their weights may have a zero point each."""
MOVING = frozenset(
    {"DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "SpaceToDepth"}
    | {"Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators that take integers as they take floats, and give some of those that they took."""
LEFT_OUT = frozenset({"channels_last", "opset"})
"""Attributes that float operators don't have."""
BY_AXIS = 13
"""The first opset whose Softmax is of one axis."""


def form_of(node: onnx.NodeProto) -> Form | None:
    """None for what is no operator of integers, or computes in a way that no float operator does."""
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if node.op_type == "QLinearConcat":
        return Form("Concat", tuple(range(2, len(node.input), 3)), 0)
    form = FORMS.get(node.op_type)
    if form is None or given.get("channels_last"):
        return None
    if form.op == "Softmax" and given.get("opset", BY_AXIS) < BY_AXIS:
        return None
    if form.op == "Gemm" and given.get("transB"):
        return Form(form.op, form.quantized, form.result, form.bias, form.plain, axis=0)
    return form


def as_float(node: onnx.NodeProto, op: str, inputs: list[str], outputs: list[str]) -> onnx.NodeProto:
    """The float operator in the place of a node."""
    made = helper.make_node(op, inputs, outputs, name=node.name)
    made.attribute.extend(each for each in node.attribute if each.name not in LEFT_OUT)
    return made


def alpha_of(node: onnx.NodeProto) -> float:
    """What the product of a Gemm is multiplied by."""
    return next((each.f for each in node.attribute if each.name == "alpha"), 1.0)
