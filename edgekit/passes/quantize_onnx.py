"""ONNX float → ONNX quantized, by onnxruntime's quantizers.

Static: explicit Q/DQ nodes, weights int8, symmetric, per channel. Activations follow the target: uint8 asymmetric for
onnxruntime's CPU kernels, int8 symmetric for TensorRT (which takes no other). On MobileNetV2 the symmetric form left 97
Q/DQ nodes unfused in onnxruntime's CPU graph, the asymmetric form 2. The ranges are edgekit's (``calibration``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgekit.errors import ConversionError
from edgekit.formats import onnx_file
from edgekit.model import Format, Model, derived
from edgekit.passes import Context, Pass, bias_onnx
from edgekit.passes.clean_onnx import clean
from edgekit.passes.onnx_errors import as_conversion_error
from edgekit.passes.pixels_onnx import take_pixels, transposed
from edgekit.passes.weights_onnx import store_as_int8
from edgekit.precision import Precision
from edgekit.quantization.calibration import Range
from edgekit.target import OnnxForm

NAME = "quantize-onnx"
INT16_OPSET = 21
"""The first opset whose own Q/DQ nodes take 16 bits; before it, onnxruntime's do."""
MOVING = frozenset(
    {"ArgMax", "Clip", "Flatten", "Gather", "GatherElements", "MaxPool", "Pad", "Relu", "Reshape"}
    | {"Slice", "Split", "Squeeze", "TopK", "Transpose", "Unsqueeze"}
)


def run(model: Model, context: Context) -> Model:
    """Raises: ConversionError, DataError."""
    path = context.work / f"{model.path.stem}.{context.quantization.precision.value}.onnx"
    with as_conversion_error(model, "quantizer"):
        document = onnx.load(model.path)
        written = WRITERS[context.quantization.precision](model, document, context)
        for name in context.pixel_ranges(model):
            take_pixels(written, name)
        _tidy(written, context.target.onnx, path)
    return derived(model, path, NAME)


def layers(model: Model) -> dict[str, str]:
    """The nodes that static quantization changes, in the order of computation, and what each gives.

    Those that only move numbers about follow the ones before them.
    """
    types = set(_types()) - MOVING
    return {node.name: node.output[0] for node in onnx.load(model.path).graph.node if node.op_type in types}


def _types() -> list[str]:
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QDQRegistry, *QLinearOpsRegistry})


def _static(model: Model, document: onnx.ModelProto, context: Context) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    form, wide = context.target.onnx, context.quantization.precision is Precision.INT16X8
    bias_onnx.correct(document, context.means(model), context.quantization.float_layers)
    narrow = QuantType.QInt8 if form.activation == "int8" else QuantType.QUInt8
    quantizer = QDQQuantizer(
        document,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt16 if wide else narrow,
        tensors_range=_tensors(_ranges(model, document, context)),
        nodes_to_quantize=[],
        nodes_to_exclude=sorted(context.quantization.float_layers),
        op_types_to_quantize=_types(),
        extra_options={
            "ActivationSymmetric": wide or form.symmetric,
            "WeightSymmetric": True,
            "UseQDQContribOps": wide and onnx_file.opset(document) < INT16_OPSET,
        },
    )
    quantizer.quantize_model()
    result: onnx.ModelProto = quantizer.model.model
    return result


def _ranges(model: Model, document: onnx.ModelProto, context: Context) -> dict[str, Range]:
    """Transposed pixels have the range of pixels."""
    pixels = context.pixel_ranges(model)
    same = {each: found for name, found in pixels.items() for each in transposed(document.graph, name)}
    return {**context.ranges(model), **same}


def _tensors(ranges: Mapping[str, Range]) -> Any:
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    ends = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    return TensorsData(CalibrationMethod.MinMax, ends)


def _dynamic(model: Model, document: onnx.ModelProto, context: Context) -> onnx.ModelProto:
    """Weights int8 per channel, activations quantized as they come. (Dynamic Quantization, onnxruntime's manual.)

    Of convolutions onnxruntime's CPU computes only those with unsigned weights so: they stay as they are.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode

    if context.target.onnx.symmetric:
        raise ConversionError(f"{model.path.name}: TensorRT computes no dynamic int8", "build with --precision int8")
    types = ["MatMul", "Gemm", "LSTM", "Attention", "EmbedLayerNormalization", "Gather"]
    quantizer = ONNXQuantizer(
        document,
        per_channel=True,
        reduce_range=False,
        mode=QuantizationMode.IntegerOps,
        static=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=None,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=types,
        extra_options={"WeightSymmetric": True, "MatMulConstBOnly": True},
    )
    quantizer.quantize_model()
    result: onnx.ModelProto = quantizer.model.model
    if not onnx_file.is_quantized(result.graph):
        raise ConversionError(f"{model.path.name}: has no layer for dynamic int8", "build with --precision int8")
    return result


def _weights(model: Model, document: onnx.ModelProto, context: Context) -> onnx.ModelProto:
    if not store_as_int8(document):
        raise ConversionError(f"{model.path.name}: has no large weights", "build with --precision float32")
    return document


def _float16(model: Model, document: onnx.ModelProto, context: Context) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    result: onnx.ModelProto = convert_float_to_float16(document, keep_io_types=True)
    return result


def _tidy(document: onnx.ModelProto, form: OnnxForm, path: Path) -> None:
    """Nodes in the order of computation, the IR version set on purpose, no operator set that no node is of."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    ONNXModel(document).topological_sort()
    onnx_file.drop_unused_opsets(document)
    document.ir_version = form.ir_version
    onnx.checker.check_model(document)
    onnx.save(document, path)


WRITERS: dict[Precision, Callable[[Model, onnx.ModelProto, Context], onnx.ModelProto]] = {
    Precision.INT8: _static,
    Precision.MIXED: _static,
    Precision.INT16X8: _static,
    Precision.DYNAMIC: _dynamic,
    Precision.WEIGHTS: _weights,
    Precision.FLOAT16: _float16,
}

quantize = Pass(NAME, Format.ONNX, Format.ONNX, run, tuple(WRITERS), before=(clean,), layers=layers)
