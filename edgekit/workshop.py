"""Workshop: makes candidates by their recipes; a conversion that several recipes share is done once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import ConfigError
from edgekit.model import Model
from edgekit.order import Order
from edgekit.passes import Context, Pass
from edgekit.recipe import Recipe
from edgekit.target import Target
from edgekit_runtime.preprocess import Preprocess


@dataclass(frozen=True)
class Candidate:
    """A model, and the recipe it was made by."""

    recipe: Recipe
    model: Model


class Workshop:
    """Runs passes in folders of their own under ``folder``."""

    def __init__(self, target: Target, order: Order, folder: Path) -> None:
        self._target, self._order, self._folder = target, order, folder
        self._done: dict[tuple[str, ...], Model] = {}

    def make(self, source: Model, recipe: Recipe) -> Candidate:
        """Raises: ModelError, DataError, ConfigError."""
        model, way = source, tuple[str, ...]()
        for step in recipe.passes:
            if step.precision:
                _check_names(model, self._order.preprocess)
            way = (*way, step.name)
            if way not in self._done:
                self._done[way] = step.run(model, self._context(step))
            model = self._done[way]
        return Candidate(recipe, model)

    def _context(self, step: Pass) -> Context:
        work = self._folder / f"{len(self._done)}-{step.name}"
        work.mkdir()
        return Context(work, self._target, lambda i: self._order.dataset("calibration", i), self._order.preprocess)


def _check_names(model: Model, preprocess: dict[str, Preprocess]) -> None:
    known = [spec.name for spec in model.inputs]
    for name in preprocess:
        if name not in known:
            raise ConfigError(f"edgekit.toml: preprocess.{name}: no such input", f"the model takes {', '.join(known)}")
