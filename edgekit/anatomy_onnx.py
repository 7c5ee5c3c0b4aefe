"""The anatomy of an ONNX model: quantized by Q/DQ nodes, by operators on integers, or not at all."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from edgekit.anatomy import FLOATS, QUANTIZED, Anatomy, Layer, precision
from edgekit_runtime.engines.external import names_files

QUANTIZE, DEQUANTIZE, DYNAMIC = "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"
ON_INTEGERS = re.compile(r"QLinear\w+|QGemm|QAttention|ConvInteger|MatMulInteger\w*|DynamicQuantizeMatMul")
"""Operators that take the scales beside the numbers, those of onnxruntime included."""
WITH_PARAMETERS = ("Clip", "Dropout", "Pad", "Resize", "Upsample")
"""Their constant inputs are no operands: one in float does not make them compute in float."""
WORDS = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}


@dataclass(frozen=True)
class Value:
    """What is known of a tensor. ``kind``: the word for its numbers, where they come from a DequantizeLinear those
    that went in. ``stored``: the names of the weights that it is computed from, when it is from nothing else.
    """

    kind: str
    shape: tuple[int | None, ...] | None
    constant: bool = False
    stored: frozenset[str] = frozenset()


@dataclass
class Known:
    """What is known of all tensors so far, by name. ``sizes``: the bytes of weights that no layer has counted yet."""

    values: dict[str, Value] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    inferred: dict[str, Value] = field(default_factory=dict)


def read(model: bytes) -> Anatomy:
    """Raises: ValueError, one line."""
    document = _checked(model)
    known, layers = Known(), list[Layer]()
    for graph in _graphs(document.graph):
        known.inferred.update({each.name: _declared(each) for each in (*graph.input, *graph.output, *graph.value_info)})
        known.values.update({each.name: known.inferred[each.name] for each in graph.input})
        for tensor in graph.initializer:
            _store(known, tensor.name, tensor)
        for node in graph.node:
            layers += _met(known, node)
    needs = {entry.domain or "ai.onnx": str(entry.version) for entry in document.opset_import}
    return Anatomy(tuple(layers), {**dict(sorted(needs.items())), "ir_version": str(document.ir_version)})


def _checked(model: bytes) -> onnx.ModelProto:
    """With the types and shapes of all tensors that onnx can infer."""
    if names_files(model):
        raise ValueError("it keeps its weights in other files")
    try:
        document = onnx.load_model_from_string(model)
        onnx.checker.check_model(document)
        return onnx.shape_inference.infer_shapes(document)
    except DecodeError as error:
        raise ValueError("not an ONNX model, or cut short") from error
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, then those of its branches and loops; onnx gives every tensor of them all a name of its own."""
    yield graph
    for node in graph.node:
        for inner in _inner(node):
            yield from _graphs(inner)


def _inner(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [each for attribute in node.attribute for each in (attribute.g, *attribute.graphs) if each.node]


def _met(known: Known, node: onnx.NodeProto) -> list[Layer]:
    """Take a node in; it is a layer when it does more than convert or unfold a constant."""
    given = [known.values.get(name, Value("", None)) for name in node.input if name]
    if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].HasField("t"):
        _store(known, node.output[0], node.attribute[0].t)
        return []
    constant = node.op_type == "Constant" or (bool(given) and all(each.constant for each in given) and not _inner(node))
    sources = given[:1] if node.op_type in (QUANTIZE, DEQUANTIZE) else given  # behind it are the scales
    stored = frozenset[str]().union(*(each.stored for each in sources if constant))
    for name in node.output:
        inferred = known.inferred.get(name, Value("", None))
        known.values[name] = Value(_kind(node, given, inferred, constant), inferred.shape, constant, stored)
    return [] if constant or node.op_type in (QUANTIZE, DEQUANTIZE, DYNAMIC) else [_layer(known, node, given)]


def _kind(node: onnx.NodeProto, given: Sequence[Value], inferred: Value, constant: bool) -> str:
    first = given[0].kind if given else ""
    if node.op_type == DEQUANTIZE:
        return _signed(first)
    if node.op_type == QUANTIZE:
        return _quantized(node, given)
    if node.op_type == DYNAMIC:  # gives the scale, too
        return _signed(inferred.kind)
    moved = constant or (_signed(inferred.kind) == first) or (not inferred.kind and ON_INTEGERS.fullmatch(node.op_type))
    return first if first in QUANTIZED and moved else inferred.kind


def _quantized(node: onnx.NodeProto, given: Sequence[Value]) -> str:
    """By the zero point, else by the attribute ``output_dtype``, else uint8 (ONNX, QuantizeLinear)."""
    if len(given) > 2:
        return _signed(given[2].kind)
    asked = [attribute.i for attribute in node.attribute if attribute.name == "output_dtype"]
    return _signed(_word(asked[0])) if asked and asked[0] else "int8"


def _layer(known: Known, node: onnx.NodeProto, given: Sequence[Value]) -> Layer:
    used = frozenset[str]().union(*(each.stored for each in given))
    size = sum(known.sizes.pop(name, 0) for name in used)
    made = known.values[node.output[0]] if node.output else Value("", None)
    word = precision([each.kind for each in given if not each.constant], _weight(node, given))
    return Layer(node.name or next(iter(node.output), ""), node.op_type, word, size, made.shape)


def _weight(node: onnx.NodeProto, given: Sequence[Value]) -> str:
    """The number format of the largest operand among the constants: a weight's, not its bias's or its scales'."""
    if node.op_type in WITH_PARAMETERS:
        return ""
    if ON_INTEGERS.fullmatch(node.op_type):
        given = [Value(_signed(each.kind), each.shape, each.constant) for each in given]
    kinds = QUANTIZED if ON_INTEGERS.fullmatch(node.op_type) else (*FLOATS, *QUANTIZED)
    operands = [each for each in given if each.constant and each.kind in kinds]
    return max(
        operands, key=lambda each: math.prod(size or 1 for size in each.shape or ()), default=Value("", None)
    ).kind


def _store(known: Known, name: str, tensor: onnx.TensorProto) -> None:
    kind, sizes = _word(tensor.data_type), tuple(tensor.dims)
    known.values[name] = Value(kind, sizes, True, frozenset((name,)))
    known.sizes[name] = _bytes(kind, math.prod(sizes))


def _bytes(kind: str, numbers: int) -> int:
    """Numbers of less than eight bits lie packed."""
    bits = re.search(r"\d+", kind)
    return -(-numbers * int(bits[0] if bits else 8) // 8)


def _declared(value: onnx.ValueInfoProto) -> Value:
    tensor = value.type.tensor_type
    sizes = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim)
    return Value(_word(tensor.elem_type), sizes if tensor.HasField("shape") else None)


def _word(data_type: int) -> str:
    if not data_type or data_type not in TensorProto.DataType.values():
        return ""
    return WORDS.get(data_type) or TensorProto.DataType.Name(data_type).lower()


def _signed(kind: str) -> str:
    """A quantized number's word, which has no sign."""
    return kind.removeprefix("u") if kind.removeprefix("u") in QUANTIZED else kind
