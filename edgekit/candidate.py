"""Candidate: a model that may ship to a target, and the recipe it was made by."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.model import Model
from edgekit.recipe import Recipe
from edgekit.target import Target
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess


@dataclass(frozen=True)
class Candidate:
    """``preprocess`` is what this model still needs of what was declared."""

    recipe: Recipe
    model: Model
    target: Target
    preprocess: dict[str, Preprocess]

    @property
    def interface(self) -> Interface:
        return Interface(self.model.inputs, self.model.outputs, self.preprocess)
