"""Normalization: the moments of a device's features, and a head that takes them as if they had those of the training.

The batch-norm layers of an int8 backbone are folded into its weights; what is left to adapt is the spread of what it
gives (Li et al. 2016, "Revisiting Batch Normalization For Practical Domain Adaptation", at the last layer). Labels are
not looked at. Moments, unlike a variance, may be averaged over devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterable

import numpy as np

from edgekit_runtime.errors import InvalidInput
from edgekit_train.trainer import checked, finished

if TYPE_CHECKING:
    from edgekit_runtime.session import Session
    from edgekit_train.trainer import Config, Fitted, Sample
    from edgekit_train.update import Weights

    Array = np.ndarray[Any, Any]

MEAN, SQUARE = "features.mean", "features.square"
LEAST = 1e-3
"""The smallest deviation that is told from none, as a share of the largest."""
ROUNDED = 64 * float(np.finfo(np.float32).eps)
"""The smallest variance that is told from none, as a share of the squared mean. Moments are float32, and are rounded a
few times on their way: three roundings of each are less than a tenth of such a variance.
"""


@dataclass(frozen=True)
class NormalizationTrainer:
    """``start``: the moments of the features that the head was trained with. Takes features, one pass, no settings."""

    start: Weights

    def init(self, session: Session) -> Weights:
        return self.start

    def fit(self, weights: Weights, data: Iterable[Sample], config: Config) -> Fitted:
        """Raises: InvalidInput, TrainingFailed. Memory: four rows of float64, however many the samples."""
        check_settings(config)
        size = weights[MEAN].size
        found = moments((checked(x, 0, size, 1)[0] for x, _ in data), size)
        return finished(weights, found[0], found[1], {})


def check_settings(config: Config) -> None:
    """That there is none. Raises: InvalidInput."""
    if config:
        raise InvalidInput(f"unknown setting {min(config)!r}", "moments need none")


def moments(rows: Iterable[Array], size: int) -> tuple[Weights, int]:
    """The mean of each feature and of its square, float32; and of how many rows. Raises: InvalidInput for none."""
    total, squares, count = np.zeros(size), np.zeros(size), 0
    for row in rows:
        total += row
        squares += np.square(row, dtype=np.float64)
        count += 1
    if not count:
        raise InvalidInput("there is no sample to train with")
    return {MEAN: (total / count).astype(np.float32), SQUARE: (squares / count).astype(np.float32)}, count


def folded(head: Weights, before: Weights, after: Weights) -> Weights:
    """The head that gives for features with the moments ``after`` what ``head`` gives for those with ``before``.

    A feature that does not move, before or after, or by less than float32 tells beside its mean, is only shifted.
    """
    (mean, spread), (new_mean, new_spread) = _spread(before), _spread(after)
    moves = (spread > LEAST * spread.max()) & (new_spread > LEAST * new_spread.max())
    stretch = np.where(moves, spread / np.where(moves, new_spread, 1), 1)
    weight, bias = head["head.0.weight"].astype(np.float64), head["head.0.bias"].astype(np.float64)
    first = {
        "head.0.weight": (weight * stretch[:, None]).astype(np.float32),
        "head.0.bias": (bias + (mean - new_mean * stretch) @ weight).astype(np.float32),
    }
    return {**head, **first}


def _spread(found: Weights) -> tuple[Array, Array]:
    """The deviation is 0 where the variance is lost in the rounding of the moments."""
    mean, square = (found[name].astype(np.float64) for name in (MEAN, SQUARE))
    variance = square - mean**2
    return mean, np.sqrt(np.where(variance > ROUNDED * mean**2, variance, 0))
