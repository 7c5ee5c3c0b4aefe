"""The head of a float model, ONNX or TFLite: read out of it, and put back when it has learned.

What was learned by a model's own signatures is not its last layer only, and goes back in another way.
"""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import ConversionError
from edgekit.model import Format, Model
from edgekit.passes import head_onnx, head_tflite, training_tflite
from edgekit_train.update import Weights

FORMS = {
    Format.ONNX: (head_onnx.weights_of, head_onnx.merged),
    Format.TFLITE: (head_tflite.weights_of, head_tflite.merged),
}


def weights_of(model: Model) -> Weights:
    """Those that training starts from. Raises: ConversionError."""
    return FORMS[_format(model)][0](model)


def unreadable(model: Model) -> str:
    """Why no round can begin with its head, and what to do; "" where one can, or begins with its signatures."""
    try:
        if not model.trains:
            weights_of(model)
    except ConversionError as error:
        return str(error)
    return ""


def merged(model: Model, weights: Weights, path: Path) -> Model:
    """The model with another head, or with other weights of its training signatures, in a new file.

    Raises: ConversionError, InvalidInput for weights that are no head, EngineError for a model that does not load.
    """
    if training_tflite.takes(model, weights):
        return training_tflite.merged(model, weights, path)
    return FORMS[_format(model)][1](model, weights, path)


def _format(model: Model) -> Format:
    if model.trains:
        raise ConversionError(
            f"{model.path.name}: its weights are those of its training signatures",
            "edgekit round start --trainer signature",
        )
    if model.format in FORMS:
        return model.format
    raise ConversionError(
        f"{model.path.name}: a head is merged into ONNX or TFLite, not into {model.format.value}", "export it to ONNX"
    )
