"""Hedge back-propagation: heads of different depth learn at once, and those that answer well get more weight.

Sahoo, Pham, Lu and Hoi 2018, "Online Deep Learning: Learning Deep Neural Networks on the Fly": a shallow head is good
early, a deep one late, and nobody need know when. The answer is the sum of all, weighted by ``hedge.alpha``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Iterable

import numpy as np

from edgekit_train import features, heads, settings
from edgekit_train.descent import Descent
from edgekit_train.hedged_heads import HedgedHeads
from edgekit_train.trainer import checked, finished

if TYPE_CHECKING:
    from edgekit_runtime.session import Session
    from edgekit_train.trainer import Config, Fitted, Sample
    from edgekit_train.update import Weights

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class HedgeTrainer:
    """``depth`` hidden layers of ``units``, and a head on the features and on each of these. Takes features, each
    sample once, in order. ``accuracy`` is of answers that were given before their label was learned.

    Raises: ValueError for no hidden layer, which is ``OnlineTrainer``'s, no unit, or more layers than a head has.
    """

    depth: int = 3
    units: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.depth < heads.MOST_LAYERS or self.units < 1:
            raise ValueError(
                f"{self.depth} hidden layers of {self.units} units, where 1 to {heads.MOST_LAYERS - 1} can be"
            )

    def init(self, session: Session) -> Weights:
        """Raises: InvalidInput for a bundle without features."""
        return self.of_sizes(*features.shape(session))

    def of_sizes(self, size: int, classes: int) -> Weights:
        """Heads that know nothing; the same each time."""
        body = heads.layers(heads.initial([size] + [self.units] * self.depth + [classes]))[:-1]
        widths = [size] + [self.units] * self.depth
        exits = [(np.zeros((width, classes), np.float32), np.zeros(classes, np.float32)) for width in widths]
        alpha = np.full(self.depth + 1, 1 / (self.depth + 1), np.float32)
        return HedgedHeads(body, exits, alpha).named

    def fit(self, weights: Weights, data: Iterable[Sample], config: Config) -> Fitted:
        """Raises: InvalidInput, TrainingFailed. Memory: four times the heads."""
        how, net = settings.of(config), HedgedHeads.of(weights)
        descent, shape, count, right = Descent(net.layers, replace(how, momentum=0.0)), net.shape, 0, 0
        with np.errstate(over="ignore", invalid="ignore"):  # told by ``finished``
            for x, y in data:
                row, label = checked(x, y, *shape)
                taken, scores = net.answers(row[None])
                right += int(net.weighed(scores)[0].argmax() == label)
                labels = np.array([label])
                descent.step(net.gradient(taken, scores, labels))
                net.judge([heads.loss(each, labels) for each in scores])
                count += 1
            return finished(weights, net.named, count, {"accuracy": right / max(1, count)})


def probabilities(weights: Weights, rows: Array) -> Array:
    """float32 [rows, classes] of features [rows, size]."""
    net = HedgedHeads.of(weights)
    return net.weighed(net.answers(rows)[1])
