"""Keras → TFLite and Keras → ONNX, in a child process: a Keras file names objects that are made when it is loaded.

The child is limited in memory and time, converts, computes what Keras itself gives for a few inputs, and ends;
the conversion must give the same here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, ExtraNotInstalled
from edgekit.model import Format, Model, derived
from edgekit.passes import Context, Pass
from edgekit.passes.proof import PROBES, check_output
from edgekit_runtime.engines import EngineOptions
from edgekit_runtime.tensors import TensorSpec

TIMEOUT_S = 900


def run_tflite(model: Model, context: Context) -> Model:
    """Raises: ExtraNotInstalled, ConversionError."""
    return _convert(model, context, Format.TFLITE)


def run_onnx(model: Model, context: Context) -> Model:
    """Raises: ExtraNotInstalled, ConversionError."""
    return _convert(model, context, Format.ONNX)


def _convert(model: Model, context: Context, form: Format) -> Model:
    for module in ("tensorflow", "tf2onnx") if form is Format.ONNX else ("tensorflow",):
        if find_spec(module) is None:
            raise ExtraNotInstalled(
                f"{model.path.name}: Keras models need {module}", "pip install 'edgekit-sdk[tensorflow]'"
            )
    result = context.work / f"{model.path.stem}.{form.value}"
    order = {"source": str(model.path.resolve()), "result": str(result), "opset": context.target.onnx.opset}
    facts = _child({**order, "ir_version": context.target.onnx.ir_version, "format": form.value, "probes": PROBES})
    names = Model(model.path, Format.KERAS, _specs(facts["inputs"]), _specs(facts["outputs"]), model.digest)
    converted = derived(model, result, f"keras-to-{form.value}", names_of=names)
    _prove(converted, Path(facts["probe"]))
    return converted


def _child(order: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "edgekit.passes.keras_child"]
    try:
        done = subprocess.run(
            command, input=json.dumps(order), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConversionError(f"{order['source']}: not converted within {TIMEOUT_S} s") from error
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2][:400]
        raise ConversionError(f"{Path(order['source']).name}: Keras could not convert it: {last or 'it was killed'}")
    facts: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return facts


def _specs(documents: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(d["name"], d["dtype"], tuple(d["shape"])) for d in documents)


def _prove(model: Model, probe: Path) -> None:
    """Raises: ConversionError when the converted model does not compute what Keras computed."""
    from edgekit_runtime.engines import litert, ort

    load = litert.load if model.format is Format.TFLITE else ort.load
    engine = load(model.path.read_bytes(), EngineOptions(threads=1))
    with np.load(probe, allow_pickle=False) as file:
        for index in range(PROBES):
            feeds = {spec.inner: file[f"in.{index}.{i}"] for i, spec in enumerate(model.inputs)}
            got = engine.run(feeds)
            for o, spec in enumerate(model.outputs):
                check_output(model, spec, file[f"out.{index}.{o}"], got[spec.inner])
    engine.close()


to_onnx = Pass("keras-to-onnx", Format.KERAS, Format.ONNX, run_onnx)
to_tflite = Pass("keras-to-tflite", Format.KERAS, Format.TFLITE, run_tflite)
