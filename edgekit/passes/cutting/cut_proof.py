"""Proof that a model without its end, and the postprocess that stands for it, give what the whole model gives.

onnxruntime computes the whole where it loads it. Where it does not, what the postprocess takes is held fast, and ONNX's
reference evaluator computes the end from it: every other operator is the source's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgekit.errors import ConversionError, EngineError
from edgekit.model import Model
from edgekit.passes import Feeds
from edgekit.passes.cutting import nms_reference
from edgekit.passes.proof import PROBES, check_output, load

Whole = Callable[[Feeds, Feeds], Feeds]
"""The outputs of the source, by inner name, from its inputs and from the outputs of what is left of it."""

_FOREIGN = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError)
"""What ONNX's reference evaluator raises."""


def prove(source: Model, result: Model, end: onnx.GraphProto, feeds: Iterable[Feeds]) -> None:
    """Raises: ConversionError, EngineError. ``end``: what was cut, from the outputs of ``result`` and inputs on."""
    engine, interface, whole = load(result), result.interface({}, {}), _whole(source, end)
    for feed in islice(feeds, PROBES):
        raw = engine.run(feed)
        want, got = whole(feed, raw), interface.results(raw)
        for spec in source.outputs:
            check_output(result, spec, want[spec.inner], got[spec.name])
    engine.close()


def _whole(source: Model, end: onnx.GraphProto) -> Whole:
    try:
        engine = load(source)
    except EngineError:
        return _by_reference(source, end)
    return lambda feed, raw: engine.run(feed)


def _by_reference(source: Model, end: onnx.GraphProto) -> Whole:
    document = onnx.load(source.path, load_external_data=False)
    domains = sorted({node.domain for node in end.node if node.op_type == "EfficientNMS_TRT"})
    known = {entry.domain: entry.version for entry in document.opset_import}
    opsets = [helper.make_opsetid(domain, known.get(domain, 1)) for domain in {*known, *domains}]
    whole = helper.make_model(end, opset_imports=opsets)
    given = [value.name for value in end.output]

    def run(feed: Feeds, raw: Feeds) -> Feeds:
        known = {**feed, **raw}
        try:
            evaluator = ReferenceEvaluator(whole, new_ops=[nms_reference.operator(domain) for domain in domains])
            made = evaluator.run(None, {value.name: known[value.name] for value in end.input})
        except _FOREIGN as error:
            line = " ".join(str(error).split())[:200]
            raise ConversionError(
                f"{source.path.name}: nothing here computes its end, to prove it by: {line}"
            ) from error
        return {**raw, **dict(zip(given, made, strict=True))}

    return run


def graph_of(
    nodes: Iterable[onnx.NodeProto], inputs: Iterable[str], outputs: Iterable[str], fixed: Feeds
) -> onnx.GraphProto:
    """The end of a graph, its types left open."""
    ends = [[onnx.ValueInfoProto(name=name) for name in names] for names in (inputs, outputs)]
    return helper.make_graph(
        nodes, "end", *ends, [numpy_helper.from_array(array, name) for name, array in fixed.items()]
    )
