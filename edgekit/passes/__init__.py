"""Passes: everything that makes a model from a model, conversion and quantization alike.

A pass is a value in the entry-point group ``edgekit.passes``: which formats it takes, what comes out, and a function.
The framework behind it is imported only when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from edgekit import plugins
from edgekit.dataset import Dataset
from edgekit.model import Format, Model
from edgekit.target import Target
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess

GROUP = "edgekit.passes"
Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Context:
    """What a pass may use: a folder of its own, the target, and calibration samples opened for an interface."""

    work: Path
    target: Target
    calibration: Callable[[Interface], Dataset]
    preprocess: dict[str, Preprocess]

    def feeds(self, model: Model) -> Iterator[Feeds]:
        """Calibration samples as the model's own tensors: preprocessed, by inner name, with the batch axis."""
        interface = Interface(model.inputs, model.outputs, self.preprocess)
        for sample in self.calibration(interface):
            yield interface.feeds(sample.inputs)


@dataclass(frozen=True)
class Pass:
    """``run(model, context) -> Model`` takes a model of ``accepts`` and gives one of ``produces``.

    ``precision`` is what the result computes in, "" when that does not change.
    """

    name: str
    accepts: Format
    produces: Format
    run: Callable[[Model, Context], Model]
    precision: str = ""


def all_passes() -> tuple[Pass, ...]:
    """The passes that are installed, by name. Raises: PluginError."""
    return tuple(cast("Pass", plugins.load(GROUP, name)) for name in plugins.names(GROUP))
