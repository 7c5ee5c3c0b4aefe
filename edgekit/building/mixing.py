"""Mixing: which layers of a model stay in float so that the rest, in int8, holds the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from edgekit.building import guard, measure
from edgekit.building.measure import Measured, Tally
from edgekit.building.recipe import Recipe
from edgekit.building.workshop import Workshop
from edgekit.data.dataset import Dataset
from edgekit.errors import ConversionError, EngineError
from edgekit.model import Model
from edgekit.precision import Calibrator, Precision, Quantization
from edgekit.quantization import calibration, mixed
from edgekit.quantization.fidelity import WORST_DB
from edgekit.quantization.mixed import Sensitivity
from edgekit_runtime.compare import Outputs
from edgekit_runtime.session import Session

Found = tuple[Quantization, Sequence[Sensitivity]]
Lacks = Mapping[Calibrator, float]
"""How many answers the plain int8 by a calibrator lacks to hold the budget."""

FEW = 3
"""Where so many answers are lacking, one layer in float may bring them, whichever: layers are not ranked first."""
MUCH = 0.2
"""Int8 that lacks a larger share of the answers is not tried by other ranges: the best by calibration data was."""
MEASURED_LATER = ("max_p95_ms", "max_memory_mib")
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

    def found(self, lacks: Lacks) -> tuple[Quantization, tuple[Sensitivity, ...]]:
        """What holds the budget, and the harm of layers; remembered from an earlier build with the same inputs.

        ``lacks``: what int8 lacked by the calibrators that were tried. No layer is in float where int8 holds the budget
        by another one. Raises: ConversionError when no choice of layers does.
        """
        parts = {"recipe": self.recipe.name, "lacks": {each.value: lacks[each] for each in lacks}, **self._asked()}
        told = self.workshop.remembered(self.source, self.recipe, parts, partial(self._search, lacks))
        quantization = Quantization(Precision.MIXED, Calibrator(told["calibrator"]), frozenset(told["kept"]))
        return quantization, tuple(Sensitivity(layer, sqnr_db) for layer, sqnr_db in told["ranking"])

    def _asked(self) -> dict[str, Any]:
        """What mixes are judged by; time and memory are measured of the one that is found."""
        order = self.workshop.order
        lines = {line: value for line, value in order.budget.as_dict().items() if line not in MEASURED_LATER}
        agreement = {name: how.as_dict() for name, how in order.agreement.items()}
        return {"budget": lines, "agreement": agreement, "calibrators": [each.value for each in order.calibrators]}

    def _search(self, lacks: Lacks) -> dict[str, Any]:
        lacks = dict(lacks)
        for each in self._others(lacks):
            if not lacks.setdefault(each, self._lacks(self._plain(each))):
                return _told(self._plain(each), ())
        best = min(lacks, key=lambda each: lacks[each])
        alone = self._one_layer(best) if lacks[best] <= FEW else None
        return _told(*(alone or self._layers(best)))

    def _others(self, lacks: Lacks) -> list[Calibrator]:
        """The calibrators that may still bring what is lacking; none where it is too much to be the ranges' fault."""
        if lacks and min(lacks.values()) > MUCH * self.baseline.measured.samples:
            return []
        return [each for each in self.workshop.calibrators(self.recipe) if each not in lacks]

    def _one_layer(self, calibrator: Calibrator) -> Found | None:
        """The first that holds the budget, of those whose own outputs have most noise: what is lacking is little."""
        for layer in mixed.noisiest(self._noise_db(calibrator)):
            kept = self._keeping(calibrator, frozenset({layer}))
            if self._holds(kept):
                return kept, [Sensitivity(layer, self._sqnr_db(calibrator, self._all - {layer}))]
        return None

    def _layers(self, calibrator: Calibrator) -> Found:
        """The fewest that hold it, by what each does to the model's outputs. Raises: ConversionError."""
        self.tell(f"{self.workshop.target.name}: quantizing each of {len(self._all)} layers alone")
        ranking = mixed.ranked(tuple(self._tensors), lambda kept: self._sqnr_db(calibrator, kept))
        layers = [each.layer for each in ranking]
        kept = mixed.fewest(layers, lambda some: self._holds(self._keeping(calibrator, some)))
        if kept is None:
            told = f"no choice among its {len(layers)} layers holds the budget"
            raise ConversionError(told, "loosen the budget")
        return self._keeping(calibrator, kept), ranking

    @cached_property
    def _all(self) -> frozenset[str]:
        return frozenset(self._tensors)

    @cached_property
    def _tensors(self) -> Mapping[str, str]:
        """The output's tensor of each layer."""
        return self.recipe.passes[-1].layers(self._prepared)

    @cached_property
    def _prepared(self) -> Model:
        return self.workshop.prepared(self.source, self.recipe)

    def _noise_db(self, calibrator: Calibrator) -> dict[str, float]:
        """What is left of each layer's output by its range, as the calibration samples tell it."""
        statistics = self.workshop.statistics(self._prepared)
        ranges = calibration.ranges(statistics, calibrator)
        known = {layer: tensor for layer, tensor in self._tensors.items() if tensor in statistics}
        return {layer: calibration.sqnr_db(statistics[name], ranges[name]) for layer, name in known.items()}

    def _sqnr_db(self, calibrator: Calibrator, kept: frozenset[str]) -> float:
        reference = self.workshop.reference(self.source, self.recipe).first(RANKED_BY)
        try:
            with self.workshop.trial(self.source, self.recipe, self._keeping(calibrator, kept)) as candidate:
                return self.workshop.sqnr_db(candidate, reference)
        except (ConversionError, EngineError):
            return WORST_DB

    def _holds(self, quantization: Quantization) -> bool:
        """Whether the evaluation data say so; latency apart, which float layers do not better."""
        hopeless = partial(guard.hopeless, baseline=self.baseline.measured, budget=self.workshop.order.budget)
        return not self._lacks(quantization, hopeless)

    def _lacks(self, quantization: Quantization, enough: Callable[[Tally], bool] = lambda tally: False) -> float:
        """As ``guard.lacks``; infinite for what cannot be made or run, or was stopped as it was ``enough``."""
        how = f"{quantization.calibrator.value} and {len(quantization.float_layers)} layers in float"
        self.tell(f"{self.workshop.target.name}: {self.recipe.name} with {how}")
        baseline = self.baseline.measured
        try:
            with (
                self.workshop.trial(self.source, self.recipe, quantization) as candidate,
                self.workshop.session(candidate) as session,
            ):
                tally = measure.retrace(session, self.baseline.samples, self.baseline.outputs(), enough)
                found = measure.measured(candidate, session, tally)
        except (ConversionError, EngineError):
            return math.inf
        whole = tally.samples == baseline.samples
        return guard.lacks(found, baseline, self.workshop.order.budget) if whole else math.inf

    def _plain(self, calibrator: Calibrator) -> Quantization:
        return self._keeping(calibrator, frozenset())

    def _keeping(self, calibrator: Calibrator, layers: frozenset[str]) -> Quantization:
        return Quantization(Precision.MIXED, calibrator, layers)


def _told(quantization: Quantization, ranking: Iterable[Sensitivity]) -> dict[str, Any]:
    """For JSON."""
    harm = [[each.layer, each.sqnr_db] for each in ranking]
    return {"calibrator": quantization.calibrator.value, "kept": sorted(quantization.float_layers), "ranking": harm}
