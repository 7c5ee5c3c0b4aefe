"""Float → float, for int8: what the normalization of one colour differs from that of another by goes into the weights.

Exact within the image; a convolution that pads it misses, at the border, the small offset between a colour's own mean
and the common one. What that costs is measured: a model of which it costs too much stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from edgekit.model import Format, Model, derived
from edgekit.passes import Context, Pass, colours_onnx, colours_tflite
from edgekit.precision import Precision
from edgekit.quantization import folding
from edgekit.quantization.fidelity import Reference
from edgekit.quantization.folding import Rest
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session

ENOUGH_DB = 35.0
"""What the outputs have to keep. Of pretrained models, int8 left 20 to 30 dB, one 37: the border then costs less than
rounding, which costs nothing at the input any more."""
PRECISIONS = (Precision.INT8, Precision.MIXED)
"""Those whose inputs have 8 bits, as pixels do."""
ENGINES = {Format.ONNX: "onnxruntime", Format.TFLITE: "litert"}
Writer = Callable[[Path, Path, Mapping[str, tuple[int, Rest]]], bool]
"""Writes the model of one path to another, with the rests of inputs, by inner name and with the axis of the colours,
in its weights; False where anything but a convolution takes them."""
WRITERS: dict[Format, Writer] = {Format.ONNX: colours_onnx.write, Format.TFLITE: colours_tflite.write}


def run(model: Model, context: Context) -> Model:
    """The same model where nothing is to be folded, or not well enough. Raises: DataError, EngineError."""
    rests = _rests(model, context)
    path = context.work / model.path.name
    if not rests or not WRITERS[model.format](model.path, path, rests):
        return model
    folded = derived(model, path, folding.COLOURS)
    kept = _kept_db(model, folded, context)
    if kept >= ENOUGH_DB:
        return folded
    context.tell(f"{model.path.name}: normalization stays with the device: in the weights it leaves {kept:.1f} dB")
    return model


def before(precision: Precision) -> tuple[Pass, ...]:
    """What comes last before a quantizer; it is no entry of a plan."""
    return (fold_colours,) if precision in PRECISIONS else ()


def _rests(model: Model, context: Context) -> dict[str, tuple[int, Rest]]:
    if model.quantized or model.format not in WRITERS or not _takes_pixels(model, context):
        return {}
    found = {}
    for spec in model.inputs:
        step = context.preprocess.get(spec.name)
        even = folding.evened(step) if step else None
        if step and even:
            found[spec.inner] = (1 if step.layout == "NCHW" else len(spec.shape) - 1, folding.rest(step, even))
    return found


def _takes_pixels(model: Model, context: Context) -> bool:
    """Whether its quantized inputs could: TensorRT's are signed and symmetric, TFLite's all of one kind."""
    if model.format is Format.ONNX:
        return context.target.onnx.activation == "uint8"
    declared = (context.preprocess.get(spec.name) for spec in model.inputs)
    return all(step and folding.pixel_range(folding.evened(step) or step) for step in declared)


def _kept_db(model: Model, folded: Model, context: Context) -> float:
    """What the outputs keep over calibration samples, as a signal-to-noise ratio."""
    with _session(model, context) as session:
        reference = Reference.of(session, context.calibration(session.interface))
    with _session(folded, context) as session:
        return reference.sqnr_db(session)


def _session(model: Model, context: Context) -> Session:
    return Session(model.path.read_bytes(), context.interface(model), [EngineNeed(ENGINES[model.format])])


fold_colours = Pass(folding.COLOURS, Format.ONNX, Format.ONNX, run)
