"""Build: from a model and data to the contents of a bundle for a target, or to the reasons why there is none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.building import guard, pack, recipe
from edgekit.building.guard import Verdict
from edgekit.building.lineup import Lineup
from edgekit.building.measure import Measured
from edgekit.building.order import Order
from edgekit.building.pack import Findings
from edgekit.building.recipe import Recipe
from edgekit.building.workshop import Workshop
from edgekit.bundle import Contents
from edgekit.model import Model
from edgekit.passes import all_passes
from edgekit.precision import Precision
from edgekit.target import Target

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


@dataclass(frozen=True)
class Choice:
    """Which of the measured ones ships, None for none, and why."""

    measured: tuple[Measured, ...]
    index: int | None
    verdict: Verdict

    @property
    def is_int8(self) -> bool:
        return self.index is not None and self.measured[self.index].precision.startswith(Precision.INT8.value)


def build(source: Model, target: Target, order: Order, tell: Callable[[str], None]) -> Outcome:
    """Make the candidates for a target, measure them side by side, and choose one that holds the budget.

    Raises: ModelError for a model of which no candidate can be made, DataError, ConfigError, EngineError.
    """
    order.check_data()
    recipes = recipe.plan(source, target, order.precisions or target.precisions, all_passes(), order.formats)
    with tempfile.TemporaryDirectory(prefix="edgekit-build-") as folder, ExitStack() as stack:
        workshop = Workshop(target, order, Path(folder), tell)
        lineup = Lineup(source, workshop, stack, tell)
        lineup.add([each for each in recipes if _goes_first(each, order)])
        scrutiny = lineup.scrutiny()
        choice = _chosen(lineup, recipes, workshop)
        notes = (*choice.verdict.notes, *_notes(lineup, workshop), *scrutiny.notes, *workshop.unsettled())
        verdict = Verdict(choice.verdict.ok, (*lineup.failures, *choice.verdict.reasons), notes)
        if choice.index is None:
            return Outcome(target, choice.measured, verdict, None)
        entry = lineup.entries[choice.index]
        measured = tuple(replace(each, chosen=index == choice.index) for index, each in enumerate(choice.measured))
        vectors = pack.vectors(lineup.baseline.session, entry.session, lineup.samples(), measured[0].samples)
        findings = Findings(measured, verdict, lineup.explained(entry), scrutiny.manifests)
        return Outcome(target, measured, verdict, pack.contents(source, entry.candidate, order, vectors, findings))


def _goes_first(each: Recipe, order: Order) -> bool:
    """Whether a candidate is made in any case. Which layers a mixed one keeps in float, int8 has to show first."""
    return each.precision is not Precision.MIXED and (bool(order.precisions) or each.precision in FIRST)


def _chosen(lineup: Lineup, recipes: Sequence[Recipe], workshop: Workshop) -> Choice:
    """Among those that are there, or where none of them ships in int8 with those that may help."""
    choice = _choice(lineup.measured(), workshop)
    more = [each for each in recipes if each.name not in lineup.tried and _repairs(each, choice.measured, workshop)]
    if not more or choice.is_int8:
        return choice
    lineup.add(more)
    return _choice(lineup.measured(), workshop)


def _repairs(each: Recipe, measured: Sequence[Measured], workshop: Workshop) -> bool:
    """Whether a candidate that was not made yet may help.

    Mixed precision does where int8 breaks the budget; where something else may ship, only if int8 is not slower than
    float in the first place: layers in float will not make it faster, nor will they make it smaller. Activations of
    16 bits do where those of 8 break it; they are slower in any case.
    """
    order = workshop.order
    if order.precisions and each.precision is not Precision.MIXED:
        return False
    if each.precision not in (Precision.MIXED, Precision.INT16X8):
        return True
    whole = [one for one in measured if one.format == each.format.value and one.precision == Precision.INT8.value]
    if not order.precisions and workshop.latency_counts and not order.budget.asks_for_small:
        whole = [one for one in whole if guard.faster(one, measured)]
    broken = [guard.broken(one, measured[0], order.budget, comparable_host=False) for one in whole]
    return any(lines and all(each.float_helps for each in lines) for lines in broken)


def _choice(measured: Sequence[Measured], workshop: Workshop) -> Choice:
    order = workshop.order
    precisions = [each.value for each in order.precisions or _within(workshop.target.precisions, measured)]
    return Choice(tuple(measured), *guard.choose(measured, order.budget, precisions, workshop.latency_counts))


def _notes(lineup: Lineup, workshop: Workshop) -> list[str]:
    """What a person should know of how the candidates were measured, and of the model."""
    clock = [f"latency was measured{workshop.where}"] if workshop.where else []
    return [*clock, *lineup.mixed_scales(), *_blame(lineup)]


def _within(precisions: Sequence[Precision], measured: Sequence[Measured]) -> tuple[Precision, ...]:
    """The target's precisions as far as there are candidates: what nobody asked for is not missed."""
    have = {one.precision for one in measured}
    return tuple(each for each in precisions if each.value in have) or tuple(precisions)


def _blame(lineup: Lineup) -> list[str]:
    """The layers that harm most when they are quantized."""
    told = []
    for name, ranking in lineup.sensitivities.items():
        if len(ranking) < BLAMED:  # they were not all ranked
            continue
        worst = ", ".join(f"{each.layer} ({each.sqnr_db:.1f} dB)" for each in ranking[:BLAMED])
        told.append(f"{name}: most noise in the outputs comes from {worst}")
    return told
