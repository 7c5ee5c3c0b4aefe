"""TFLite float → ONNX by tf2onnx, for targets that run nothing else.

Sizes and names stay: what is fixed in the TFLite file, as the batch often is, is fixed in ONNX too.
"""

from __future__ import annotations

from pathlib import Path

from edgekit.model import Format, Model, derived
from edgekit.passes import Context, Pass, cutting
from edgekit.passes.child import TIMEOUT_S, Child
from edgekit.passes.cutting import cut_tflite
from edgekit.passes.layers import trace
from edgekit.passes.proof import probes_of, prove
from edgekit.passes.tensorflow_orders import check_installed, order_for

NAME = "tflite-to-onnx"


def run(model: Model, context: Context) -> Model:
    """Without its end where that cannot be converted, and can be cut.

    Raises: ExtraNotInstalled, ConversionError, DataError, EngineError.
    """
    return cutting.converted(model, context, _converted, cut_tflite.without_detections)


def _converted(model: Model, context: Context) -> Model:
    check_installed(model, "TFLite models on their way to ONNX", Format.ONNX)
    order = order_for(model, context, Format.ONNX)
    Child("tf2onnx", "tflite_child.py", timeout_s=TIMEOUT_S).answer(order)
    converted = derived(model, Path(order["result"]), NAME)
    probes = probes_of(model, context.feeds(model))
    prove(converted, probes, lambda index: trace(model, probes[index].inputs))
    return converted


to_onnx = Pass(NAME, Format.TFLITE, Format.ONNX, run)
