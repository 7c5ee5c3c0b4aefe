"""ONNX whose end no engine can load → the same without it; the end becomes a postprocess in numpy.

That is how detectors are exported: the suppression of boxes comes last, by an operator of one engine alone. What is cut
is the first such operator and all that is computed from what it gives. What comes of it is proven (``cut_proof``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import onnx
from onnx import helper

from edgekit import compat
from edgekit.compat import fingerprint_onnx
from edgekit.errors import ConversionError, EngineError
from edgekit.formats import onnx_file
from edgekit.model import Format, Model, Tail, derived, open_model
from edgekit.passes import Context, Feeds, Pass
from edgekit.passes.cutting import cut_proof, part_onnx, tail_onnx
from edgekit.passes.cutting.tail_onnx import Without
from edgekit.passes.onnx_errors import as_conversion_error
from edgekit.passes.proof import load
from edgekit_postprocess import Postprocess, Step
from edgekit_runtime.agreement import Agreement

NAME = "cut-onnx"
DETECTIONS = "EfficientNMS_TRT"
SUPPRESSION = ("", "NonMaxSuppression")
Op = tuple[str, str]
"""Domain and name."""


@dataclass(frozen=True)
class Cut:
    """The model without its ``end``; that takes ``heads``, which the rest gives, and what is ``fixed``."""

    rest: onnx.ModelProto
    end: Sequence[onnx.NodeProto]
    heads: Sequence[str]
    fixed: Feeds


def run(model: Model, context: Context) -> Model:
    """The same model where it loads. Raises: ConversionError, DataError, EngineError."""
    if model.format is not Format.ONNX:
        return model
    document = onnx_file.load(model.path)
    starts = _refused(document)
    return model if not starts or _loads(model) else cut(model, document, starts, context)


def without_suppression(model: Model, context: Context) -> Model | None:
    """A model that loads, without its suppression of boxes and what is behind it, for a format that has no form of it;
    None where there is no such end, or no postprocess for it. Raises: ConversionError, DataError, EngineError.
    """
    document = onnx_file.load(model.path)
    end = tail_onnx.behind(document.graph, {SUPPRESSION})
    return cut(model, document, {SUPPRESSION}, context) if end and not tail_onnx.steps(end)[1] else None


def cut(model: Model, document: onnx.ModelProto, starts: Collection[Op], context: Context) -> Model:
    """The model without the operators of these names and what is behind them.

    Raises: ConversionError where what is behind has no form in numpy, or gives something else; DataError, EngineError.
    """
    end = tail_onnx.behind(document.graph, starts)
    steps, missing = tail_onnx.steps(end)
    if missing:
        raise _impossible(model, end[0], missing[0])
    with as_conversion_error(model, "loading of what is left without its end"):
        made = _cut(document, end)
    path = context.work / f"{model.path.stem}.onnx"
    onnx.save(made.rest, path)
    written = replace(derived(model, path, NAME), outputs=open_model(path).outputs)
    tail = Tail(model.outputs, _postprocess(model, made, written, steps), _agreement(model, steps))
    result = replace(written, tail=tail)
    cut_proof.prove(model, result, _end(document, made), context.feeds(model))
    return replace(result, tail=_joined(tail, model)) if model.tail else result


def _refused(document: onnx.ModelProto) -> set[Op]:
    """The operators that no release of onnxruntime loads, whatever the operator set."""
    found = fingerprint_onnx.of_model(document)
    alone = {each: replace(found, operators=(each,), ir_version=0, opsets=(), custom=()) for each in found.operators}
    verdicts = {each: compat.within(one, "onnxruntime", "") for each, one in alone.items()}
    return {(each.domain, each.name) for each, verdict in verdicts.items() if verdict.answer == "refused"}


def _loads(model: Model) -> bool:
    try:
        load(model).close()
    except EngineError:
        return False
    return True


def _impossible(model: Model, first: onnx.NodeProto, missing: Without) -> ConversionError:
    before = ", ".join(filter(None, first.input)) or "its inputs"
    what = f"{model.path.name}: no engine loads {_label(first)}"
    other = "with other types or operators" if first.domain in ("", "ai.onnx") else "with ONNX's own operators"
    hint = f"export the model up to {before}, or write {first.op_type} {other}"
    if missing.node is first:
        return ConversionError(f"{what}, and there is no postprocess for it: {missing.why}", hint)
    return ConversionError(f"{what}, and no postprocess goes on with {_label(missing.node)}: {missing.why}", hint)


def _label(node: onnx.NodeProto) -> str:
    op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"{op} (node {node.name or next(filter(None, node.output), '')!r})"


def _cut(document: onnx.ModelProto, end: Sequence[onnx.NodeProto]) -> Cut:
    made, fixed = {name for node in end for name in node.output}, part_onnx.fixed(document.graph)
    kept = [value.name for value in document.graph.output]
    taken = dict.fromkeys([*kept, *(name for node in end for name in node.input if name)])
    heads = [name for name in taken if name not in made | fixed]
    whole = onnx.ModelProto()
    whole.CopyFrom(document)
    given = [name for name in heads if name in {value.name for value in document.graph.input}]
    whole.graph.node.extend(helper.make_node("Identity", [name], [_given(name)]) for name in given)
    rest = part_onnx.with_outputs(whole, [_given(name) if name in given else name for name in heads])
    return Cut(rest, end, heads, part_onnx.values(document, [name for name in taken if name in fixed - made]))


def _given(name: str) -> str:
    """An input of the model as one of its outputs."""
    return f"{name}_given"


def _postprocess(model: Model, made: Cut, written: Model, steps: Sequence[Step]) -> Postprocess:
    heads = zip(made.heads, written.outputs, strict=True)
    again = [Step("Identity", (spec.name,), (name,)) for name, spec in heads if spec.name != name]
    try:
        constants = {name: tail_onnx.constant(array) for name, array in made.fixed.items()}
        found = Postprocess(written.outputs, (*again, *steps), constants)
        found.check()
    except ValueError as error:
        raise _impossible(model, made.end[0], Without(made.end[0], str(error))) from error
    return found


def _end(document: onnx.ModelProto, made: Cut) -> onnx.GraphProto:
    outputs = {name for node in made.end for name in node.output}
    given = [value.name for value in document.graph.output if value.name in outputs]
    return cut_proof.graph_of(made.end, made.heads, given, made.fixed)


def _agreement(model: Model, steps: Sequence[Step]) -> dict[str, Agreement]:
    """Detections are compared as such where the operator that gives them tells which output is what."""
    names = {spec.inner: spec.name for spec in model.outputs}
    for step in steps:
        if step.op == DETECTIONS and set(step.outputs[1:]) <= names.keys():
            count, boxes, scores, classes = (names.get(name, "") for name in step.outputs)
            told = {boxes: Agreement("boxes", scores=scores, classes=classes)}
            return {**told, **({count: Agreement("none")} if count else {})}
    return {}


def _joined(tail: Tail, model: Model) -> Tail:
    """What is cut now, and then what was cut before."""
    if model.tail is None:
        return tail
    before, after = tail.postprocess, model.tail.postprocess
    names = [Step("Identity", (spec.inner,), (spec.name,)) for spec in model.outputs if spec.inner != spec.name]
    steps, constants = (*before.steps, *names, *after.steps), {**before.constants, **after.constants}
    return replace(model.tail, postprocess=Postprocess(before.takes, steps, constants))


cut_onnx = Pass(NAME, Format.ONNX, Format.ONNX, run)
