"""Keras → TFLite and Keras → ONNX, in a child process: a Keras file names objects that are made when it is loaded.

The child is limited in memory and time, converts, computes what Keras itself gives for a few inputs, and ends;
the conversion must give the same here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.model import Format, Model, derived
from edgekit.passes import Context, Pass
from edgekit.passes.child import TIMEOUT_S, Child
from edgekit.passes.proof import PROBES
from edgekit.passes.references import prove_by
from edgekit.passes.sizes import frozen, named_where_free
from edgekit.passes.tensorflow_orders import check_installed, order_for
from edgekit_runtime.tensors import TensorSpec


def run_tflite(model: Model, context: Context) -> Model:
    """Raises: ExtraNotInstalled, ConversionError, ConfigError, EngineError."""
    return _convert(model, context, Format.TFLITE)


def run_onnx(model: Model, context: Context) -> Model:
    """Raises: ExtraNotInstalled, ConversionError, ConfigError, EngineError."""
    return _convert(model, context, Format.ONNX)


def _convert(model: Model, context: Context, form: Format) -> Model:
    check_installed(model, "Keras models", form)
    child = Child("Keras", "keras_child.py", timeout_s=TIMEOUT_S)
    order = {**order_for(model, context, form), "probes": PROBES, "shapes": dict(context.shapes)}
    facts = child.answer(order)
    names = Model(model.path, Format.KERAS, _specs(facts["inputs"]), _specs(facts["outputs"]), model.digest)
    frozen(names.inputs, context.shapes)
    converted = derived(model, Path(order["result"]), f"keras-to-{form.value}", names_of=names)
    with named_where_free(converted, context):
        prove_by(child, order, converted)
    return converted


def _specs(documents: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(d["name"], d["dtype"], tuple(d["shape"])) for d in documents)


to_onnx = Pass("keras-to-onnx", Format.KERAS, Format.ONNX, run_onnx)
to_tflite = Pass("keras-to-tflite", Format.KERAS, Format.TFLITE, run_tflite)
