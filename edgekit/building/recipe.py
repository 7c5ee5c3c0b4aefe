"""Recipe: the passes that lead from a model to one candidate; a plan is all candidates worth trying."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.errors import ConversionError
from edgekit.model import Format, Model
from edgekit.passes import Pass
from edgekit.precision import Precision, Quantization
from edgekit.target import EngineChoice, Target

FLOAT = Precision.FLOAT32


@dataclass(frozen=True)
class Recipe:
    """One candidate: its format, what it computes in, the engines that could run it, and the way to it."""

    format: Format
    quantization: Quantization
    engines: tuple[EngineChoice, ...]
    passes: tuple[Pass, ...]

    @property
    def precision(self) -> Precision:
        return self.quantization.precision

    @property
    def name(self) -> str:
        return f"{self.format.value}-{self.precision.value}"


def plan(
    source: Model,
    target: Target,
    precisions: Sequence[Precision],
    passes: Sequence[Pass],
    wanted: Sequence[Format] = (),
) -> tuple[Recipe, ...]:
    """The recipes for a target, best first; the first is float where the source is, and the measure of the others.

    Unless formats are wanted, a model in one that the target runs stays in it; another comes in all that it runs.
    Raises: ConversionError when the target runs no format that this model can be brought into, or what may ship is not.
    """
    if source.trains and precisions and FLOAT not in precisions:
        asked = ", ".join(each.value for each in precisions)
        raise ConversionError(
            f"{source.path.name}: has training signatures, whose variables cannot be quantized: no {asked}",
            "build it with --precision float32, or export it without them",
        )
    runs = dict.fromkeys(Format(engine.format) for engine in target.engines)
    formats = [form for form in wanted or ([source.format] if source.format in runs else runs) if form in runs]
    recipes = [recipe for form in formats for recipe in _recipes(source, target, form, precisions, passes)]
    if not recipes:
        goal = " or ".join(form.value for form in wanted or runs)
        how, hint = _told(source)
        raise ConversionError(f"{source.path.name}: no way from {how} to {goal} for {target.name}", hint)
    return tuple(recipes)


def _told(source: Model) -> tuple[str, str]:
    """What it is, and what to do where nothing becomes of that."""
    form = source.format.value
    if source.quantized:
        return f"a quantized {form} model", "give the float model that it was made from"
    if source.trains:
        return f"a {form} model with training signatures", "export it without them"
    return form, "export it to ONNX or TFLite"


def _recipes(
    source: Model, target: Target, form: Format, precisions: Sequence[Precision], passes: Sequence[Pass]
) -> list[Recipe]:
    engines = tuple(engine for engine in target.engines if engine.format == form.value)
    if source.quantized:
        return [Recipe(form, Quantization(Precision.INT8), engines, ())] if form is source.format else []
    route = way(source.format, form, passes)
    if route is None or (source.trains and form is not Format.TFLITE):
        return []
    if source.trains:
        return [Recipe(form, Quantization(FLOAT), engines, route)]
    quantizers = {each: (*step.before, step) for step in passes if step.accepts is form for each in step.precisions}
    known: dict[Precision, tuple[Pass, ...]] = {FLOAT: (), **quantizers}
    tried = [each for each in dict.fromkeys([FLOAT, *precisions]) if each in known]
    return [Recipe(form, Quantization(each), engines, (*route, *known[each])) for each in tried]


def way(source: Format, goal: Format, passes: Sequence[Pass]) -> tuple[Pass, ...] | None:
    """The fewest conversions from one format to another; None when there is no way."""
    conversions = [step for step in passes if not step.precisions]
    queue: deque[tuple[Format, tuple[Pass, ...]]] = deque([(source, ())])
    seen = {source}
    while queue:
        form, route = queue.popleft()
        if form is goal:
            return route
        for step in conversions:
            if step.accepts is form and step.produces not in seen:
                seen.add(step.produces)
                queue.append((step.produces, (*route, step)))
    return None
