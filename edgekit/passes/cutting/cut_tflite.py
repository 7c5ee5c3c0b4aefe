"""TFLite whose end is TFLite's own operator for detections → the same without it; the end becomes a postprocess.

On the way to ONNX only: TFLite's engines have the operator, and tf2onnx writes something else for its usual form. What
the operator leaves undefined, the rows behind those that it has found, is 0 in the postprocess.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from edgekit.formats import tflite_file, tflite_graph
from edgekit.model import Model, Tail, derived, open_model
from edgekit.passes import Context, Feeds
from edgekit.passes.cutting.tail_onnx import constant
from edgekit.passes.proof import PROBES, check_output, load
from edgekit_postprocess import Postprocess, Step
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.tensors import TensorSpec

NAME = "cut-tflite"
OPERATOR = "TFLite_Detection_PostProcess"
INPUTS = ("encodings", "scores", "anchors")
FLOAT32 = 0
"""Of LiteRT's TensorType."""


def without_detections(model: Model, context: Context) -> Model | None:
    """None where the model has no such end, or one in integers. Raises: ConversionError, DataError, EngineError."""
    if not _has_one(model.path.read_bytes()):
        return None
    document = tflite_file.unpacked(model.path.read_bytes())
    graph = document.subgraphs[0]
    operator = _last(document, graph)
    if operator is None or any(graph.tensors[index].type != FLOAT32 for index in operator.inputs):
        return None
    step, anchors = _step(operator, model.outputs), _data(document, graph.tensors[operator.inputs[2]])
    graph.operators.remove(operator)
    graph.outputs, document.signatureDefs = list(operator.inputs[:2]), None
    path = context.work / model.path.name
    path.write_bytes(tflite_file.packed(document))
    heads = tuple(replace(spec, name=name) for spec, name in zip(open_model(path).outputs, INPUTS, strict=False))
    postprocess = Postprocess(heads, (step,), {INPUTS[2]: constant(anchors)})
    outputs = tuple(replace(spec, tensor="") for spec in model.outputs)
    tail = Tail(outputs, postprocess, _agreement(outputs))
    result = replace(derived(model, path, NAME), outputs=heads, tail=tail)
    _prove(model, result, step, context.feeds(model))
    return result


def _has_one(data: bytes) -> bool:
    try:
        return any(operator.op == OPERATOR for operator in tflite_graph.read(data).graphs[0].operators)
    except ValueError:  # a damaged file: the converter has said so
        return False


def _last(document: Any, graph: Any) -> Any:
    """The operator, when it gives just what the model gives, in its order."""
    codes = document.operatorCodes
    for operator in graph.operators:
        if codes[operator.opcodeIndex].customCode in (OPERATOR, OPERATOR.encode()):
            return operator if list(operator.outputs) == list(graph.outputs) else None
    return None


def _step(operator: Any, outputs: tuple[TensorSpec, ...]) -> Step:
    told = flexbuffers.Loads(bytes(operator.customOptions))
    attributes = {key: int(each) if isinstance(each, bool) else each for key, each in told.items()}
    names = tuple(spec.name for spec in outputs)
    return Step(OPERATOR, INPUTS, names, {key: each for key, each in attributes.items() if not key.startswith("_")})


def _data(document: Any, tensor: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(bytes(document.buffers[tensor.buffer].data), "<f4").reshape(tensor.shape)


def _agreement(outputs: tuple[TensorSpec, ...]) -> dict[str, Agreement]:
    boxes, classes, scores, count = (spec.name for spec in outputs)
    told = Agreement("boxes", corners="yxyx", scores=scores, classes=classes)
    return {boxes: told, count: Agreement("none")}


def _prove(source: Model, result: Model, step: Step, feeds: Iterable[Feeds]) -> None:
    """Only the rows that are found count. Raises: ConversionError, EngineError."""
    whole, engine, interface = load(source), load(result), result.interface({}, {})
    *tables, count = source.outputs
    each = 1 if step.attributes.get("use_regular_nms") else step.attributes["max_classes_per_detection"]
    for feed in islice(feeds, PROBES):
        want, got = whole.run(feed), interface.results(engine.run(feed))
        check_output(result, count, want[count.inner], got[count.name])
        for spec in tables:
            rows = int(got[count.name][0]) * each
            check_output(result, spec, want[spec.inner][:, :rows], got[spec.name][:, :rows])
