"""SavedModel → TFLite and SavedModel → ONNX, in a child process: a SavedModel is a program.

The child computes what the SavedModel gives for calibration samples, and the conversion must give the same here.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.formats import savedmodel_file, tflite_file
from edgekit.model import Format, Model, derived, open_model
from edgekit.passes import Context, Pass
from edgekit.passes.child import TIMEOUT_S, Child
from edgekit.passes.proof import PROBES
from edgekit.passes.references import prove_by
from edgekit.passes.sizes import named_where_free, sized
from edgekit.passes.tensorflow_orders import check_installed, order_for
from edgekit_train.signature_trainer import NAMES


def run_tflite(model: Model, context: Context) -> Model:
    """Raises: ExtraNotInstalled, ConversionError, UnsupportedFormat, DataError."""
    return _convert(model, context, Format.TFLITE)


def run_onnx(model: Model, context: Context) -> Model:
    """Raises: ExtraNotInstalled, ConversionError, UnsupportedFormat, DataError."""
    return _convert(model, context, Format.ONNX)


def _convert(model: Model, context: Context, form: Format) -> Model:
    check_installed(model, "SavedModels", form)
    child = Child("TensorFlow", "savedmodel_child.py", timeout_s=TIMEOUT_S)
    shapes = [spec.shape for spec in model.inputs] if context.shapes and not model.trains else []
    order = {**order_for(model, context, form), **_signature(model), **_feeds(model, context), "shapes": shapes}
    child.answer(order)
    result = Path(order["result"])
    converted = (_with_training if model.trains else derived)(model, result, f"savedmodel-to-{form.value}")
    converted = sized(converted, open_model(result)) if shapes else converted
    with named_where_free(converted, context):
        prove_by(child, order, converted)
    return converted


def _with_training(model: Model, result: Path, step: str) -> Model:
    """What the child has made, with what serves first, which is held against the reference."""
    result.write_bytes(tflite_file.serving_first(result.read_bytes()))
    converted = derived(model, result, step)
    if not converted.trains:
        raise ConversionError(
            f"{model.path.name}: TensorFlow's converter has left its training signatures out",
            "name none of its functions 'serve', or convert it to TFLite yourself",
        )
    return converted


def _signature(model: Model) -> dict[str, Any]:
    signature = savedmodel_file.signature_of(model.path)
    inputs, outputs = ([spec.inner for spec in specs] for specs in (signature.inputs, signature.outputs))
    training = NAMES if signature.trains else ()
    return {"signatures": [signature.key, *training], "inputs": inputs, "outputs": outputs}


def _feeds(model: Model, context: Context) -> dict[str, Any]:
    """The first calibration samples, in a file for the child."""
    path, arrays, count = context.work.resolve() / "feeds.npz", {}, 0
    for count, feed in enumerate(islice(context.feeds(model), PROBES), 1):
        arrays.update({f"{count - 1}.{i}": feed[spec.inner] for i, spec in enumerate(model.inputs)})
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return {"feeds": str(path), "probes": count}


to_onnx = Pass("savedmodel-to-onnx", Format.SAVED_MODEL, Format.ONNX, run_onnx)
to_tflite = Pass("savedmodel-to-tflite", Format.SAVED_MODEL, Format.TFLITE, run_tflite)
