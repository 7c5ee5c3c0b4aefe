"""Lineup: the candidates of one build, open side by side, and what came of those that could not be made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from edgekit import explain, measure, pack, scales
from edgekit.bundle import Contents
from edgekit.candidate import Candidate
from edgekit.data.dataset import Dataset
from edgekit.data.scrutiny import Scrutiny, scrutinize
from edgekit.errors import ConversionError, EdgekitError, EngineError
from edgekit.guard import Verdict
from edgekit.measure import Measured
from edgekit.mixed import Sensitivity
from edgekit.mixing import Baseline, Mixing
from edgekit.model import Model
from edgekit.order import Clock
from edgekit.pack import Findings
from edgekit.quantization import Calibrator, Precision, Quantization
from edgekit.recipe import FLOAT, Recipe
from edgekit.workshop import Workshop
from edgekit_runtime.session import Session


class Lineup:
    """``candidates`` with their ``sessions``, the baseline first; ``sensitivities`` by a mixed candidate's name."""

    def __init__(self, source: Model, workshop: Workshop, stack: ExitStack, tell: Callable[[str], None]) -> None:
        self.candidates: list[Candidate] = []
        self.sessions: list[Session] = []
        self.sensitivities: dict[str, tuple[Sensitivity, ...]] = {}
        self._source, self._workshop, self._stack, self._tell = source, workshop, stack, tell
        self._failed: dict[Recipe, EdgekitError] = {}
        self._measured: list[Measured] = []

    @property
    def failures(self) -> list[str]:
        return [f"{recipe.name}: {error.message}" for recipe, error in self._failed.items()]

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
                self.sessions.append(self._stack.enter_context(self._workshop.session(candidate)))
                self.candidates.append(candidate)
            except (ConversionError, EngineError) as error:
                self._failed[recipe] = error
        if not self.candidates:
            raise next(iter(self._failed.values()))

    def samples(self, role: str = "evaluation") -> Dataset:
        """The samples, as the baseline takes them."""
        return self._workshop.samples(role, self.sessions[0].interface)

    def scrutiny(self) -> Scrutiny:
        """What the data are, and what looks wrong with them. Raises: DataError, EngineError."""
        self._tell(f"{self._workshop.target.name}: looking at the data")
        return scrutinize(self.sessions[0], self.samples("calibration"), self.samples())

    def measured(self) -> list[Measured]:
        """All candidates, taking turns. Raises: DataError, EngineError, ModelError."""
        self._tell(f"{self._workshop.target.name}: measuring")
        tallies = measure.measure(self.sessions, self.samples())
        parts = zip(self.candidates, self.sessions, tallies, strict=True)
        self._measured = [measure.measured(*part) for part in parts]
        if self._workshop.order.clock:
            self._time(self._workshop.order.clock)
        return list(self._measured)

    def _time(self, clock: Clock) -> None:
        """Put a device's times in place of this host's. What does not run there is a candidate no more.

        Raises: EngineError when the baseline does not, TransportError.
        """
        self._tell(f"{self._workshop.target.name}: timing on {clock.device}")
        told = clock([self._contents(index) for index in range(len(self.candidates))])
        for index, times in reversed(list(enumerate(told))):
            if not isinstance(times, EdgekitError):
                self._measured[index] = replace(self._measured[index], latency_ms=measure.latency_of(times))
            elif index == 0:
                raise times
            else:
                self._failed[self.candidates[index].recipe] = times
                del self.candidates[index], self.sessions[index], self._measured[index]

    def _contents(self, index: int) -> Contents:
        """A candidate as a device would get it."""
        session, order = self.sessions[index], self._workshop.order
        vectors = pack.vectors(self.sessions[0], session, self.samples(), self._measured[0].samples)
        findings = Findings(self._measured, Verdict(ok=True))
        return pack.contents(self._source, self.candidates[index], order, vectors, findings)

    def mixed_scales(self) -> list[str]:
        """What is to be said of the outputs of the baseline."""
        if all(len(spec.shape) < scales.LEAST_AXES for spec in self.candidates[0].model.outputs):
            return []
        reference = self._workshop.reference(self._source, self.candidates[0].recipe)
        return scales.mixed(reference.outputs)

    def explained(self, index: int) -> list[dict[str, Any]]:
        """Why the layers of a candidate are as they are."""
        candidate = self.candidates[index]
        return explain.layers(
            self._workshop, self._source, candidate, self.sensitivities.get(candidate.recipe.name, ())
        )

    def _make(self, recipe: Recipe) -> Candidate:
        if recipe.precision is not Precision.MIXED:
            return self._workshop.make(self._source, recipe)
        calibrator = self._calibrator(recipe)
        baseline = Baseline(self._measured[0], self.sessions[0], self.samples())
        mixing = Mixing(self._workshop, self._source, recipe, calibrator, baseline, self._tell)
        kept, self.sensitivities[recipe.name] = mixing.found()
        quantization = Quantization(Precision.MIXED, calibrator, kept)
        return self._workshop.variant(self._source, recipe, quantization)

    def _calibrator(self, recipe: Recipe) -> Calibrator:
        """The one that served int8 of the same format best."""
        whole = [c.recipe for c in self.candidates if c.recipe.precision is Precision.INT8]
        same = [each.quantization.calibrator for each in whole if each.format is recipe.format]
        return same[0] if same else Calibrator.MINMAX
