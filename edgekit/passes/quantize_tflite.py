"""TFLite float → TFLite int8 by the AI Edge Quantizer: int8 weights per channel, int8 activations, float at both ends.

Follows the LiteRT 8-bit quantization specification. The ends stay float so that the model keeps the meaning of its
source; the conversion there costs one QUANTIZE and one DEQUANTIZE.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

from edgekit.errors import ConversionError
from edgekit.model import Format, Model, derived
from edgekit.passes import Context, Feeds, Pass

NAME = "quantize-tflite"
CHUNK = 32
"""Samples in memory at a time; the quantizer wants a list."""


def run(model: Model, context: Context) -> Model:
    """Raises: ConversionError, DataError."""
    from ai_edge_quantizer import quantizer, recipe

    from edgekit import tflite_file

    ends = [{"regex": ".*", "operation": end, "algorithm_key": "no_quantize"} for end in ("INPUT", "OUTPUT")]
    source = tflite_file.with_signature(model.path.read_bytes())
    try:
        with _quiet():
            worker = quantizer.Quantizer(source)
            worker.load_quantization_recipe([*recipe.static_wi8_ai8(), *ends])
            statistics = _calibrate(worker, model, context)
            quantized = worker.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        line = str(error).strip().partition("\n")[0][:300]
        raise ConversionError(
            f"{model.path.name}: the TFLite quantizer failed: {line}", "build with --precision float32"
        ) from error
    result = context.work / f"{model.path.stem}.int8.tflite"
    result.write_bytes(quantized.quantized_model)
    return derived(model, result, NAME)


def _calibrate(worker: Any, model: Model, context: Context) -> Any:
    """Ranges of all tensors, gathered chunk by chunk."""
    statistics, feeds = None, context.feeds(model)
    names = {spec.inner: name for spec, name in zip(model.inputs, _signature_inputs(model), strict=True)}
    while chunk := [_by_signature(feed, names) for feed in islice(feeds, CHUNK)]:
        statistics = worker.calibrate({_signature_key(model): chunk}, statistics, num_threads=2)
    return statistics


def _by_signature(feed: Feeds, names: dict[str, str]) -> Feeds:
    return {names[inner]: array for inner, array in feed.items()}


def _signature_inputs(model: Model) -> list[str]:
    """The names that the signature gives the inputs, in the graph's order."""
    from edgekit import tflite_file

    return [spec.name for spec in tflite_file.read(model.path).inputs]


def _signature_key(model: Model) -> str:
    from ai_edge_litert.interpreter import Interpreter

    from edgekit import tflite_file

    keys = list(Interpreter(model_content=model.path.read_bytes()).get_signature_list())
    return keys[0] if keys else tflite_file.SIGNATURE


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer draws progress bars of its own and warns of the debugging mode that it uses on purpose."""
    silence = contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO())
    with silence[0], silence[1], warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


quantize = Pass(NAME, Format.TFLITE, Format.TFLITE, run, precision="int8")
