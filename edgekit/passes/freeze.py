"""Freeze: sizes that a model leaves free, fixed to those that edgekit.toml gives, at the front of every way.

What comes after sees nothing else: calibration, conversion, the device. A model that only its framework can load (a
Keras file, a SavedModel, a program of PyTorch) is declared to be of these sizes; the file that a conversion writes is
brought to them where the converter has not done so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgekit.model import Format, Model, open_model
from edgekit.passes import Context, Pass, freeze_onnx, freeze_tflite
from edgekit.passes.proof import load
from edgekit.passes.sizes import frozen, named_where_free, sized

NAME = "freeze"
WRITERS: dict[Format, Callable[[Model, Path, Context], None]] = {
    Format.ONNX: freeze_onnx.write,
    Format.TFLITE: freeze_tflite.write,
}
"""Each writes a model's file anew, with inputs of the shapes that the model tells."""


def run(model: Model, context: Context) -> Model:
    """The same model where nothing is to be fixed. Raises: ConfigError, DataError, ConversionError, EngineError."""
    if not context.shapes:
        _check_loads(model, context)
        return model
    inputs = frozen(model.inputs, context.shapes) if model.inputs else ()
    known = bool(inputs) and inputs == model.inputs
    declared = model if known else replace(model, inputs=inputs, lineage=(*model.lineage, NAME))
    return _written(declared, context) if model.format in WRITERS and _left_free(declared) else declared


def _left_free(model: Model) -> bool:
    """Whether the file leaves a size free that is fixed."""
    pairs = zip(model.inputs, open_model(model.path).inputs, strict=True)
    return any(size and not have for spec, own in pairs for size, have in zip(spec.shape, own.shape, strict=True))


def _check_loads(model: Model, context: Context) -> None:
    """Raises: ConversionError for TFLite of which LiteRT can make nothing before it knows all sizes."""
    if model.format is Format.TFLITE and any(None in spec.shape[1:] for spec in model.inputs):
        with named_where_free(model, context):
            load(model).close()


def _written(model: Model, context: Context) -> Model:
    path = context.work / model.path.name
    WRITERS[model.format](model, path, context)
    written = open_model(path)
    return replace(sized(model, written), path=path, digest=written.digest)


freeze = Pass(NAME, Format.ONNX, Format.ONNX, run)
