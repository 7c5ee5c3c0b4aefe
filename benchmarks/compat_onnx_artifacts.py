"""ONNX models of some nodes each, which can be run: operator sets, IR versions, types, and the quantized forms."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, parser

Array = NDArray[Any]
IR_OF_OPSET = {19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13, 26: 13, 27: 13}
"""The IR version that came with an operator set, from 19 on."""
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Written:
    """A model in onnx's text form: ``inputs`` and the lines of its graph, whose last value is ``y``."""

    label: str
    body: str
    opset: int = 17
    inputs: str = "float[1,4] x"
    weights: Mapping[str, Array | onnx.TensorProto] = field(default_factory=dict)
    domains: Mapping[str, int] = field(default_factory=dict)
    ir_version: int = 0

    def model(self) -> onnx.ModelProto:
        imports = ", ".join(f'"{name}": {version}' for name, version in {"": self.opset, **self.domains}.items())
        ir_version = self.ir_version or IR_OF_OPSET.get(self.opset, 8)
        head = f"<ir_version: {ir_version}, opset_import: [{imports}]>"
        made = parser.parse_model(f"{head} graph ({self.inputs}) => (y) {{ {self.body} }}")
        for name, array in self.weights.items():
            stored = array if isinstance(array, onnx.TensorProto) else numpy_helper.from_array(array, name)
            made.graph.initializer.append(stored)
        return made


def feeds(model: onnx.ModelProto) -> dict[str, Array]:
    """Ones for every input; free sizes are 1."""
    weights = {each.name for each in model.graph.initializer}
    found = {}
    for value in model.graph.input:
        if value.name not in weights:
            kind = value.type.tensor_type
            shape = [dim.dim_value if dim.dim_value > 0 else 1 for dim in kind.shape.dim]
            found[value.name] = np.ones(shape, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return found


def artifacts() -> Iterator[tuple[str, onnx.ModelProto]]:
    """A label and a model of each."""
    for make in (_opsets, _ir_versions, _typed, _with_scales, _integers, _contributed, _newer, _odd):
        for each in make():
            yield each.label, each.model()
    yield from _quantized()


def floats(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


IMAGE = "float[1,3,8,8] x"
CONV_NET = (
    "a = Conv<pads=[1,1,1,1]>(x, w, b) c = BatchNormalization(a, s, b, b, s) d = Relu(c) "
    "e = GlobalAveragePool(d) f = Flatten(e) g = Gemm(f, v, b) y = Softmax(g)"
)


def conv_weights() -> dict[str, Array]:
    return {"w": floats(4, 3, 3, 3), "b": floats(4), "s": np.ones(4, np.float32), "v": floats(4, 4)}


def _opsets() -> Iterator[Written]:
    for opset in range(7, 28):
        yield Written(f"convolutions, opset {opset}", CONV_NET, opset, IMAGE, conv_weights())


def _ir_versions() -> Iterator[Written]:
    for version in range(4, 15):
        yield Written(
            f"matrix product, IR {version}",
            "a = MatMul(x, w) y = Relu(a)",
            13,
            weights={"w": floats(4, 4)},
            ir_version=version,
        )
    yield Written(
        "matrix product, IR 3", "a = MatMul(x, x2) y = Relu(a)", 8, "float[4,4] x, float[4,4] x2", ir_version=3
    )


ANY = ["float16", "double", "bfloat16", "int8", "uint8", "int16", "uint16", "int32", "int64", "uint32"]
REAL, SIGNED, WIDE = ANY[:3], ["int8", "int16", "int32", "int64"], ["int32", "int64", "uint32"]
SQUARED = "r = Unsqueeze(t, axes) r2 = Unsqueeze(r, axes)"
TYPED = {
    "Add": ("y0 = Add(t, t)", ANY),
    "MatMul": ("y0 = MatMul(t, t)", [*REAL, *WIDE]),
    "Relu": ("y0 = Relu(t)", [*REAL, *SIGNED]),
    "Conv": (f"{SQUARED} y0 = Conv(r2, r2)", ["float16", "double"]),
    "MaxPool": (f"{SQUARED} y0 = MaxPool<kernel_shape=[2,2]>(r2)", ["float16", "double", "int8", "uint8"]),
    "Transpose": ("y0 = Transpose(t)", ANY),
    "ReduceMean": ("y0 = ReduceMean<axes=[0]>(t)", [*REAL, *WIDE]),
    "Where": ("c = Cast<to=9>(x) y0 = Where(c, t, t)", ANY),
    "Softmax": ("y0 = Softmax(t)", REAL),
    "Clip": ("y0 = Clip(t)", ANY),
    "Pow": ("y0 = Pow(t, t)", [*REAL, "int32", "int64"]),
    "LeakyRelu": ("y0 = LeakyRelu(t)", REAL),
}
"""Nodes from t to y0, and the types of t."""


def _typed() -> Iterator[Written]:
    for name, (body, kinds) in TYPED.items():
        for kind in kinds:
            number = onnx.TensorProto.DataType.Value(kind.upper())
            weights = {"axes": np.array([0])} if "axes)" in body else {}
            text = f"t = Cast<to={number}>(x) {body} y = Cast<to=1>(y0)"
            yield Written(f"{name} in {kind}", text, 17, "float[4,4] x", weights)


def scaled(kind: str, opset: int, domain: str = "") -> Written:
    """A convolution between Q/DQ nodes whose activations are of that type; its weights too where it is signed."""
    number = onnx.TensorProto.DataType.Value(kind.upper())
    q = f"{domain}." if domain else ""
    body = (
        f"q = {q}QuantizeLinear(x, s, z) d = {q}DequantizeLinear(q, s, z) e = {q}DequantizeLinear(w, s, z) "
        f"c = Conv(d, e) f = {q}QuantizeLinear(c, s, z) y = {q}DequantizeLinear(f, s, z)"
    )
    weights = {
        "s": np.array(0.05, np.float32),
        "z": helper.make_tensor("z", number, [], [0]),
        "w": helper.make_tensor("w", number, [4, 3, 3, 3], [1] * 108),
    }
    label = f"Q/DQ {kind}, opset {opset}" + (f", {domain}" if domain else "")
    return Written(label, body, opset, IMAGE, weights, {domain: 1} if domain else {})


def _with_scales() -> Iterator[Written]:
    for opset, kinds in {
        10: "uint8 int8",
        13: "uint8 int8",
        17: "uint8 int8",
        19: "uint8 int8 float8e4m3fn float8e5m2",
        21: "uint8 int8 uint16 int16 uint4 int4 float8e4m3fn",
        23: "uint8 int8 uint16 int16 uint4 int4",
        25: "uint8 int8 int16 int4 int2 uint2",
    }.items():
        for kind in kinds.split():
            yield scaled(kind, opset)
    for kind in ["uint8", "int8", "uint16", "int16", "uint4", "int4"]:
        yield scaled(kind, 17, "com.microsoft")


SCALE, ZERO_U, ZERO_S = np.array(0.1, np.float32), np.array(128, np.uint8), np.array(0, np.int8)
QUANTIZED = {"s": SCALE, "z": ZERO_U, "i": ZERO_S}


def _integers() -> Iterator[Written]:
    """The forms without Q/DQ pairs: integers go through."""
    image = {**QUANTIZED, "w": RNG.integers(-9, 9, (4, 3, 3, 3), np.int8), "b": np.zeros(4, np.int32)}
    wide = {**QUANTIZED, "w": RNG.integers(-9, 9, (4, 4), np.int8)}
    for opset in (10, 13, 17, 21, 23):
        conv = "q = QuantizeLinear(x, s, z) c = QLinearConv(q, s, z, w, s, i, s, z, b) y = DequantizeLinear(c, s, z)"
        yield Written(f"QLinearConv, opset {opset}", conv, opset, IMAGE, image)
        product = "q = QuantizeLinear(x, s, z) c = QLinearMatMul(q, s, z, w, s, i, s, z) y = DequantizeLinear(c, s, z)"
        yield Written(f"QLinearMatMul, opset {opset}", product, opset, weights=wide)
        whole = "q = QuantizeLinear(x, s, z) c = MatMulInteger(q, w, z) y = Cast<to=1>(c)"
        yield Written(f"MatMulInteger, opset {opset}", whole, opset, weights=wide)
    dynamic = "q, t, n = DynamicQuantizeLinear(x) c = ConvInteger(q, u, n) y = Cast<to=1>(c)"
    yield Written("ConvInteger", dynamic, 17, IMAGE, {"u": RNG.integers(0, 9, (4, 3, 3, 3), np.uint8)})


def _contributed() -> Iterator[Written]:
    ends = "q = QuantizeLinear(x, s, z) {} y = DequantizeLinear(c, s, z)"
    m = "com.microsoft"
    for name, node in {
        "QLinearAdd": f"c = {m}.QLinearAdd(q, s, z, q, s, z, s, z)",
        "QLinearMul": f"c = {m}.QLinearMul(q, s, z, q, s, z, s, z)",
        "QLinearSigmoid": f"c = {m}.QLinearSigmoid(q, s, z, s, z)",
        "QLinearLeakyRelu": f"c = {m}.QLinearLeakyRelu(q, s, z, s, z)",
        "QLinearConcat": f"c = {m}.QLinearConcat<axis=1>(s, z, q, s, z, q, s, z)",
        "QLinearSoftmax": f"c = {m}.QLinearSoftmax<opset=13>(q, s, z, s, z)",
        "QGemm": f"c = {m}.QGemm(q, s, z, w, s, i, b, s, z)",
    }.items():
        weights = {**QUANTIZED, "w": RNG.integers(-9, 9, (4, 4), np.int8), "b": np.zeros(4, np.int32)}
        yield Written(name, ends.format(node), weights=weights, domains={m: 1})
    pooled = ends.format(f"c = {m}.QLinearGlobalAveragePool(q, s, z, s, z)")
    yield Written("QLinearGlobalAveragePool", pooled, 17, IMAGE, QUANTIZED, {m: 1})
    packed = {"w": RNG.integers(0, 255, (16, 1, 16), np.uint8), "s": np.ones(16, np.float32)}
    nbits = f"y = {m}.MatMulNBits<K=32, N=16, bits=4, block_size=32>(x, w, s)"
    yield Written("MatMulNBits", nbits, 17, "float[1,32] x", packed, {m: 1})
    square, vector = {"w": floats(4, 4), "b": floats(4)}, {"b": floats(4)}
    for name, body, weights in (
        ("Gelu of com.microsoft", f"y = {m}.Gelu(x)", {}),
        ("QuickGelu", f"y = {m}.QuickGelu(x)", {}),
        ("FastGelu", f"y = {m}.FastGelu(x)", {}),
        ("BiasGelu", f"y = {m}.BiasGelu(x, b)", vector),
        ("FusedMatMul", f"y = {m}.FusedMatMul(x, w)", square),
        ("FusedGemm", f'y = {m}.FusedGemm<activation="Relu">(x, w, b)', square),
        ("BiasSoftmax, which no CPU has", f"y = {m}.BiasSoftmax<axis=1, is_inner_broadcast=1>(x, x)", {}),
        (
            "DynamicQuantizeMatMul",
            f"y = {m}.DynamicQuantizeMatMul(x, w, s, i)",
            {**QUANTIZED, "w": np.ones((4, 4), np.int8)},
        ),
        (
            "SkipLayerNormalization",
            f"r = Unsqueeze(x, a) y = {m}.SkipLayerNormalization(r, r, b, b)",
            {**vector, "a": np.array([0])},
        ),
    ):
        yield Written(name, body, weights=weights, domains={m: 1})
    fused = f'y = {m}.FusedConv<activation="Relu">(x, w)'
    yield Written("FusedConv", fused, 17, IMAGE, {"w": floats(4, 3, 3, 3)}, {m: 1})


def _newer() -> Iterator[Written]:
    """Operators that came late, or changed, or that releases take apart for want of a kernel."""
    ones, image = {"b": np.ones(4, np.float32)}, {"c": np.ones(4, np.float32), "g": np.ones(2, np.float32)}
    for opset in (17, 21, 23):
        yield Written(f"LayerNormalization, opset {opset}", "y = LayerNormalization(x, b)", opset, weights=ones)
    maps = "float[1,4,4,4] x"
    group = "y = GroupNormalization<num_groups=2>(x, {0}, {0})"
    yield Written("GroupNormalization, opset 18", group.format("g"), 18, maps, {"g": image["g"]})
    yield Written("GroupNormalization, opset 21", group.format("c"), 21, maps, {"c": image["c"]})
    for opset in (14, 17, 22, 23):
        yield Written(f"HardSwish, opset {opset}", "y = HardSwish(x)", opset)
    for opset in (18, 20, 22, 24):
        yield Written(f"Mish, opset {opset}", "y = Mish(x)", opset)
    for opset in (20, 21, 23):
        yield Written(f"Gelu, opset {opset}", "y = Gelu(x)", opset)
    yield Written("RMSNormalization", "y = RMSNormalization(x, b)", 23, weights=ones)
    yield Written("Swish", "y = Swish(x)", 24)
    heads = "float[1,2,4,8] x"
    for opset in (23, 24):
        yield Written(f"Attention, opset {opset}", "y = Attention(x, x, x)", opset, heads)
    for opset in (16, 20, 22):
        grid = {"n": np.zeros((1, 4, 4, 2), np.float32)}
        yield Written(f"GridSample, opset {opset}", "y = GridSample(x, n)", opset, maps, grid)
    sizes = {"r": np.array([], np.float32), "t": np.array([1, 1, 2, 2], np.float32)}
    for opset in (11, 13, 18, 19):
        body = 'y = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(x, r, t)'
        yield Written(f"Resize, opset {opset}", body, opset, maps, sizes)
    rois = {"o": np.array([[0, 0, 2, 2]], np.float32), "i": np.array([0])}
    for opset in (16, 22):
        yield Written(f"RoiAlign, opset {opset}", "y = RoiAlign(x, o, i)", opset, maps, rois)
    pads = {"p": np.array([0, 1, 0, 1])}
    for opset in (11, 13, 18, 19, 21, 23):
        yield Written(f"Pad, opset {opset}", "y = Pad(x, p)", opset, weights=pads)
    for opset in (9, 14, 19, 22):
        yield Written(
            f"BatchNormalization alone, opset {opset}", "y = BatchNormalization(x, b, b, b, b)", opset, weights=ones
        )
    for opset in (11, 18):
        reduced = "y = ReduceL2<axes=[1]>(x)" if opset < 18 else "y = ReduceL2(x, a)"
        yield Written(f"ReduceL2, opset {opset}", reduced, opset, weights={} if opset < 18 else {"a": np.array([1])})
    yield Written("LeakyRelu in double, opset 16", "t = Cast<to=11>(x) u = LeakyRelu(t) y = Cast<to=1>(u)", 16)
    yield Written("LeakyRelu in double, opset 21", "t = Cast<to=11>(x) u = LeakyRelu(t) y = Cast<to=1>(u)", 21)
    yield Written("CastLike", "t = Cast<to=6>(x) y = CastLike(t, x)", 15)
    yield Written("Einsum", 'y = Einsum<equation="ij,kj->ik">(x, x)', 12)
    yield Written("TopK", "y0, i = TopK(x, k) y = Identity(y0)", 11, weights={"k": np.array([2])})
    yield Written("BitwiseAnd", "t = Cast<to=6>(x) u = BitwiseAnd(t, t) y = Cast<to=1>(u)", 18)
    yield Written("DFT", "a = Unsqueeze(x, e) y = DFT(a)", 17, weights={"e": np.array([2])})
    yield Written("DFT, opset 20", "a = Unsqueeze(x, e) y = DFT(a)", 20, weights={"e": np.array([2])})
    yield Written(
        "DeformConv",
        "y = DeformConv(x, w, o)",
        19,
        maps,
        {"w": floats(4, 4, 1, 1), "o": np.zeros((1, 2, 4, 4), np.float32)},
    )
    lstm = {"w": floats(1, 16, 4), "r": floats(1, 16, 4)}
    for opset in (14, 22):
        yield Written(f"LSTM, opset {opset}", "y, h, c = LSTM<hidden_size=4>(x, w, r)", opset, "float[2,1,4] x", lstm)


def _odd() -> Iterator[Written]:
    yield Written("an operator of nobody's", "y = example.Thing(x)", domains={"example": 1})
    yield Written("an operator set of nobody's, not used", "y = Relu(x)", domains={"example": 1})
    yield Written(
        "operator sets of onnxruntime's, not used", "y = Relu(x)", domains={"com.microsoft": 1, "ai.onnx.ml": 3}
    )
    yield Written("a newer operator set for trees, not used", "y = Relu(x)", domains={"ai.onnx.ml": 5})
    yield Written(
        "an operator that is not in its operator set", "y = com.microsoft.NoSuchThing(x)", domains={"com.microsoft": 1}
    )
    yield Written("Scaler", "y = ai.onnx.ml.Scaler<offset=[0.0], scale=[1.0]>(x)", domains={"ai.onnx.ml": 3})
    branches = (
        "b = Cast<to=9>(n) y = If(b)<then_branch = g1 () => (float[1,4] o) { o = Relu(x) }, "
        "else_branch = g2 () => (float[1,4] p) { p = HardSwish(x) }>"
    )
    yield Written("branches", branches, 17, "float[1,4] x, float[1] n")


def _quantized() -> Iterator[tuple[str, onnx.ModelProto]]:
    """By onnxruntime's own quantizer, in the forms that people choose."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    u8, s8, u16, s16, s4 = QuantType.QUInt8, QuantType.QInt8, QuantType.QUInt16, QuantType.QInt16, QuantType.QInt4
    forms: Sequence[tuple[Any, Any, Any, bool]] = (
        (QuantFormat.QDQ, u8, s8, True),
        (QuantFormat.QDQ, s8, s8, True),
        (QuantFormat.QDQ, u8, u8, False),
        (QuantFormat.QDQ, u16, s8, False),
        (QuantFormat.QDQ, s16, s8, False),
        (QuantFormat.QDQ, u8, s4, False),
        (QuantFormat.QOperator, u8, s8, True),
        (QuantFormat.QOperator, u8, u8, False),
    )
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        for opset in (13, 17, 21):
            onnx.save(Written("", CONV_NET, opset, IMAGE, conv_weights()).model(), source)
            for form, activation, weight, per_channel in forms:
                options = {"per_channel": per_channel, "activation_type": activation, "weight_type": weight}
                quantize_static(source, result, _Reader(), quant_format=form, **options)
                label = f"quantize_static {form.name} {activation.name} {weight.name}, opset {opset}"
                yield label, _at_ir(onnx.load(result), opset)
            quantize_dynamic(source, result)
            yield f"quantize_dynamic, opset {opset}", _at_ir(onnx.load(result), opset)


class _Reader:
    """Samples for the calibration."""

    def __init__(self) -> None:
        self.samples = iter([{"x": floats(1, 3, 8, 8)} for _ in range(4)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.samples, None)


def _at_ir(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    model.ir_version = IR_OF_OPSET.get(opset, 8)
    return model
