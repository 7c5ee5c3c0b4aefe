"""TFLite float → TFLite quantized, by the AI Edge Quantizer: int8 weights per channel, float at both ends.

Follows the LiteRT 8-bit quantization specification. The ends stay float so that the model keeps the meaning of its
source; the conversion there costs one QUANTIZE and one DEQUANTIZE. Inputs that are normalized pixels are the exception:
they become int8 pixels (``folding``). The ranges are edgekit's (``calibration``): the
quantizer's own are a moving average, which forgets the samples that came first.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.model import Format, Model, derived
from edgekit.passes import Context, Pass, bias_tflite
from edgekit.precision import Precision, Quantization
from edgekit.quantization.calibration import Range

NAME = "quantize-tflite"
MOVING = frozenset(
    {"DELEGATE", "EXPAND_DIMS", "GATHER", "MAX_POOL_2D", "PACK", "PAD", "PADV2", "RELU", "RELU6", "RESHAPE", "SHAPE"}
    | {"SLICE", "SPLIT", "SPLIT_V", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE", "UNPACK"}
)


def run(model: Model, context: Context) -> Model:
    """Raises: ConversionError, DataError."""
    from ai_edge_quantizer import quantizer

    from edgekit.formats import tflite_file

    wanted = context.quantization
    folded = len(context.pixel_ranges(model)) == len(model.inputs)  # the recipe has one entry for all inputs
    source, ranges = tflite_file.with_signature(model.path.read_bytes()), None
    if wanted.precision.calibrated:
        source = bias_tflite.correct(source, context.means(model), wanted.float_layers)
        ranges = _statistics(context.ranges(model))
    try:
        with _quiet():
            worker = quantizer.Quantizer(source)
            worker.load_quantization_recipe(_recipe(wanted, folded))
            quantized = worker.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        line = str(error).strip().partition("\n")[0][:300]
        raise ConversionError(
            f"{model.path.name}: the TFLite quantizer failed: {line}", "build with --precision float32"
        ) from error
    result = context.work / f"{model.path.stem}.{wanted.precision.value}.tflite"
    result.write_bytes(tflite_file.packed(tflite_file.unpacked(bytes(quantized.quantized_model))))
    return derived(model, result, NAME)


def layers(model: Model) -> dict[str, str]:
    """The operators, in the order of computation, by the name of what each gives, which is also their own.

    Those that only move numbers about follow the ones before them.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model.path.read_bytes())
    names = {detail["index"]: detail["name"] for detail in interpreter.get_tensor_details()}
    computing = (op for op in interpreter._get_ops_details() if len(op["outputs"]) and op["op_name"] not in MOVING)
    return {names[op["outputs"][0]]: names[op["outputs"][0]] for op in computing}


def _recipe(wanted: Quantization, raw_inputs: bool) -> list[dict[str, Any]]:
    """A later entry wins over an earlier one."""
    from ai_edge_quantizer import recipe, recipe_manager

    half = recipe_manager.RecipeManager()
    half.add_weight_only_config(".*", recipe.TFLOperationName.ALL_SUPPORTED, 16, algorithm_key="float_casting")
    recipes = {
        Precision.INT8: recipe.static_wi8_ai8,
        Precision.MIXED: recipe.static_wi8_ai8,
        Precision.INT16X8: recipe.static_wi8_ai16,
        Precision.DYNAMIC: recipe.dynamic_wi8_afp32,
        Precision.WEIGHTS: recipe.weight_only_wi8_afp32,
        Precision.FLOAT16: half.get_quantization_recipe,
    }
    ends = [_left(".*", end) for end in (["OUTPUT"] if raw_inputs else ["INPUT", "OUTPUT"])]
    kept = [_left(f"^{re.escape(name)};?$", "*") for name in sorted(wanted.float_layers)]
    return [*recipes[wanted.precision](), *ends, *kept]


def _left(regex: str, operation: str) -> dict[str, Any]:
    return {"regex": regex, "operation": operation, "algorithm_key": "no_quantize"}


def _statistics(ranges: Mapping[str, Range]) -> dict[str, dict[str, Any]]:
    """As the quantizer keeps them: the ends of a tensor, with as many axes as any tensor may have."""
    return {
        name: {"min": np.full((1, 1), low, np.float32), "max": np.full((1, 1), high, np.float32)}
        for name, (low, high) in ranges.items()
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer draws progress bars of its own and warns of the debugging mode that it uses on purpose."""
    silence = contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO())
    with silence[0], silence[1], warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


PRECISIONS = (
    Precision.INT8,
    Precision.MIXED,
    Precision.INT16X8,
    Precision.DYNAMIC,
    Precision.WEIGHTS,
    Precision.FLOAT16,
)

quantize = Pass(NAME, Format.TFLITE, Format.TFLITE, run, PRECISIONS, layers=layers)
