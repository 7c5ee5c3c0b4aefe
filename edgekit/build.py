"""Build: from a model and data to the contents of a bundle for a target, or to the reasons why there is none."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit import guard, pack, recipe
from edgekit.bundle import Contents
from edgekit.errors import ConversionError, EdgekitError, EngineError
from edgekit.guard import Measured, Tally, Verdict
from edgekit.model import Model
from edgekit.order import Order
from edgekit.passes import all_passes
from edgekit.recipe import Recipe
from edgekit.target import Target
from edgekit.workshop import Candidate, Workshop
from edgekit_runtime.interface import Interface
from edgekit_runtime.session import Session


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
    recipes = recipe.plan(source, target, order.precisions or target.precisions, all_passes())
    with tempfile.TemporaryDirectory(prefix="edgekit-build-") as folder, ExitStack() as stack:
        workshop = Workshop(target, order, Path(folder))
        made, sessions, failed = _made(source, recipes, workshop, stack, tell)
        samples = order.dataset("evaluation", sessions[0].interface)
        tell(f"{target.name}: measuring")
        tallies = guard.measure(sessions, samples)
        measured = [_measured(*parts) for parts in zip(made, sessions, tallies, strict=True)]
        precisions = order.precisions or _within(target.precisions, made)
        chosen, verdict = guard.choose(measured, order.budget, precisions, platform.machine() == target.arch)
        verdict = replace(verdict, reasons=(*failed, *verdict.reasons))
        if chosen is None:
            return Outcome(target, tuple(measured), verdict, None)
        measured[chosen] = replace(measured[chosen], chosen=True)
        vectors = pack.vectors(sessions[0], sessions[chosen], samples, tallies[0].samples)
        contents = pack.contents(source, made[chosen], target, order, vectors, measured, verdict)
    return Outcome(target, tuple(measured), verdict, contents)


def _made(
    source: Model, recipes: Sequence[Recipe], workshop: Workshop, stack: ExitStack, tell: Callable[[str], None]
) -> tuple[list[Candidate], list[Session], list[str]]:
    """The candidates that could be made, sessions of them, and why others could not.

    Without a float candidate of a format there is no other of that format. Raises: the first error when none was made.
    """
    made, sessions, failed = list[Candidate](), list[Session](), dict[Recipe, EdgekitError]()
    for each in recipes:
        if any(other.format is each.format and other.precision == recipe.FLOAT for other in failed):
            continue
        tell(f"{workshop.target.name}: making {each.name}")
        try:
            candidate = workshop.make(source, each)
            sessions.append(stack.enter_context(_session(candidate, workshop.target, workshop.order)))
            made.append(candidate)
        except (ConversionError, EngineError) as error:
            failed[each] = error
    if not made:
        raise next(iter(failed.values()))
    return made, sessions, [f"{each.name}: {error.message}" for each, error in failed.items()]


def _within(precisions: Sequence[str], made: Sequence[Candidate]) -> tuple[str, ...]:
    """The target's precisions as far as there are candidates: what nobody asked for is not missed."""
    have = {candidate.recipe.precision for candidate in made}
    return tuple(precision for precision in precisions if precision in have) or tuple(precisions)


def _session(candidate: Candidate, target: Target, order: Order) -> Session:
    """As on the device, but with no more threads than this host has cores."""
    interface = Interface(candidate.model.inputs, candidate.model.outputs, order.preprocess)
    threads = min(target.threads, os.cpu_count() or 1)
    return Session(candidate.model.path.read_bytes(), interface, pack.needs(candidate.recipe.engines, threads))


def _measured(candidate: Candidate, session: Session, tally: Tally) -> Measured:
    return Measured(
        name=candidate.recipe.name,
        format=candidate.recipe.format.value,
        engine=session.engine.name,
        precision=candidate.recipe.precision,
        size_bytes=candidate.model.size,
        samples=tally.samples,
        agreement=tally.agree / tally.samples,
        accuracy=tally.accuracy,
        max_abs_error=tally.max_abs_error,
        latency_ms=tally.latency_ms,
    )
