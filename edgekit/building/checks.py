"""Checks: whether a model fits what the target's engines load, and what edgekit.toml declares of its inputs."""

from __future__ import annotations

from edgekit import compat
from edgekit.building.recipe import Recipe
from edgekit.compat import fingerprint
from edgekit.errors import ConfigError, ConversionError
from edgekit.model import Model
from edgekit.target import Target
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec


def check_loads(model: Model, recipe: Recipe, target: Target) -> None:
    """Raises: ConversionError when no release of any engine that the target has for it is known to load the model."""
    found = fingerprint.read(model.path)
    verdicts = [compat.within(found, each.name, each.version) for each in recipe.engines]
    if verdicts and all(verdict.answer == "refused" for verdict in verdicts):
        raise ConversionError(
            f"{model.path.name}: no engine of {target.name} loads it: {verdicts[0].reason}", verdicts[0].fix
        )


def check_preprocess(model: Model, preprocess: dict[str, Preprocess]) -> None:
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
