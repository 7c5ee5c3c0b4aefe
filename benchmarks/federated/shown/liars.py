"""Liars: a source some of whose devices lie in every round."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.federated.shown.course import Source
from benchmarks.federated.shown.lies import Lie
from edgekit_train.update import Update, Weights


@dataclass(frozen=True)
class Lying:
    """The first ``liars`` of its devices, by their names. ``examples``: how many they say to have learned from; None
    for no lie about that.
    """

    source: Source
    lie: Lie
    liars: int
    examples: int | None = None
    first: dict[str, Weights] = field(default_factory=dict)

    def __call__(self, weights: Weights, number: int) -> list[Update]:
        rng, came = np.random.default_rng(number), self.source(weights, number)
        for update in came:
            self.first.setdefault(update.device, update.delta)
        liars = sorted(self.first)[: self.liars]
        return [self._bent(each, rng) if each.device in liars else each for each in came]

    def _bent(self, update: Update, rng: np.random.Generator) -> Update:
        delta = self.lie(update.delta, self.first[update.device], rng)
        return replace(update, delta=delta, examples=self.examples or update.examples)
