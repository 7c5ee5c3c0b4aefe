"""ONNX in operators of integers (QOperator) → the same in float operators between explicit Q/DQ nodes.

Each node is rewritten on its own: its quantized inputs are dequantized, the float operator computes, and its result is
quantized to the tensor that the node gave, so that all integers of the graph keep their names, scales and zero points.
What has no such form stays as it is: dynamic quantization, scales that are computed, channels last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekit.passes.qoperators import MOVING, SUMS, Form, alpha_of, as_float, form_of

Array = NDArray[Any]
Scale = tuple[str, str]
"""The names of a scale and a zero point, which may be missing: ""."""


def to_qdq(document: onnx.ModelProto) -> onnx.ModelProto:
    """The rewritten model; an equal one where no node has such a form."""
    made = onnx.ModelProto()
    made.CopyFrom(document)
    rewriting = _Rewriting(made.graph)
    nodes = [each for node in document.graph.node for each in rewriting.of(node)]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


class _Rewriting:
    """The nodes of a graph one after the other; constants that they need are added to it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._constants |= {
            node.output[0]: node.attribute[0].t
            for node in graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)} | {*self._constants}
        self._scales: dict[str, Scale] = {}

    def of(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """What stands in the place of a node."""
        form, made = form_of(node), list[onnx.NodeProto]()
        if form and self._fits(node, form):
            made = list(self._computed(node, form))
        elif node.op_type in SUMS and node.input[0] in self._scales and self._sums_fit(node):
            made = list(self._summed(node))
        elif node.op_type in MOVING and node.input[0] in self._scales and len(node.output) == 1:
            made = list(self._moved(node))
        if node.op_type == "QuantizeLinear":
            self._know(node.output[0], node.input[1:])
        elif form:
            self._know(node.output[0], node.input[form.result : form.result + 2])
        return made or [node]

    def _know(self, name: str, scale: Any) -> None:
        if len(scale) == 2 and all(self._single(each) for each in scale):
            self._scales[name] = (scale[0], scale[1])

    def _single(self, name: str) -> bool:
        return name in self._constants and self._array(name).size == 1

    def _array(self, name: str) -> Array:
        array: Array = numpy_helper.to_array(self._constants[name])
        return array

    def _fits(self, node: onnx.NodeProto, form: Form) -> bool:
        """Whether scales and zero points are constants, one each, or one a channel of weights."""
        known = [node.input[at + 1 : at + 3] for at in form.quantized]
        given = [name for name in node.input[form.result : form.result + 2] if name]
        last = known.pop() if form.axis is not None else []
        single = [*given, *(name for pair in known for name in pair)]
        return (
            len(given) in (0, 2)
            and all(map(self._single, single))
            and all(name in self._constants and self._array(name).ndim < 2 for name in last)
        )

    def _computed(self, node: onnx.NodeProto, form: Form) -> Iterator[onnx.NodeProto]:
        result, fed = node.output[0], [node.input[at] for at in form.plain]
        for place, at in enumerate(form.quantized):
            fed.append(self._name(f"{result}_{place}"))
            axis = form.axis if place == 1 else None
            yield self._dequantized(node.input[at], (node.input[at + 1], node.input[at + 2]), fed[-1], axis)
        if form.bias is not None and "".join(node.input[form.bias : form.bias + 1]):
            fed.append(self._name(f"{result}_bias"))
            yield self._dequantized(node.input[form.bias], (self._bias_scale(node, form), ""), fed[-1], 0)
        scale = node.input[form.result : form.result + 2]
        given = self._name(f"{result}_float") if "".join(scale) else result
        yield as_float(node, form.op, fed, [given])
        if given != result:
            yield self._quantized(given, (scale[0], scale[1]), result)

    def _bias_scale(self, node: onnx.NodeProto, form: Form) -> str:
        scales = [self._array(node.input[at + 1]).reshape(-1) for at in form.quantized]
        alpha = np.float32(alpha_of(node) if form.op == "Gemm" else 1.0)
        return self._added(alpha * scales[0] * scales[1], f"{node.output[0]}_bias_scale")

    def _summed(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Sums of integers: as floats of a scale of 1, and integers again."""
        result, zeros = node.output[0], [*node.input[2:], "", ""][:2]
        fed = [self._name(f"{result}_{place}") for place in (0, 1)]
        for name, zero, goal in zip(node.input[:2], zeros, fed, strict=True):
            size = self._array(zero).size if zero in self._constants else 1
            one = self._added(np.ones(size, np.float32), f"{goal}_scale")
            yield self._dequantized(name, (one, zero), goal, SUMS[node.op_type])
        given = self._name(f"{result}_float")
        yield as_float(node, node.op_type.removesuffix("Integer"), fed, [given])
        yield helper.make_node("Cast", [given], [result], to=TensorProto.INT32)

    def _sums_fit(self, node: onnx.NodeProto) -> bool:
        zeros = [*node.input[2:], "", ""][:2]
        return all(not zero or zero in self._constants for zero in zeros) and (not zeros[0] or self._single(zeros[0]))

    def _moved(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        scale, fed = self._scales[node.input[0]], self._name(f"{node.output[0]}_0")
        given = self._name(f"{node.output[0]}_float")
        self._scales[node.output[0]] = scale
        yield self._dequantized(node.input[0], scale, fed, None)
        yield as_float(node, node.op_type, [fed, *node.input[1:]], [given])
        yield self._quantized(given, scale, node.output[0])

    def _dequantized(self, name: str, scale: Scale, goal: str, axis: int | None) -> onnx.NodeProto:
        per_channel = axis is not None and max(self._array(each).size for each in scale if each) > 1
        return self._node("DequantizeLinear", name, scale, goal, **({"axis": axis} if per_channel else {}))

    def _quantized(self, name: str, scale: Scale, goal: str) -> onnx.NodeProto:
        return self._node("QuantizeLinear", name, scale, goal)

    def _node(self, op: str, name: str, scale: Scale, goal: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, [name, *self._alike(scale)], [goal], name=f"{goal}_{op}", **attributes)

    def _alike(self, scale: Scale) -> list[str]:
        """As Q/DQ nodes take them: both of one shape, which has no axis where there is one scale for all."""
        names = [name for name in scale if name]
        arrays = np.broadcast_arrays(*(self._array(name).reshape(-1) for name in names))
        shaped = [array.reshape(()) if array.size == 1 else array for array in arrays]
        return [
            name if array.shape == self._array(name).shape else self._added(array, f"{name}_like")
            for name, array in zip(names, shaped, strict=True)
        ]

    def _added(self, array: Array, name: str) -> str:
        name = self._name(name)
        self._constants[name] = numpy_helper.from_array(array, name)
        self._graph.initializer.append(self._constants[name])
        return name

    def _name(self, wanted: str) -> str:
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return wanted
