"""Trainer: what learns on a device from the device's own samples, and what comes of that.

Samples go in and never come out: what a trainer gives is the change of the weights, a count, and a few numbers.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, Iterable, Mapping, Protocol, Tuple, Union

import numpy as np

from edgekit_runtime.errors import DeviceError, InvalidInput

if TYPE_CHECKING:
    from edgekit_runtime.session import Session
    from edgekit_train.update import Weights

    Array = np.ndarray[Any, Any]
    Inputs = Union[Dict[str, Array], Array]
    """Of one sample, as ``predict`` takes them."""
    Sample = Tuple[Array, int]
    """What the trainer takes, features or inputs of the model, and the class that it is of."""
    Config = Mapping[str, Union[float, int, str]]


class Trainer(Protocol):
    """``init``: the weights that training starts from where nobody sends any, the same on every device.

    ``fit``: training from ``weights`` on ``data``, which is read once. It changes neither.
    Raises: InvalidInput for data that fit not, TrainingFailed.
    """

    def init(self, session: Session) -> Weights: ...

    def fit(self, weights: Weights, data: Iterable[Sample], config: Config) -> Fitted: ...


class TrainingFailed(DeviceError):
    """Training came to nothing; the weights are as they were."""

    code = "training"


@dataclass(frozen=True)
class Fitted:
    """``delta``: float32, what is to be added to the weights; of ``examples`` samples."""

    delta: Weights
    examples: int
    metrics: dict[str, float] = field(default_factory=dict)


def finished(before: Weights, after: Weights, examples: int, metrics: dict[str, float]) -> Fitted:
    """What training came to. Raises: TrainingFailed when any number of it is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        delta = {name: np.subtract(after[name], array, dtype=np.float32) for name, array in sorted(before.items())}
    if not all(np.isfinite(each).all() for each in delta.values()) or not np.isfinite([*metrics.values()]).all():
        raise TrainingFailed("training has left the finite numbers", "lower the rate, or the clip")
    return Fitted(delta, examples, metrics)


def added(weights: Weights, delta: Weights) -> Weights:
    """What the weights become."""
    return {name: np.add(array, delta[name], dtype=np.float32) for name, array in weights.items()}


def checked(x: Array, y: int, size: int, classes: int) -> tuple[Array, int]:
    """A row of features as float32 [size], and its class, any kind of whole number, as Python's.

    Raises: InvalidInput for another size, NaN, infinity, what is no number, or an odd class.
    """
    try:
        with np.errstate(over="ignore"):  # too large for float32 is infinite, and told so
            row: Array = np.asarray(x, np.float32).reshape(-1)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"a sample that is no array of numbers: {str(error)[:100]}") from error
    if row.size != size:
        raise InvalidInput(f"a sample of {row.size} features, where the head takes {size}")
    if not np.isfinite(row).all():
        raise InvalidInput("a sample with a number that is not finite", "leave out what a broken sensor gave")
    if not 0 <= (label := whole(y)) < classes:
        raise InvalidInput(f"a sample of class {label}, where the model has {classes}", "classes count from 0")
    return row, label


def whole(y: int) -> int:
    """A class, as Python's own number. Raises: InvalidInput for what is no whole number."""
    try:
        return operator.index(y)
    except TypeError as error:
        raise InvalidInput(f"class {str(y)[:80]!r} is no whole number") from error
