"""Build: from a model and data to the contents of a bundle for a target, or to the reasons why there is none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.building import blame, guard, learning, pack, profile, recipe
from edgekit.building.guard import Verdict
from edgekit.building.lineup import Entry, Lineup
from edgekit.building.measure import Measured
from edgekit.building.order import Order
from edgekit.building.pack import Findings
from edgekit.building.recipe import Recipe
from edgekit.building.workshop import Workshop
from edgekit.bundle import Contents
from edgekit.data.scrutiny import Scrutiny
from edgekit.model import Model
from edgekit.passes import all_passes, head
from edgekit.precision import Precision
from edgekit.target import Target
from edgekit_runtime.manifest import canonical
from edgekit_watch import calibration

FIRST = (Precision.FLOAT32, Precision.INT8)
"""What every build tries; the rest is tried where int8 does not ship, or where it was asked for."""


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
    learned = learning.profile(target, order.learned)
    target = learned.target
    recipes = recipe.plan(source, target, order.precisions or target.precisions, all_passes(), order.formats)
    with tempfile.TemporaryDirectory(prefix="edgekit-build-") as folder, ExitStack() as stack:
        workshop = Workshop(target, order, Path(folder), tell)
        lineup = Lineup(source, workshop, stack, tell)
        lineup.add([each for each in recipes if _goes_first(each, order)])
        scrutiny = lineup.scrutiny()
        choice = _chosen(lineup, recipes, workshop)
        notes = (
            *learned.notes,
            *choice.verdict.notes,
            *_notes(lineup, workshop),
            *_of_rounds(source, order),
            *scrutiny.notes,
            *workshop.unsettled(),
        )
        verdict = Verdict(choice.verdict.ok, (*lineup.failures, *choice.verdict.reasons), notes)
        if choice.index is None:
            blamed = replace(verdict, notes=(*verdict.notes, *_at_fault(lineup, choice.measured, workshop)))
            return Outcome(target, choice.measured, blamed, None)
        entry = lineup.entries[choice.index]
        measured = tuple(replace(each, chosen=index == choice.index) for index, each in enumerate(choice.measured))
        vectors = pack.vectors(lineup.baseline.session, entry.session, lineup.samples(), measured[0].samples)
        findings = Findings(measured, verdict, lineup.explained(entry), scrutiny.manifests)
        contents = pack.contents(source, entry.candidate, order, vectors, findings)
        watched = replace(contents, calibration=_profile(entry, lineup, scrutiny), twin=_twin(entry, lineup, order))
        return Outcome(target, measured, verdict, watched)


def _profile(chosen: Entry, lineup: Lineup, scrutiny: Scrutiny) -> bytes:
    """What the chosen one is fed and answers. Raises: DataError, EngineError."""
    calibrated, evaluated = (
        (lineup.samples(role), scrutiny.manifests[role]["samples"]) for role in ("calibration", "evaluation")
    )
    fed = profile.inputs(chosen.session, chosen.candidate.model, *calibrated)
    return calibration.dump(
        calibration.Calibration(fed, profile.outputs(chosen.session, chosen.candidate.model, *evaluated))
    )


def _twin(chosen: Entry, lineup: Lineup, order: Order) -> tuple[bytes, bytes] | None:
    """The float model in the chosen one's format, and its interface; None unless it is wanted, and another."""
    wanted = (chosen.candidate.recipe.format, Precision.FLOAT32)
    for entry in lineup.entries if order.shadow else ():
        recipe, candidate = entry.candidate.recipe, entry.candidate
        if entry is not chosen and (recipe.format, recipe.precision) == wanted:
            return candidate.model.path.read_bytes(), canonical(candidate.interface.as_dict())
    return None


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
    known = workshop.latency_counts or sum(one.on_devices is not None for one in measured) > 1
    if not order.precisions and known and not order.budget.asks_for_small:
        whole = [one for one in whole if guard.faster(one, measured)]
    broken = [guard.broken(one, measured[0], order.budget, comparable_host=False) for one in whole]
    return any(lines and all(each.float_helps for each in lines) for lines in broken)


def _choice(measured: Sequence[Measured], workshop: Workshop) -> Choice:
    precisions = _precisions(measured, workshop)
    return Choice(tuple(measured), *guard.choose(measured, workshop.order.budget, precisions, workshop.latency_counts))


def _at_fault(lineup: Lineup, measured: Sequence[Measured], workshop: Workshop) -> list[str]:
    """The layers that keep the one that came nearest from the budget."""
    order, precisions = workshop.order, _precisions(measured, workshop)
    near = guard.nearest(measured, order.budget, precisions, workshop.latency_counts)
    if near is None:
        return []
    (entry,) = [each for each in lineup.entries if each.candidate.recipe.name == near.name]
    return blame.of_broken(near, entry.candidate, lineup.explained(entry))


def _notes(lineup: Lineup, workshop: Workshop) -> list[str]:
    """What a person should know of how the candidates were measured, and of the model."""
    clock = [f"latency was measured{workshop.where}"] if workshop.where else []
    ranked = [blame.of_ranking(name, ranking) for name, ranking in lineup.sensitivities.items()]
    return [*clock, *lineup.mixed_scales(), *(line for told in ranked for line in told)]


def _of_rounds(source: Model, order: Order) -> list[str]:
    """Whether what devices learn by its features comes back into the model, where it does not."""
    why = head.unreadable(source) if order.features else ""
    return [f"devices can train on its features by themselves, but in no round: {why}"] if why else []


def _precisions(measured: Sequence[Measured], workshop: Workshop) -> list[str]:
    """What may ship, in order: what was asked for, or of the target's what there is; nobody misses the rest."""
    if workshop.order.precisions:
        return [each.value for each in workshop.order.precisions]
    have, all_of_target = {one.precision for one in measured}, [each.value for each in workshop.target.precisions]
    return [each for each in all_of_target if each in have] or all_of_target
