"""PyTorch → ONNX and PyTorch → TFLite, in a child process; and a factory with its weights → a program.

The child computes what PyTorch itself gives for a few inputs; the conversion must give the same here. ONNX keeps a free
batch, TFLite has one of 1; axes stay in their order (NCHW stays NCHW). A factory is called without arguments, in the
child; the first calibration sample, preprocessed, is the example that its module is exported with.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError, ExtraNotInstalled
from edgekit.model import Format, Model, derived, open_model
from edgekit.passes import Context, Pass
from edgekit.passes.child import TIMEOUT_S, Child
from edgekit.passes.proof import PROBES
from edgekit.passes.references import prove_by
from edgekit.passes.sizes import left_free, sized
from edgekit_runtime.interface import Interface
from edgekit_runtime.tensors import fits

CONVERTERS = {Format.ONNX: "onnxscript", Format.TFLITE: "litert_torch", Format.TORCH: "safetensors"}
BATCHES = (1, 3)
"""What a free batch is proven with, in turn."""


def run_export(model: Model, context: Context) -> Model:
    """Raises: ExtraNotInstalled, ConversionError, UnsupportedFormat, DataError."""
    order = _order(model, context, Format.TORCH)
    example = Path(f"{order['result']}.example.npz")
    # numpy's savez takes no empty name, and some names for its own arguments
    np.savez(example, **{f"in.{name}": array for name, array in _example(context).items()})  # type: ignore[arg-type]
    _child().answer({**order, "factory": model.factory, "folder": str(Path.cwd()), "example": str(example)})
    return derived(model, Path(order["result"]), "torch-export")


def run_onnx(model: Model, context: Context) -> Model:
    """Raises: ExtraNotInstalled, ConversionError, UnsupportedFormat."""
    return _convert(model, context, Format.ONNX, BATCHES)


def run_tflite(model: Model, context: Context) -> Model:
    """Raises: ExtraNotInstalled, ConversionError, UnsupportedFormat, DataError."""
    converted = _convert(model, context, Format.TFLITE, (1,))
    _check_data(model, converted, context)
    return converted


def _check_data(model: Model, converted: Model, context: Context) -> None:
    """Raises: ConversionError where sizes that the program leaves free are not those of the samples."""
    if error := left_free(model, context):
        sample = next(context.feeds(model))
        pairs = zip(model.inputs, converted.inputs, strict=True)
        if not all(fits(made.shape, sample[spec.inner].shape) for spec, made in pairs):
            raise error


def _convert(model: Model, context: Context, form: Format, batches: tuple[int, ...]) -> Model:
    order, child = _order(model, context, form), _child()
    order["batches"] = [batches[index % len(batches)] for index in range(PROBES)]
    child.answer(order)
    result = Path(order["result"])
    converted = derived(model, result, f"torch-to-{form.value}", names_of=sized(model, open_model(result)))
    prove_by(child, order, converted)
    return converted


def _child() -> Child:
    return Child("PyTorch", "torch_child.py", timeout_s=TIMEOUT_S)


def _order(model: Model, context: Context, form: Format) -> dict[str, Any]:
    """What the child is told. Raises: ExtraNotInstalled without what converts to the format."""
    for module in ("torch", CONVERTERS[form]):
        if find_spec(module) is None:
            missing = module.replace("_", "-")
            raise ExtraNotInstalled(
                f"{model.path.name}: PyTorch models need {missing}", "pip install 'edgekit-sdk[torch]'"
            )
    result = context.work.resolve() / f"{model.path.stem}.{'pt2' if form is Format.TORCH else form.value}"
    return {
        "source": str(model.path.resolve()),
        "result": str(result),
        "probe": f"{result}.probe.npz",
        "format": form.value,
        "inputs": [spec.name for spec in model.inputs],
        "outputs": [spec.name for spec in model.outputs],
        "shapes": [spec.shape for spec in model.inputs],
        "dtypes": [spec.dtype for spec in (*model.inputs, *model.outputs)],
        "opset": context.target.onnx.opset,
        "ir_version": context.target.onnx.ir_version,
    }


def _example(context: Context) -> dict[str, NDArray[Any]]:
    """The first calibration sample as a model takes it, by input name, "" for the only one. Raises: DataError."""
    data, steps = context.calibration(Interface((), (), context.preprocess)), context.preprocess
    arrays, _ = next(data.source.raw(data.role), ({}, None))
    if not arrays:
        raise DataError(f"{data.name}: no {data.role} samples in it", "give at least a few dozen")
    if list(arrays) in ([""], ["x"]):  # as for any model of a single input, whatever that is called
        arrays, steps = {"": next(iter(arrays.values()))}, dict(zip([""], steps.values(), strict=False))
    batched = {name: array[np.newaxis] for name, array in arrays.items()}
    return {n: steps[n].apply(array, "float32") if n in steps else array for n, array in batched.items()}


export = Pass("torch-export", Format.TORCH_MODULE, Format.TORCH, run_export)
to_onnx = Pass("torch-to-onnx", Format.TORCH, Format.ONNX, run_onnx)
to_tflite = Pass("torch-to-tflite", Format.TORCH, Format.TFLITE, run_tflite)
