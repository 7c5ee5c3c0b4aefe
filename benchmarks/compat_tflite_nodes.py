"""TFLite models of one operator each, over the types and forms that converters and quantizers write.

Every model can be run: sizes are fixed, weights and indices inside. ``stamped`` makes a model that only names an
operator in a version, which is what an interpreter looks up first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

INTEGERS = {
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint32": np.uint32,
}
NUMPY = {**INTEGERS, "float32": np.float32, "float16": np.float16, "bool": np.bool_}
QUANTIZED = ("qint8", "quint8", "qint16")
PLAIN = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "uint32", "bool")
MAP = (1, 4, 4, 2)


@dataclass(frozen=True)
class Tensor:
    """``kind``: numpy's name, with a leading q for quantized numbers; ``channels``: one scale each along ``axis``."""

    shape: tuple[int, ...]
    kind: str
    data: Any = None
    scale: float = 0.5
    zero: int = 0
    channels: int = 0
    axis: int = 0

    @property
    def base(self) -> str:
        return self.kind.removeprefix("q")


@dataclass(frozen=True)
class Node:
    """An operator with its tensors; an input of None is left out. ``options``: the table and its fields."""

    name: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: str = ""
    fields: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        kinds = [f"{each.kind}{each.shape}" if each else "-" for each in (*self.inputs, *self.outputs)]
        return f"{self.name} {' '.join(kinds)}"


def nodes() -> Iterator[Node]:
    for make in (
        _unary,
        _binary,
        _compared,
        _moved,
        _indexed,
        _reduced,
        _weighted,
        _solid,
        _sampled,
        _converted,
        _logical,
    ):
        yield from make()


UNARY = dict.fromkeys(
    [
        "ABS",
        "NEG",
        "FLOOR",
        "CEIL",
        "ROUND",
        "EXP",
        "LOG",
        "SQRT",
        "RSQRT",
        "SQUARE",
        "SIN",
        "COS",
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "RELU_0_TO_1",
        "ELU",
        "SIGN",
        "HARD_SWISH",
        "ZEROS_LIKE",
        "L2_NORMALIZATION",
    ],
    "",
) | {
    "GELU": "GeluOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "LOGISTIC": "",
    "TANH": "",
    "SOFTMAX": "SoftmaxOptions",
    "LOG_SOFTMAX": "",
}
FIXED_OUTPUT = {
    ("LOGISTIC", "qint8"): (1 / 256, -128),
    ("LOGISTIC", "quint8"): (1 / 256, 0),
    ("LOGISTIC", "qint16"): (1 / 32768, 0),
    ("TANH", "qint8"): (1 / 128, 0),
    ("TANH", "quint8"): (1 / 128, 128),
    ("TANH", "qint16"): (1 / 32768, 0),
    ("SOFTMAX", "qint8"): (1 / 256, -128),
    ("SOFTMAX", "quint8"): (1 / 256, 0),
    ("SOFTMAX", "qint16"): (1 / 32768, 0),
    ("LOG_SOFTMAX", "qint8"): (16 / 256, 127),
    ("LOG_SOFTMAX", "quint8"): (16 / 256, 255),
    ("L2_NORMALIZATION", "qint8"): (1 / 128, 0),
    ("L2_NORMALIZATION", "quint8"): (1 / 128, 128),
}
"""Scale and zero point that the operator's specification asks for."""


def _unary() -> Iterator[Node]:
    for name, options in UNARY.items():
        for kind in (*PLAIN, *QUANTIZED):
            scale, zero = FIXED_OUTPUT.get((name, kind), (0.5, 0))
            fields = (("beta", 1.0),) if name == "SOFTMAX" else ()
            for shape in (MAP, (1, 8), (1, 2, 2, 2, 2)):
                out = Tensor(shape, kind, scale=scale, zero=zero)
                yield Node(name, (Tensor(shape, kind),), (out,), options, fields)


BINARY = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "POW": "",
    "SQUARED_DIFFERENCE": "",
    "FLOOR_DIV": "",
    "FLOOR_MOD": "",
    "ATAN2": "",
    "PRELU": "",
    "BITWISE_XOR": "",
    "RIGHT_SHIFT": "",
}
FIVE, ALONG = (1, 2, 2, 2, 2), (1, 1, 1, 1, 2)


def _binary() -> Iterator[Node]:
    for name, options in BINARY.items():
        for kind in (*PLAIN, *QUANTIZED):
            for left, right in ((MAP, MAP), (MAP, (1, 1, 1, 2)), ((1, 8), (1, 8)), (FIVE, FIVE), (FIVE, ALONG)):
                second = Tensor(right, kind, np.ones(right))
                fields = (("potScaleInt16", False),) if name in ("ADD", "SUB") else ()
                yield Node(name, (Tensor(left, kind), second), (Tensor(left, kind),), options, fields)


def _compared() -> Iterator[Node]:
    for name in ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"):
        for kind in (*PLAIN, *QUANTIZED):
            for right in (MAP, (1, 1, 1, 2)):
                yield Node(name, (Tensor(MAP, kind), Tensor(right, kind, np.ones(right))), (Tensor(MAP, "bool"),))


def _logical() -> Iterator[Node]:
    for name in ("LOGICAL_AND", "LOGICAL_OR"):
        yield Node(name, (Tensor(MAP, "bool"), Tensor(MAP, "bool", np.ones(MAP))), (Tensor(MAP, "bool"),))
    yield Node("LOGICAL_NOT", (Tensor(MAP, "bool"),), (Tensor(MAP, "bool"),))
    for name in ("REDUCE_ANY", "REDUCE_ALL"):
        yield Node(name, (Tensor(MAP, "bool"), _index([1, 2])), (Tensor((1, 2), "bool"),), "ReducerOptions")
    for kind in (*PLAIN, *QUANTIZED):
        pair = (Tensor(MAP, kind), Tensor(MAP, kind, np.ones(MAP)))
        for name in ("SELECT", "SELECT_V2"):
            yield Node(name, (Tensor(MAP, "bool"), *pair), (Tensor(MAP, kind),))


def _index(values: Any, kind: str = "int32") -> Tensor:
    return Tensor(np.shape(values), kind, np.asarray(values))


def _moved() -> Iterator[Node]:
    for kind in (*PLAIN, *QUANTIZED):
        for shape in (MAP, (1, 2, 2, 2, 2), (1, 8)):
            x, rank = Tensor(shape, kind), len(shape)
            flat, turned = (1, int(np.prod(shape))), (*shape[:-2], shape[-1], shape[-2])
            yield Node("RESHAPE", (x, _index(flat)), (Tensor(flat, kind),), "ReshapeOptions")
            order = [*range(rank - 2), rank - 1, rank - 2]
            yield Node("TRANSPOSE", (x, _index(order)), (Tensor(turned, kind),), "TransposeOptions")
            double = (*shape[:-1], 2 * shape[-1])
            both = (x, Tensor(shape, kind, np.ones(shape)))
            yield Node("CONCATENATION", both, (Tensor(double, kind),), "ConcatenationOptions", (("axis", -1),))
            yield Node("SLICE", (x, _index([0] * rank), _index(shape)), (x,), "SliceOptions")
            ones = _index([1] * rank)
            yield Node("STRIDED_SLICE", (x, _index([0] * rank), _index(shape), ones), (x,), "StridedSliceOptions")
            wide = tuple(size + 2 for size in shape)
            frame = _index([[1, 1]] * rank)
            yield Node("PAD", (x, frame), (Tensor(wide, kind),), "PadOptions")
            yield Node("PADV2", (x, frame, Tensor((1,), kind, np.ones(1))), (Tensor(wide, kind),), "PadV2Options")
            yield Node("SQUEEZE", (x,), (Tensor(shape[1:], kind),), "SqueezeOptions", (("squeezeDims", [0]),))
            yield Node("EXPAND_DIMS", (x, _index(0)), (Tensor((1, *shape), kind),), "ExpandDimsOptions")
            yield Node("TILE", (x, _index([1] * (rank - 1) + [2])), (Tensor(double, kind),), "TileOptions")
            yield Node("REVERSE_V2", (x, _index([1])), (x,), "ReverseV2Options")
            yield Node(
                "BROADCAST_TO", (x, _index((2, *shape[1:]))), (Tensor((2, *shape[1:]), kind),), "BroadcastToOptions"
            )
            packed = Tensor((2, *shape), kind)
            yield Node("PACK", both, (packed,), "PackOptions", (("valuesCount", 2), ("axis", 0)))
            part = Tensor((*shape[:-1], shape[-1] // 2), kind)
            yield Node("SPLIT", (_index(rank - 1), x), (part, part), "SplitOptions", (("numSplits", 2),))
            sizes = _index([shape[-1] // 2] * 2)
            yield Node("SPLIT_V", (x, sizes, _index(rank - 1)), (part, part), "SplitVOptions", (("numSplits", 2),))
            row = Tensor(shape[:-1], kind)
            fields = (("num", shape[-1]), ("axis", rank - 1))
            yield Node("UNPACK", (x,), (row,) * shape[-1], "UnpackOptions", fields)
        x = Tensor(MAP, kind)
        yield Node(
            "MIRROR_PAD",
            (x, _index([[0, 0], [1, 1], [1, 1], [0, 0]])),
            (Tensor((1, 6, 6, 2), kind),),
            "MirrorPadOptions",
        )
        yield Node("SPACE_TO_DEPTH", (x,), (Tensor((1, 2, 2, 8), kind),), "SpaceToDepthOptions", (("blockSize", 2),))
        deep = Tensor((1, 2, 2, 8), kind)
        yield Node("DEPTH_TO_SPACE", (deep,), (x,), "DepthToSpaceOptions", (("blockSize", 2),))
        blocks, none = _index([2, 2]), _index([[0, 0], [0, 0]])
        many = Tensor((4, 2, 2, 2), kind)
        yield Node("SPACE_TO_BATCH_ND", (x, blocks, none), (many,), "SpaceToBatchNDOptions")
        yield Node("BATCH_TO_SPACE_ND", (many, blocks, none), (x,), "BatchToSpaceNDOptions")
        yield Node("FILL", (_index([2, 2]), Tensor((), kind)), (Tensor((2, 2), kind),), "FillOptions")
        yield Node("SHAPE", (x,), (Tensor((4,), "int32"),), "ShapeOptions", (("outType", schema.TensorType.INT32),))
        yield Node("RANK", (x,), (Tensor((), "int32"),), "RankOptions")


def _indexed() -> Iterator[Node]:
    for kind in (*PLAIN, *QUANTIZED):
        x, table = Tensor(MAP, kind), Tensor((4, 8), kind)
        for index in ("int32", "int64", "int16"):
            picked = Tensor((2, 8), kind)
            yield Node("GATHER", (table, _index([0, 1], index)), (picked,), "GatherOptions")
            yield Node("GATHER_ND", (table, _index([[0], [1]], index)), (picked,), "GatherNdOptions")
        weights, ids = replace(table, data=np.ones((4, 8))), Tensor((2,), "int32")
        yield Node("EMBEDDING_LOOKUP", (ids, weights), (Tensor((2, 8), kind),))
        yield Node("GATHER", (weights, ids), (Tensor((2, 8), kind),), "GatherOptions")
        yield Node("DYNAMIC_UPDATE_SLICE", (table, Tensor((1, 8), kind, np.ones((1, 8))), _index([0, 0])), (table,))
        for out in ("int32", "int64"):
            code = schema.TensorType.INT32 if out == "int32" else schema.TensorType.INT64
            for name in ("ARG_MAX", "ARG_MIN"):
                kept = Tensor((1, 4, 4), out)
                yield Node(
                    name, (x, _index(3)), (kept,), f"{name.title().replace('_', '')}Options", (("outputType", code),)
                )
        top = (Tensor((4, 2), kind), Tensor((4, 2), "int32"))
        yield Node("TOPK_V2", (table, _index(2)), top, "TopKV2Options")
        values = (Tensor((), kind, np.ones(())), Tensor((), kind, np.zeros(())))
        yield Node(
            "ONE_HOT",
            (Tensor((4,), "int32"), _index(3), *values),
            (Tensor((4, 3), kind),),
            "OneHotOptions",
            (("axis", -1),),
        )
        yield Node("CUMSUM", (table, _index(1)), (table,), "CumsumOptions")
        updates = Tensor((1, 8), kind)
        yield Node("SCATTER_ND", (_index([[0]]), updates, _index([4, 8])), (table,), "ScatterNdOptions")
        start, end, step = (Tensor((), kind, np.asarray(value)) for value in (0, 4, 1))
        yield Node("RANGE", (start, end, step), (Tensor((4,), kind),), "RangeOptions")


def _reduced() -> Iterator[Node]:
    for kind in (*PLAIN, *QUANTIZED):
        for name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
            for shape, kept in ((MAP, (1, 2)), ((1, 2, 2, 2, 2), (1, 2, 2))):
                yield Node(name, (Tensor(shape, kind), _index([1, 2])), (Tensor(kept, kind),), "ReducerOptions")


FORMS = (
    ("float32", "float32", "float32", "float32"),
    ("float32", "qint8", "float32", "float32"),
    ("float32", "qint4", "float32", "float32"),
    ("float32", "qint2", "float32", "float32"),
    ("float32", "float16", "float32", "float32"),
    ("float16", "float16", "float16", "float16"),
    ("qint8", "qint8", "int32", "qint8"),
    ("qint8", "qint4", "int32", "qint8"),
    ("qint8", "qint2", "int32", "qint8"),
    ("quint8", "quint8", "int32", "quint8"),
    ("quint8", "qint8", "int32", "quint8"),
    ("qint16", "qint8", "int64", "qint16"),
    ("qint16", "qint8", "int32", "qint16"),
    ("qint16", "qint4", "int64", "qint16"),
    ("qint16", "qint4", "int32", "qint16"),
    ("qint16", "qint16", "int64", "qint16"),
    ("qint16", "qint16", "int32", "qint16"),
    ("qint8", "qint8", "int32", "float32"),
    ("qint8", "qint8", "int32", "qint16"),
)
"""Types of input, weights, bias and output."""


def _weighted() -> Iterator[Node]:
    for x, w, b, y in FORMS:
        for channels in (False, True) if w.startswith("q") and w != "quint8" else (False,):
            for bias in (True, False):
                yield from _products((x, w, b, y), channels, bias)


def _solid() -> Iterator[Node]:
    x, y, kernel = Tensor((1, 4, 4, 4, 2), "float32"), Tensor((1, 4, 4, 4, 4), "float32"), (3, 3, 3, 2, 4)
    fields = tuple(
        (f"{name}{axis}{part}", 1) for axis in "DHW" for name, part in (("stride", ""), ("dilation", "Factor"))
    )
    for bias in ((), (Tensor((4,), "float32", np.zeros(4)),)):
        yield Node("CONV_3D", (x, Tensor(kernel, "float32", np.ones(kernel)), *bias), (y,), "Conv3DOptions", fields)


def _products(form: tuple[str, str, str, str], channels: bool, bias: bool) -> Iterator[Node]:
    x, w, b, y = form

    def weights(shape: tuple[int, ...], axis: int) -> Tensor:
        return Tensor(shape, w, np.ones(shape), channels=shape[axis] if channels else 0, axis=axis)

    def last(size: int) -> tuple[Tensor | None, ...]:
        own = Tensor((size,), b, np.zeros(size), scale=0.25, channels=size if channels else 0)
        return (own,) if bias else ()

    image, wide = Tensor(MAP, x), Tensor((1, 4, 4, 4), y)
    strides = (("strideW", 1), ("strideH", 1))
    dilated = (*strides, ("dilationWFactor", 1), ("dilationHFactor", 1))
    typed = (("quantizedBiasType", _code(b)),)
    yield Node("CONV_2D", (image, weights((4, 3, 3, 2), 0), *last(4)), (wide,), "Conv2DOptions", dilated)
    if x == "qint16":
        yield Node("CONV_2D", (image, weights((4, 3, 3, 2), 0), *last(4)), (wide,), "Conv2DOptions", (*dilated, *typed))
    depth = (*dilated, ("depthMultiplier", 2))
    yield Node(
        "DEPTHWISE_CONV_2D", (image, weights((1, 3, 3, 4), 3), *last(4)), (wide,), "DepthwiseConv2DOptions", depth
    )
    full = (Tensor((1, 8), x), weights((4, 8), 0), *(last(4) or (None,)))
    yield Node("FULLY_CONNECTED", full, (Tensor((1, 4), y),), "FullyConnectedOptions")
    if x == "float32" and w.startswith("q"):
        fields = (("asymmetricQuantizeInputs", True),)
        yield Node("FULLY_CONNECTED", full, (Tensor((1, 4), y),), "FullyConnectedOptions", fields)
    shape = _index([1, 4, 4, 4])
    yield Node(
        "TRANSPOSE_CONV", (shape, weights((4, 3, 3, 2), 0), image, *last(4)), (wide,), "TransposeConvOptions", strides
    )
    if bias and not channels:
        pair = (Tensor((2, 2, 4), x), Tensor((2, 4, 3), w, np.ones((2, 4, 3))))
        yield Node("BATCH_MATMUL", pair, (Tensor((2, 2, 3), y),), "BatchMatMulOptions")
        if x == w:
            free = (pair[0], replace(pair[1], data=None))
            yield Node("BATCH_MATMUL", free, (Tensor((2, 2, 3), y),), "BatchMatMulOptions")


def _sampled() -> Iterator[Node]:
    for kind in (*PLAIN, *QUANTIZED):
        x, half = Tensor(MAP, kind), Tensor((1, 2, 2, 2), kind)
        window = tuple((name, 2) for name in ("strideW", "strideH", "filterWidth", "filterHeight"))
        for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"):
            yield Node(name, (x,), (half,), "Pool2DOptions", window)
        for name, options in (
            ("RESIZE_BILINEAR", "ResizeBilinearOptions"),
            ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
        ):
            for fields in ((), (("halfPixelCenters", True),)):
                yield Node(name, (x, _index([8, 8])), (Tensor((1, 8, 8, 2), kind),), options, fields)
        fields = (("radius", 1), ("bias", 1.0), ("alpha", 1.0), ("beta", 0.5))
        yield Node("LOCAL_RESPONSE_NORMALIZATION", (x,), (x,), "LocalResponseNormalizationOptions", fields)


def _converted() -> Iterator[Node]:
    for source in (*PLAIN, *QUANTIZED):
        for target in PLAIN:
            codes = (("inDataType", _code(source)), ("outDataType", _code(target)))
            yield Node("CAST", (Tensor(MAP, source),), (Tensor(MAP, target),), "CastOptions", codes)
    for shape in (MAP, FIVE):
        for source in ("float32", *QUANTIZED):
            for target in QUANTIZED:
                yield Node(
                    "QUANTIZE", (Tensor(shape, source),), (Tensor(shape, target, scale=0.25),), "QuantizeOptions"
                )
        for source in (*QUANTIZED, "float16"):
            yield Node("DEQUANTIZE", (Tensor(shape, source),), (Tensor(shape, "float32"),), "DequantizeOptions")
    for source in ("qint8", "qint4", "qint2"):
        for channels in (0, 4):
            table = Tensor((4, 8), source, np.ones((4, 8)), channels=channels)
            yield Node("DEQUANTIZE", (table,), (Tensor((4, 8), "float32"),), "DequantizeOptions")
            found, ids = (Tensor((2, 8), "float32"),), Tensor((2,), "int32")
            yield Node("EMBEDDING_LOOKUP", (ids, table), found)
            yield Node("GATHER", (table, ids), (Tensor((2, 8), source),), "GatherOptions")


def _code(kind: str) -> int:
    code: int = getattr(schema.TensorType, kind.removeprefix("q").upper())
    return code


def model(node: Node, version: int = 1) -> bytes:
    """The node alone in a file, stamped with that version; tensors without data are inputs.

    What a node makes of weights alone is added to an input: no interpreter is fond of models without one.
    """
    document, graph = _document()
    given = [each for each in node.inputs if each is not None]
    tensors = [*given, *node.outputs]
    graph.tensors = [_tensor(document, each, f"t{at}") for at, each in enumerate(tensors)]
    graph.inputs = [at for at, each in enumerate(given) if each.data is None]
    graph.outputs = list(range(len(given), len(tensors)))
    graph.operators, places = [schema.OperatorT()], iter(range(len(given)))
    operator = graph.operators[0]
    operator.inputs = [-1 if each is None else next(places) for each in node.inputs]
    operator.outputs, operator.opcodeIndex = graph.outputs, 0
    if node.options:
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, node.options)
        operator.builtinOptions = getattr(schema, f"{node.options}T")()
        for name, value in node.fields:
            setattr(operator.builtinOptions, name, value)
    document.operatorCodes = [_operator_code(getattr(schema.BuiltinOperator, node.name), version)]
    if not graph.inputs:
        _add_input(document, graph, node.outputs[0])
    return packed(document)


def _document() -> tuple[Any, Any]:
    document, graph = schema.ModelT(), schema.SubGraphT()
    document.version, document.subgraphs, document.buffers = 3, [graph], [schema.BufferT()]
    return document, graph


def _add_input(document: Any, graph: Any, made: Tensor) -> None:
    count, operator = len(graph.tensors), schema.OperatorT()
    graph.tensors += [_tensor(document, made, f"t{count}"), _tensor(document, made, f"t{count + 1}")]
    operator.opcodeIndex, operator.inputs, operator.outputs = 1, [*graph.outputs, count], [count + 1]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    document.operatorCodes.append(_operator_code(schema.BuiltinOperator.ADD, 1))
    graph.operators, graph.inputs, graph.outputs = [*graph.operators, operator], [count], [count + 1]


def stamped(builtin: int, version: int) -> bytes:
    """A model without operators that names one in a version: it loads where the interpreter has that."""
    document, graph = _document()
    graph.tensors, graph.inputs, graph.outputs = [_tensor(document, Tensor((1, 4), "float32"), "t0")], [0], [0]
    graph.operators, document.operatorCodes = [], [_operator_code(builtin, version)]
    return packed(document)


def custom(name: str) -> bytes:
    """A model of one operator that is not TFLite's own, such as a Flex operator."""
    document, graph = _document()
    graph.tensors = [_tensor(document, Tensor((1, 4), "float32"), place) for place in ("t0", "t1")]
    graph.inputs, graph.outputs, operator = [0], [1], schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    graph.operators, document.operatorCodes = [operator], [_operator_code(schema.BuiltinOperator.CUSTOM, 1)]
    document.operatorCodes[0].customCode = name.encode()
    return packed(document)


def packed(document: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(document.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def feeds(node: Node) -> dict[str, Any]:
    """Ones for the inputs."""
    given = [each for each in node.inputs if each is not None]
    made = {f"t{at}": np.ones(each.shape, NUMPY[each.base]) for at, each in enumerate(given) if each.data is None}
    first = node.outputs[0]
    return made or {f"t{len(given) + len(node.outputs)}": np.ones(first.shape, NUMPY[first.base])}


def _operator_code(builtin: int, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
    return code


def _tensor(document: Any, tensor: Tensor, name: str) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.type, made.buffer = name.encode(), list(tensor.shape), _code(tensor.kind), 0
    if tensor.data is not None:
        buffer = schema.BufferT()
        buffer.data = list(_stored(tensor))
        document.buffers.append(buffer)
        made.buffer = len(document.buffers) - 1
    if tensor.kind.startswith("q") or (tensor.channels and tensor.kind.startswith("int")) or tensor.scale == 0.25:
        made.quantization = schema.QuantizationParametersT()
        count = tensor.channels or 1
        made.quantization.scale, made.quantization.zeroPoint = [tensor.scale] * count, [tensor.zero] * count
        made.quantization.quantizedDimension = tensor.axis if tensor.channels else 0
    return made


def _stored(tensor: Tensor) -> bytes:
    if tensor.base in ("int4", "int2"):
        bits = int(tensor.base[-1])
        ones = sum(1 << bits * place for place in range(8 // bits))
        return bytes([ones]) * (-(-int(np.prod(tensor.shape)) * bits // 8))
    return np.asarray(tensor.data).astype(NUMPY[tensor.base]).tobytes()
