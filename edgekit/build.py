"""Build: from a model and data to the contents of a bundle for a target, or to the reasons why there is none."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit import guard, pack, recipe
from edgekit.bundle import Contents
from edgekit.guard import Verdict
from edgekit.lineup import Lineup
from edgekit.measure import Measured
from edgekit.model import Model
from edgekit.order import Order
from edgekit.pack import Findings
from edgekit.passes import all_passes
from edgekit.quantization import Precision
from edgekit.recipe import Recipe
from edgekit.target import Target
from edgekit.workshop import Workshop

FIRST = (Precision.FLOAT32, Precision.INT8)
"""What every build tries; the rest is tried where int8 does not ship, or where it was asked for."""
BLAMED = 3


@dataclass(frozen=True)
class Outcome:
    """What came of a build: all candidates as measured, the baseline first; no contents when the verdict is no."""

    target: Target
    measured: tuple[Measured, ...]
    verdict: Verdict
    contents: Contents | None


def build(source: Model, target: Target, order: Order, tell: Callable[[str], None]) -> Outcome:
    """Make the candidates for a target, measure them side by side, and choose one that holds the budget.

    Raises: ModelError for a model of which no candidate can be made, DataError, ConfigError, EngineError.
    """
    order.check_data()
    wanted = order.precisions or target.precisions
    recipes = recipe.plan(source, target, wanted, all_passes(), order.formats)
    first = [each for each in recipes if order.precisions or each.precision in FIRST]
    with tempfile.TemporaryDirectory(prefix="edgekit-build-") as folder, ExitStack() as stack:
        workshop = Workshop(target, order, Path(folder), tell)
        lineup = Lineup(source, workshop, stack, tell)
        lineup.add([each for each in first if each.precision is not Precision.MIXED])
        scrutiny = lineup.scrutiny()
        measured = lineup.measured()
        chosen, verdict = _choose(lineup, measured, target, order)
        more = [each for each in recipes if _repairs(each, measured, order, _same_host(target, order))]
        if more and (chosen is None or not measured[chosen].precision.startswith("int8")):
            lineup.add(more)
            measured = lineup.measured()
            chosen, verdict = _choose(lineup, measured, target, order)
        layers = [] if chosen is None else lineup.explained(chosen)
        verdict = replace(verdict, notes=(*verdict.notes, *scrutiny.notes, *workshop.unsettled()))
        if chosen is None:
            return Outcome(target, tuple(measured), verdict, None)
        measured[chosen] = replace(measured[chosen], chosen=True)
        sessions, samples = lineup.sessions, lineup.samples()
        vectors = pack.vectors(sessions[0], sessions[chosen], samples, measured[0].samples)
        findings = Findings(measured, verdict, layers, scrutiny.manifests)
        contents = pack.contents(source, lineup.candidates[chosen], order, vectors, findings)
    return Outcome(target, tuple(measured), verdict, contents)


def _repairs(each: Recipe, measured: Sequence[Measured], order: Order, same_host: bool) -> bool:
    """Whether a candidate that was not made yet may help.

    Mixed precision does where int8 breaks the budget; where something else may ship, only if int8 is not slower than
    float in the first place: layers in float will not make it faster, nor will they make it smaller.
    """
    if each.name in [one.name for one in measured]:
        return False
    if each.precision is not Precision.MIXED:
        return not order.precisions
    whole = [one for one in measured if one.format == each.format.value and one.precision == Precision.INT8.value]
    if not order.precisions and same_host and order.budget.max_size_mib is None:
        whole = [one for one in whole if guard.faster(one, measured)]
    broken = [guard.broken(one, measured[0], order.budget, comparable_host=False) for one in whole]
    return any(lines and all(each.line != "max_size_mib" for each in lines) for lines in broken)


def _same_host(target: Target, order: Order) -> bool:
    """Whether latencies are those of the target."""
    return order.clock is not None or platform.machine() == target.arch


def _choose(lineup: Lineup, measured: Sequence[Measured], target: Target, order: Order) -> tuple[int | None, Verdict]:
    precisions = [each.value for each in order.precisions or _within(target.precisions, measured)]
    chosen, verdict = guard.choose(measured, order.budget, precisions, _same_host(target, order))
    clock = [f"latency was measured on {order.clock.device}"] if order.clock else []
    notes = (*verdict.notes, *clock, *lineup.mixed_scales(), *_blame(lineup))
    return chosen, replace(verdict, reasons=(*lineup.failures, *verdict.reasons), notes=notes)


def _within(precisions: Sequence[Precision], measured: Sequence[Measured]) -> tuple[Precision, ...]:
    """The target's precisions as far as there are candidates: what nobody asked for is not missed."""
    have = {one.precision for one in measured}
    return tuple(each for each in precisions if each.value in have) or tuple(precisions)


def _blame(lineup: Lineup) -> list[str]:
    """The layers that harm most when they are quantized."""
    told = []
    for name, ranking in lineup.sensitivities.items():
        worst = ", ".join(f"{each.layer} ({each.sqnr_db:.1f} dB)" for each in ranking[:BLAMED])
        told.append(f"{name}: most noise in the outputs comes from {worst}")
    return told
