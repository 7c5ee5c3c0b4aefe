"""Quantized ONNX → the form of it that the target's engines take: Q/DQ nodes, or operators of integers (QOperator).

TensorRT reads quantization from Q/DQ nodes only. onnxruntime's CPU kernels take both forms: there one becomes the other
only where ``compat`` refuses it on every release that the target has, and not the other. It comes last in every
recipe, whoever has quantized the model, so it is no entry of a plan; a model that fits stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit import compat
from edgekit.compat import fingerprint_onnx
from edgekit.errors import ConversionError
from edgekit.formats import onnx_file
from edgekit.model import Format, Model, derived
from edgekit.passes import Context, Feeds, Pass
from edgekit.passes.onnx_errors import as_conversion_error
from edgekit.passes.proof import PROBES
from edgekit.passes.qdq_onnx import to_qdq
from edgekit.passes.qoperator_onnx import to_qoperator
from edgekit.passes.qoperators import MOVING
from edgekit.target import EngineChoice, OnnxForm, Target
from edgekit_runtime.engines import EngineOptions, ort

NAME, TO_QDQ, TO_QOPERATOR = "fit-quantized", "qoperator-to-qdq", "qdq-to-qoperator"
TENSORRT = "TensorrtExecutionProvider"
PER_CHANNEL_OPSET = 13
"""The first opset whose Q/DQ nodes have a scale per channel."""
BEHIND = 0.01
"""How far an output that is computed in float from the last integers may be off, as a share of its span."""


def fit(model: Model, context: Context) -> Model:
    """Raises: UnsupportedFormat, DataError, EngineError, ConversionError where the other form gives something else."""
    if model.format is not Format.ONNX or not model.quantized:
        return model
    document = onnx_file.load(model.path)
    repaired = _repaired(model, document, context.target)
    if repaired is None:
        return model
    step, made = repaired
    path = context.work / f"{model.path.stem}.onnx"
    onnx.save(made, path)
    result = derived(model, path, step)
    _prove(result, document, made, context)
    return result


def _repaired(model: Model, document: onnx.ModelProto, target: Target) -> tuple[str, onnx.ModelProto] | None:
    """The model in another form, and the step that made it; None where it is to stay."""
    engines = [engine for engine in target.engines if engine.format == Format.ONNX.value]
    if any(TENSORRT in engine.providers for engine in engines):
        with as_conversion_error(model, "opset converter"):
            made = _qdq(document, target.onnx)
        return (TO_QDQ, made) if len(made.graph.node) > len(document.graph.node) else None
    for step, write in WRITERS.items() if _refused(document, engines) else ():
        with suppress(ConversionError), as_conversion_error(model, step):  # then it stays refused
            made = write(document, target.onnx)
            if not _refused(made, engines):
                return step, made
    return None


def _refused(document: onnx.ModelProto, engines: Sequence[EngineChoice]) -> bool:
    found = fingerprint_onnx.of_model(document)
    return all(compat.within(found, each.name, each.version).answer == "refused" for each in engines)


def _qdq(document: onnx.ModelProto, form: OnnxForm) -> onnx.ModelProto:
    made = to_qdq(document)
    if onnx_file.opset(made) < PER_CHANNEL_OPSET:
        made = onnx.version_converter.convert_version(made, form.opset)
    onnx_file.drop_unused_opsets(made)
    return made


WRITERS: dict[str, Callable[[onnx.ModelProto, OnnxForm], onnx.ModelProto]] = {
    TO_QOPERATOR: to_qoperator,
    TO_QDQ: _qdq,
}


def _prove(model: Model, before: onnx.ModelProto, after: onnx.ModelProto, context: Context) -> None:
    source, made = (ort.load(each.SerializeToString(), EngineOptions()) for each in (before, after))
    steps = output_steps(before)
    for feeds in islice(context.feeds(model), PROBES):
        _check(model, steps, source.run(feeds), made.run(feeds))


def _check(model: Model, steps: dict[str, float], want: Feeds, got: Feeds) -> None:
    for spec in model.outputs:
        one, other = (given[spec.inner].astype(np.float64) for given in (want, got))
        error = float(np.max(np.abs(one - other), initial=0.0)) if one.shape == other.shape else np.inf
        allowed = steps.get(spec.inner) or max(BEHIND * float(np.ptp(one) if one.size else 0.0), 1e-6)
        if not error <= allowed * 1.001:
            raise ConversionError(
                f"{model.path.name}: output {spec.name} is off by {error:.3g}, more than a step ({allowed:.3g})",
                "give the float model that it was made from",
            )


def output_steps(document: onnx.ModelProto) -> dict[str, float]:
    """One step of the integers that an output is made of, in its units; none for what floats are computed behind."""
    weights = {tensor.name: tensor for tensor in document.graph.initializer}
    makers = {name: node for node in document.graph.node for name in node.output}
    steps = {}
    for output in document.graph.output:
        maker = makers.get(output.name)
        while maker is not None and maker.op_type in MOVING:
            maker = makers.get(maker.input[0])
        if output.type.tensor_type.elem_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8):
            steps[output.name] = 1.0
        elif maker is not None and maker.op_type == "DequantizeLinear" and maker.input[1] in weights:
            steps[output.name] = float(np.max(numpy_helper.to_array(weights[maker.input[1]])))
    return steps


fit_quantized = Pass(NAME, Format.ONNX, Format.ONNX, fit)
