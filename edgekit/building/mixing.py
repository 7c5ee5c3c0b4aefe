"""Mixing: which layers of a model stay in float so that the rest, in int8, holds the budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from edgekit.building import guard, measure
from edgekit.building.measure import Measured
from edgekit.building.recipe import Recipe
from edgekit.building.workshop import Workshop
from edgekit.data.dataset import Dataset
from edgekit.errors import ConversionError, EngineError
from edgekit.model import Model
from edgekit.precision import Calibrator, Precision, Quantization
from edgekit.quantization import mixed
from edgekit.quantization.fidelity import WORST_DB
from edgekit.quantization.mixed import Sensitivity
from edgekit_runtime.compare import Outputs
from edgekit_runtime.session import Session

BYTES = 1 << 29
"""As much of the baseline's outputs is kept while mixes are tried."""
RANKED_BY = 32
"""Samples that the harm of each layer is told by; that of one layer is steady over samples."""


@dataclass
class Baseline:
    """What mixes are compared with, and on which samples."""

    measured: Measured
    session: Session
    samples: Dataset

    def outputs(self) -> Iterable[Outputs]:
        """What it gives for the samples; kept where that is not too much."""
        return self._kept or self._anew()

    @cached_property
    def _kept(self) -> list[Outputs]:
        first = self.session.predict(next(iter(self.samples)).inputs)
        size = self.measured.samples * sum(array.nbytes for array in first.values())
        return list(self._anew()) if size <= BYTES else []

    def _anew(self) -> Iterator[Outputs]:
        return (self.session.predict(sample.inputs) for sample in self.samples)


@dataclass
class Mixing:
    """One search, for a recipe of mixed precision."""

    workshop: Workshop
    source: Model
    recipe: Recipe
    baseline: Baseline
    tell: Callable[[str], None]

    def found(self, tried: Calibrator | None) -> tuple[Quantization, tuple[Sensitivity, ...]]:
        """What holds the budget, and the ranking of layers; remembered from an earlier build with the same inputs.

        No layer is in float where int8 holds it by another calibrator than the one that was ``tried``.
        Raises: ConversionError when no choice of layers does.
        """
        agreement = {name: how.as_dict() for name, how in self.workshop.order.agreement.items()}
        judged = {"budget": self._budget(), "agreement": agreement, "tried": tried and tried.value}
        asked = {"calibrators": [each.value for each in self.workshop.order.calibrators]}
        parts = {**asked, "recipe": self.recipe.name, **judged}
        told = self.workshop.remembered(self.source, self.recipe, parts, partial(self._search, tried))
        quantization = Quantization(Precision.MIXED, Calibrator(told["calibrator"]), frozenset(told["kept"]))
        return quantization, tuple(Sensitivity(layer, sqnr_db) for layer, sqnr_db in told["ranking"])

    def _search(self, tried: Calibrator | None) -> dict[str, Any]:
        for each in self._calibrators:
            if tried and each is not tried and self._holds(Quantization(Precision.MIXED, each)):
                return {"calibrator": each.value, "kept": [], "ranking": []}
        found = self.layers_for_float()
        ranking = [[each.layer, each.sqnr_db] for each in self.ranking]
        return {"calibrator": found.calibrator.value, "kept": sorted(found.float_layers), "ranking": ranking}

    @cached_property
    def _calibrators(self) -> list[Calibrator]:
        return self.workshop.calibrators(self.source, self.recipe)

    def _budget(self) -> dict[str, float]:
        """The lines that mixes are judged by: time and memory are measured of the one that is found."""
        lines = self.workshop.order.budget.as_dict()
        return {line: value for line, value in lines.items() if line not in ("max_p95_ms", "max_memory_mib")}

    @cached_property
    def ranking(self) -> tuple[Sensitivity, ...]:
        """The layers, the one that does most harm first."""
        layers = tuple(self.recipe.passes[-1].layers(self.workshop.prepared(self.source, self.recipe)))
        self.tell(f"{self.workshop.target.name}: quantizing each of {len(layers)} layers alone")
        return mixed.ranked(layers, self._sqnr_db)

    def layers_for_float(self) -> Quantization:
        """With the fewest of them that hold the budget. Raises: ConversionError when no choice does."""
        layers = [each.layer for each in self.ranking]
        kept = mixed.fewest(layers, lambda some: self._holds(self._quantization(some)))
        if kept is None:
            told = f"no choice among its {len(layers)} layers holds the budget"
            raise ConversionError(told, "loosen the budget")
        return self._quantization(kept)

    def _sqnr_db(self, kept: frozenset[str]) -> float:
        reference = self.workshop.reference(self.source, self.recipe).first(RANKED_BY)
        try:
            with self.workshop.trial(self.source, self.recipe, self._quantization(kept)) as candidate:
                return self.workshop.sqnr_db(candidate, reference)
        except (ConversionError, EngineError):
            return WORST_DB

    def _holds(self, quantization: Quantization) -> bool:
        """Whether the evaluation data say so; latency apart, which float layers do not better."""
        how = f"{quantization.calibrator.value} and {len(quantization.float_layers)} layers in float"
        self.tell(f"{self.workshop.target.name}: {self.recipe.name} with {how}")
        budget, baseline = self.workshop.order.budget, self.baseline.measured
        hopeless = partial(guard.hopeless, baseline=baseline, budget=budget)
        try:
            with (
                self.workshop.trial(self.source, self.recipe, quantization) as candidate,
                self.workshop.session(candidate) as session,
            ):
                tally = measure.retrace(session, self.baseline.samples, self.baseline.outputs(), hopeless)
                found = measure.measured(candidate, session, tally)
        except (ConversionError, EngineError):
            return False
        return tally.samples == baseline.samples and not guard.judge(found, baseline, budget, comparable_host=False)

    def _quantization(self, kept: frozenset[str]) -> Quantization:
        return Quantization(Precision.MIXED, self._calibrators[0], kept)
