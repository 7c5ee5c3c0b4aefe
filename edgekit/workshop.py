"""Workshop: makes candidates by their recipes; a conversion that several recipes share is done once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import ConfigError
from edgekit.model import Model
from edgekit.order import Order
from edgekit.passes import Context, fit_onnx
from edgekit.recipe import Recipe
from edgekit.target import Target
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec


@dataclass(frozen=True)
class Candidate:
    """A model, and the recipe it was made by."""

    recipe: Recipe
    model: Model


class Workshop:
    """Runs passes in folders of their own under ``folder``."""

    def __init__(self, target: Target, order: Order, folder: Path) -> None:
        self.target, self.order, self._folder = target, order, folder
        self._done: dict[tuple[str, ...], Model] = {}

    def make(self, source: Model, recipe: Recipe) -> Candidate:
        """Raises: ModelError, DataError, ConfigError, EngineError."""
        steps = [(fit_onnx.NAME, fit_onnx.fit), *((step.name, step.run) for step in recipe.passes)]
        model, way = source, tuple[str, ...]()
        for name, run in steps:
            _check_preprocess(model, self.order.preprocess)
            way = (*way, name)
            if way not in self._done:
                self._done[way] = run(model, self._context(name))
            model = self._done[way]
        _check_preprocess(model, self.order.preprocess)
        return Candidate(recipe, model)

    def _context(self, step: str) -> Context:
        work = self._folder / f"{len(self._done)}-{step}"
        work.mkdir(exist_ok=True)
        return Context(work, self.target, lambda i: self.order.dataset("calibration", i), self.order.preprocess)


def _check_preprocess(model: Model, preprocess: dict[str, Preprocess]) -> None:
    """Raises: ConfigError for a table that fits no input; a model that was not converted yet has no specs."""
    known = {spec.name: spec for spec in model.inputs}
    for name, step in preprocess.items() if known else ():
        if name not in known:
            raise ConfigError(f"edgekit.toml: preprocess.{name}: no such input", f"the model takes {', '.join(known)}")
        _check_step(f"edgekit.toml: preprocess.{name}", step, known[name])


def _check_step(where: str, step: Preprocess, spec: TensorSpec) -> None:
    if len(spec.shape) != 4 and (step.resize or step.crop or step.layout == "NCHW" or step.color == "bgr"):
        raise ConfigError(f"{where}: is for images, the model takes {spec}", "leave out what images need")
    colors = spec.shape[1 if step.layout == "NCHW" else -1] if len(spec.shape) > 1 else 1
    for key, values in (("mean", step.mean), ("std", step.std)):
        if colors and len(values) not in (1, colors):
            raise ConfigError(f"{where}.{key}: {len(values)} numbers for {colors} colours", "write one, or one each")
