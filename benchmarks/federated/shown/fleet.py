"""Fleet: what each device has seen, as features that an int8 ResNet-8 makes of it, and a head to train on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from benchmarks.federated.shown.scenes import scenes, shares
from edgekit_train import features
from edgekit_train.update import Weights
from tests.runtime.learning import Array, Rows, accuracy, session, shipped


@dataclass(frozen=True, eq=False)
class Fleet:
    """``devices``: what each has seen, by its name. ``judged``: what none has. ``start``: the head as it is shipped."""

    devices: dict[str, Rows]
    judged: Rows
    start: Weights

    @cached_property
    def pooled(self) -> Rows:
        """What one place would have that may see it all."""
        return together(self.devices.values())

    def accuracy(self, weights: Weights) -> float:
        """The share of right answers on what no device has seen; weights may be beyond all bounds."""
        with np.errstate(over="ignore", invalid="ignore"):
            return accuracy(weights, self.judged)


def fleet(spread: float) -> Fleet:
    """800 scenes over 20 devices; ``spread`` as in ``split``."""
    seen, judged = _rows()
    devices = {name: together(seen[place] for place in part) for name, part in shares(spread).items()}
    return Fleet(devices, judged, shipped())


def large(number: int, size: int) -> Fleet:
    """More devices than there are scenes for: each draws ``size`` of the 800, which others may have drawn as well."""
    seen, judged = _rows()
    draws = np.random.default_rng(0).integers(len(seen), size=(number, size))
    devices = {f"pole-{at:04}": together(seen[place].part(0, 1) for place in row) for at, row in enumerate(draws)}
    return Fleet(devices, judged, shipped())


def together(parts: Iterable[Rows]) -> Rows:
    each = list(parts)
    return Rows(np.concatenate([part.x for part in each]), np.concatenate([part.y for part in each]))


@cache
def _rows() -> tuple[list[Rows], Rows]:
    """The views of each scene, and what is judged by."""
    of = scenes()
    seen = [Rows(_features(views), np.full(len(views), label)) for views, label in zip(of.seen, of.labels, strict=True)]
    return seen, Rows(_features(of.judged), of.judged_labels)


def _features(pictures: Array) -> Array:
    return np.concatenate([features.of(session(), each[None]) for each in pictures])
