"""ONNX float → ONNX int8 with explicit Q/DQ nodes, by onnxruntime's static quantizer.

Weights are int8, symmetric, per channel. Activations follow the target: uint8 asymmetric for onnxruntime's CPU kernels,
int8 symmetric for TensorRT (which takes no other). On MobileNetV2 the symmetric form left 97 Q/DQ nodes unfused in
onnxruntime's CPU graph, the asymmetric form 2.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from edgekit import onnx_file
from edgekit.errors import ConversionError
from edgekit.model import Format, Model, derived
from edgekit.passes import Context, Feeds, Pass
from edgekit.target import OnnxForm

NAME = "quantize-onnx"
PER_CHANNEL_OPSET = 13


def run(model: Model, context: Context) -> Model:
    """Raises: ConversionError, DataError."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = context.feeds(model)

        def get_next(self) -> Feeds | None:
            return next(self.feeds, None)

    form = context.target.onnx
    prepared, result = context.work / f"{model.path.stem}.prepared.onnx", context.work / f"{model.path.stem}.int8.onnx"
    with _as_conversion_error(model):
        _prepare(model, form, prepared)
        quantize_static(
            prepared,
            result,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8 if form.activation == "int8" else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": form.symmetric, "WeightSymmetric": True},
        )
        _tidy(result, form)
    return derived(model, result, NAME)


def _prepare(model: Model, form: OnnxForm, destination: Path) -> None:
    """Fold what onnxruntime can fold, at an opset that has per-channel Q/DQ."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    document = onnx_file.load(model.path)
    if onnx_file.opset(document) < PER_CHANNEL_OPSET:
        document = onnx.version_converter.convert_version(document, form.opset)
    document.ir_version = form.ir_version
    onnx.save(document, destination)
    quant_pre_process(destination, destination, skip_symbolic_shape=True)


def _tidy(path: Path, form: OnnxForm) -> None:
    """Set the IR version on purpose, and drop the operator sets that the optimizer names without using them."""
    document = onnx.load(path)
    onnx_file.drop_unused_opsets(document)
    document.ir_version = form.ir_version
    onnx.checker.check_model(document)
    onnx.save(document, path)


@contextmanager
def _as_conversion_error(model: Model) -> Iterator[None]:
    """Onnx and onnxruntime raise a dozen unrelated errors. What they say besides, for developers, is silenced."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    foreign: tuple[type[Exception], ...] = (
        *own,
        ValueError,
        RuntimeError,
        AssertionError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    )
    logger = logging.getLogger()
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except foreign as error:
        line = str(error).strip().partition("\n")[0][:300]
        raise ConversionError(
            f"{model.path.name}: onnxruntime's quantizer failed: {line}", "build with --precision float32"
        ) from error
    finally:
        logger.disabled = disabled


quantize = Pass(NAME, Format.ONNX, Format.ONNX, run, precision="int8")
