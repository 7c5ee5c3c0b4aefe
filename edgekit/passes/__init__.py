"""Passes: everything that makes a model from a model, conversion and quantization alike.

A pass is a value in the entry-point group ``edgekit.passes``: which formats it takes, what comes out, and a function.
The framework behind it is imported only when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from edgekit import plugins
from edgekit.data.dataset import Dataset
from edgekit.model import Format, Model
from edgekit.precision import Precision, Quantization
from edgekit.quantization import calibration, folding
from edgekit.quantization.bias import Means
from edgekit.quantization.calibration import Range, Statistics
from edgekit.target import Target
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess

GROUP = "edgekit.passes"
Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Context:
    """What a pass may use: a folder of its own, the target, calibration samples opened for an interface, and what they
    show within a model. ``shapes``, by input name, are asked for (``freeze``).
    """

    work: Path
    target: Target
    calibration: Callable[[Interface], Dataset]
    preprocess: dict[str, Preprocess]
    statistics: Callable[[Model], Statistics]
    quantization: Quantization = Quantization(Precision.FLOAT32)
    tell: Callable[[str], None] = lambda line: None
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)

    def interface(self, model: Model) -> Interface:
        """With the preprocessing that a float model still needs."""
        return Interface(model.inputs, model.outputs, folding.steps(self.preprocess, model.lineage))

    def feeds(self, model: Model) -> Iterator[Feeds]:
        """Calibration samples as the model's own tensors: preprocessed, by inner name, with the batch axis."""
        interface = self.interface(model)
        for sample in self.calibration(interface):
            yield interface.feeds(sample.inputs)

    def ranges(self, model: Model) -> Mapping[str, Range]:
        """What each activation is clipped to; pixels have their own."""
        found = calibration.ranges(self.statistics(model), self.quantization.calibrator)
        return {**found, **self.pixel_ranges(model)}

    def means(self, model: Model) -> Means:
        """The mean of each activation for every index along an axis; see ``bias``."""
        statistics = self.statistics(model)
        return lambda name, axis: statistics[name].mean(axis) if name in statistics else None

    def pixel_ranges(self, model: Model) -> dict[str, Range]:
        """Those of the inputs that may take raw pixels, by inner name."""
        if self.quantization.precision not in (Precision.INT8, Precision.MIXED):
            return {}
        steps = folding.steps(self.preprocess, model.lineage)
        found = {spec.inner: folding.pixel_range(steps[spec.name]) for spec in model.inputs if spec.name in steps}
        return {name: each for name, each in found.items() if each}


@dataclass(frozen=True)
class Pass:
    """``run(model, context) -> Model`` takes a model of ``accepts`` and gives one of ``produces``.

    A quantizer makes ``precisions``, after the passes ``before`` it; ``layers`` names those of a model, as it comes
    from these, that may be kept in float, each with the tensor that it gives.
    """

    name: str
    accepts: Format
    produces: Format
    run: Callable[[Model, Context], Model]
    precisions: tuple[Precision, ...] = ()
    before: tuple[Pass, ...] = ()
    layers: Callable[[Model], Mapping[str, str]] = lambda model: {}


def all_passes() -> tuple[Pass, ...]:
    """The passes that are installed, by name. Raises: PluginError."""
    return tuple(cast("Pass", plugins.load(GROUP, name)) for name in plugins.names(GROUP))
