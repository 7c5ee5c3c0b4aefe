"""TFLite with training signatures → the same, with what serves first, once it has trained here.

The engine of a device runs the first graph; a trainer finds the signatures by their names. Operators that only
TensorFlow has would show on the device: the trial is by LiteRT alone, as there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgekit.errors import ConversionError, EdgekitError
from edgekit.formats import tflite_file
from edgekit.formats.tflite_signatures import KEPT
from edgekit.model import Format, Model, digest_of
from edgekit.passes import Context, Pass, training_tflite
from edgekit_train.signature_trainer import SignatureTrainer, weights_of

ONE_STEP: dict[str, float | int | str] = {"epochs": 1, "rate": 1e-6}
"""Whatever the scale of the inputs is, so small a step stays within the finite numbers."""


def run(model: Model, context: Context) -> Model:
    """The same model where it has none, or was here before. Raises: ConversionError, DataError."""
    if not model.trains or model.format is not Format.TFLITE or KEPT in model.lineage:
        return model
    path = context.work / model.path.name
    path.write_bytes(tflite_file.serving_first(model.path.read_bytes()))
    written = replace(model, path=path, digest=digest_of(path), lineage=(*model.lineage, KEPT))
    _check_trains(written, context)
    return written


def _check_trains(model: Model, context: Context) -> None:
    """By one step on one sample."""
    training_tflite.check_serves(model)
    classes = model.outputs[0].shape[-1] if model.outputs[0].shape else None
    if len(model.inputs) != 1 or not classes:
        raise _without(model, "what serves has not one input, and a number for each class")
    data = model.path.read_bytes()
    sample = next(context.feeds(model))[model.inputs[0].inner]
    try:
        SignatureTrainer(data, classes).fit(weights_of(data), [(sample, 0)], ONE_STEP)
        left = _not_restored(data)
    except EdgekitError as error:
        raise _without(model, error.message) from error
    if left:
        raise _without(model, f"signature 'restore' does not set {', '.join(left)} to what it takes")


def _not_restored(data: bytes) -> list[str]:
    """The weights that are others than those that were restored last."""
    interpreter = Interpreter(model_content=data)
    rng = np.random.default_rng(0)  # no number twice: weights of one shape that go to each other's place would show
    sent = {name: np.asarray(rng.normal(size=each.shape), each.dtype) for name, each in weights_of(data).items()}
    interpreter.get_signature_runner("restore")(**sent)
    found = interpreter.get_signature_runner("weights")()
    return [name for name, array in sent.items() if not np.array_equal(found[name], array)]


def _without(model: Model, why: str) -> ConversionError:
    return ConversionError(f"{model.path.name}: its training signatures are of no use: {why}", "export it without them")


keep_training = Pass(KEPT, Format.TFLITE, Format.TFLITE, run)
