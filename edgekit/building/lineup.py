"""Lineup: the candidates of one build, open side by side, and what came of those that could not be made."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from edgekit.advice.experience import Source
from edgekit.building import explain, guard, learning, measure, memory, pack
from edgekit.building.candidate import Candidate
from edgekit.building.guard import Verdict
from edgekit.building.latency import UNTIMED, Latency, latency_of
from edgekit.building.learning import OnDevices
from edgekit.building.measure import Measured, Tally
from edgekit.building.mixing import Baseline, Mixing
from edgekit.building.pack import Findings
from edgekit.building.recipe import FLOAT, Recipe
from edgekit.building.workshop import Workshop
from edgekit.bundle import Contents
from edgekit.data.dataset import Dataset
from edgekit.data.scrutiny import Scrutiny, scrutinize
from edgekit.errors import ConversionError, EdgekitError, EngineError
from edgekit.model import Model
from edgekit.precision import Calibrator, Precision
from edgekit.quantization import scales
from edgekit.quantization.mixed import Sensitivity
from edgekit_runtime.session import Session
from edgekit_runtime.timing import in_turns

LONGEST_S = 1.0
"""A candidate is timed for about so long, or for as many calls as ``in_turns`` makes."""


@dataclass
class Entry:
    """A candidate with its session, and what it showed so far."""

    candidate: Candidate
    session: Session
    latency: Latency = UNTIMED
    tally: Tally | None = None
    memory_mib: float | None = None

    @property
    def measured(self) -> Measured:
        found = measure.measured(self.candidate, self.session, self.tally or Tally(), self.latency)
        return replace(found, memory_mib=self.memory_mib)


class Lineup:
    """``entries``, the baseline first; ``sensitivities`` by a mixed candidate's name."""

    def __init__(self, source: Model, workshop: Workshop, stack: ExitStack, tell: Callable[[str], None]) -> None:
        self.entries: list[Entry] = []
        self.sensitivities: dict[str, tuple[Sensitivity, ...]] = {}
        self._source, self._workshop, self._stack, self._tell = source, workshop, stack, tell
        self._failed: dict[Recipe, EdgekitError] = {}

    @property
    def failures(self) -> list[str]:
        return [f"{recipe.name}: {error.message}" for recipe, error in self._failed.items()]

    @property
    def tried(self) -> set[str]:
        """The names of all candidates, also of those that could not be made or were left out."""
        return {recipe.name for recipe in (*self._failed, *(entry.candidate.recipe for entry in self.entries))}

    @property
    def baseline(self) -> Entry:
        return self.entries[0]

    def add(self, recipes: Sequence[Recipe]) -> None:
        """Make and open what can be made. Without a float candidate of a format there is no other of that format.

        Raises: the first error when nothing was made.
        """
        for recipe in recipes:
            if any(other.format is recipe.format and other.precision is FLOAT for other in self._failed):
                continue
            self._tell(f"{self._workshop.target.name}: making {recipe.name}")
            try:
                candidate = self._make(recipe)
                self.entries.append(Entry(candidate, self._stack.enter_context(self._workshop.session(candidate))))
            except (ConversionError, EngineError) as error:
                self._failed[recipe] = error
        if not self.entries:
            raise next(iter(self._failed.values()))

    def samples(self, role: str = "evaluation") -> Dataset:
        """The samples, as the baseline takes them."""
        return self._workshop.samples(role, self.baseline.session.interface)

    def scrutiny(self) -> Scrutiny:
        """What the data are, and what looks wrong with them. Raises: DataError, EngineError."""
        self._tell(f"{self._workshop.target.name}: looking at the data")
        with self._workshop.session(self.baseline.candidate, threads=1) as session:
            return scrutinize(session, self.samples("calibration"), self.samples())

    def measured(self) -> list[Measured]:
        """All candidates: timed in turns, each time anew, then run on the evaluation data, once each.

        One that does not run where it is timed, or is far slower there than float, is a candidate no more.
        Raises: DataError, EngineError, ModelError, TransportError.
        """
        self._time()
        self._leave_out_far_slower()
        new = [entry for entry in self.entries if entry.tally is None]
        if new:
            self._evaluate(new)
            self._weigh(new)
        return [replace(entry.measured, on_devices=self._on_devices(entry)) for entry in self.entries]

    def _on_devices(self, entry: Entry) -> OnDevices | None:
        """What devices of the target are expected to take."""
        known = [each for each in self._workshop.order.learned if each.target == self._workshop.target.name]
        of = Source(self._source.digest, self.baseline.latency.p50)
        return learning.on_devices(known, entry.candidate.recipe.name, entry.session.engine.name, of)

    def _time(self) -> None:
        """Raises: EngineError when the baseline does not run, TransportError."""
        self._tell(f"{self._workshop.target.name}: timing{self._workshop.where}")
        for entry, times in zip(list(self.entries), self._times(), strict=True):
            if not isinstance(times, EdgekitError):
                entry.latency = latency_of(times)
            elif entry is self.baseline:
                raise times
            else:
                self._leave_out(entry, times)

    def _times(self) -> list[Sequence[int] | EdgekitError]:
        """Nanoseconds of each call of each candidate, on the order's device or on this host."""
        if self._workshop.order.clock:
            return self._workshop.order.clock([self._contents(entry) for entry in self.entries])
        inputs = [sample.inputs for sample in islice(self.samples(), pack.VECTORS)]
        sessions = {entry.candidate.recipe.name: entry.session for entry in self.entries}
        return list(in_turns(sessions, dict.fromkeys(sessions, inputs), LONGEST_S).values())

    def _contents(self, entry: Entry) -> Contents:
        """A candidate as a device would get it."""
        vectors = pack.vectors(self.baseline.session, entry.session, self.samples(), pack.VECTORS)
        order = self._workshop.order
        return pack.contents(self._source, entry.candidate, order, vectors, Findings((), Verdict(ok=True)))

    def _leave_out_far_slower(self) -> None:
        """What nobody asked for and latency rules out need not be run on all of the data."""
        order = self._workshop.order
        if order.precisions or order.budget.asks_for_small or not self._workshop.latency_counts:
            return
        floats = {e.candidate.recipe.format: e.latency for e in self.entries if e.candidate.recipe.precision is FLOAT}
        for entry in [each for each in self.entries if each.tally is None and not self._on_devices(each)]:
            of_float = floats.get(entry.candidate.recipe.format, self.baseline.latency)
            if guard.far_slower(entry.latency, of_float):
                times = f"{guard.ratio(entry.latency, of_float):.1f} times as slow as float"
                self._leave_out(entry, EngineError(f"{times}{self._workshop.where}, not evaluated"))

    def _leave_out(self, entry: Entry, why: EdgekitError) -> None:
        self._failed[entry.candidate.recipe] = why
        self.entries.remove(entry)

    def _evaluate(self, new: Sequence[Entry]) -> None:
        self._tell(f"{self._workshop.target.name}: evaluating")
        entries = [self.baseline, *(entry for entry in new if entry is not self.baseline)]
        threads = max(1, (os.cpu_count() or 1) // len(entries))
        with ExitStack() as stack:
            sessions = [stack.enter_context(self._workshop.session(entry.candidate, threads)) for entry in entries]
            for entry, tally in zip(entries, measure.evaluate(sessions, self.samples()), strict=True):
                entry.tally = tally

    def _weigh(self, new: Sequence[Entry]) -> None:
        """Memory takes a process a candidate: only where the budget asks."""
        for entry in new if self._workshop.order.budget.max_memory_mib is not None else ():
            self._tell(f"{self._workshop.target.name}: memory of {entry.candidate.recipe.name}")
            entry.memory_mib = memory.peak_mib(self._contents(entry))

    def mixed_scales(self) -> list[str]:
        """What is to be said of the outputs of the baseline."""
        candidate = self.baseline.candidate
        if all(len(spec.shape) < scales.LEAST_AXES for spec in candidate.model.outputs):
            return []
        return scales.mixed(self._workshop.reference(self._source, candidate.recipe).outputs)

    def explained(self, entry: Entry) -> list[dict[str, Any]]:
        """Why the layers of a candidate are as they are."""
        ranking = self.sensitivities.get(entry.candidate.recipe.name, ())
        return explain.layers(self._workshop, self._source, entry.candidate, ranking)

    def _make(self, recipe: Recipe) -> Candidate:
        if recipe.precision is not Precision.MIXED:
            return self._workshop.make(self._source, recipe)
        baseline = Baseline(self.baseline.measured, self.baseline.session, self.samples())
        mixing = Mixing(self._workshop, self._source, recipe, baseline, self._tell)
        quantization, self.sensitivities[recipe.name] = mixing.found(self._lacks(recipe))
        return self._workshop.variant(self._source, recipe, quantization)

    def _lacks(self, recipe: Recipe) -> dict[Calibrator, float]:
        """How far int8 of the same format is from the budget, by its calibrator."""
        baseline, budget = self.baseline.measured, self._workshop.order.budget
        known = [entry for entry in self.entries if entry.candidate.recipe.precision is Precision.INT8 and entry.tally]
        return {
            entry.candidate.recipe.quantization.calibrator: guard.lacks(entry.measured, baseline, budget)
            for entry in known
            if entry.candidate.recipe.format is recipe.format
        }
