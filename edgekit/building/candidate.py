"""Candidate: a model that may ship to a target, and the recipe it was made by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edgekit.building.recipe import Recipe
from edgekit.model import Model
from edgekit.target import Target
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess


@dataclass(frozen=True)
class Candidate:
    """``preprocess`` is what this model still needs of what was declared; ``agreement`` all of it."""

    recipe: Recipe
    model: Model
    target: Target
    preprocess: dict[str, Preprocess]
    agreement: dict[str, Agreement] = field(default_factory=dict)

    @property
    def interface(self) -> Interface:
        return self.model.interface(self.preprocess, self.agreement)

    @property
    def without_tail(self) -> Candidate:
        """As its file is, to compare number by number: behind the tail there may be a box more or less."""
        return replace(self, model=replace(self.model, tail=None), agreement={}) if self.model.tail else self
