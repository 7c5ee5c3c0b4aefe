"""Learned: what compression costs in accuracy: the same rounds, with what devices have learned in fewer bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.federated.shown.course import Honest, Terms, course, honest
from benchmarks.federated.shown.fleet import Fleet
from benchmarks.federated.wire.counts import number
from edgekit.federated import strategies
from edgekit_train import update as updates
from edgekit_train.compression import Compression, compress
from edgekit_train.update import Update, Weights

SEEDS = (1, 2, 3)
"""Of the rounding, which is by chance: it is told how much that matters."""


@dataclass
class Compressing:
    """A source of what honest devices send in fewer bytes; each keeps what it has left out, for its next update.

    ``how``: None for float32 as it is. ``bytes``: of all files that they have sent. ``left``: out, by device.
    """

    devices: Honest
    how: Compression | None
    seed: int = 0
    bytes: int = 0
    left: dict[str, Weights] = field(default_factory=dict)

    def __call__(self, weights: Weights, number: int) -> list[Update]:
        return [self._sent(update, number) for update in self.devices(weights, number)]

    def _sent(self, update: Update, number: int) -> Update:
        if self.how is None:
            self.bytes += len(updates.dump(update))
            return update
        random = np.random.default_rng([self.seed, number, *update.device.encode()])
        done = compress(update.delta, self.how, self.left.get(update.device, {}), random)
        self.left[update.device] = done.residual
        sent = replace(update, delta=done.delta)
        self.bytes += len(updates.dump(sent, done.packed))
        return sent


@dataclass(frozen=True)
class Learned:
    """``accuracies``: at the end, one for each seed, the worst first. ``bytes``: of an update's file, on average."""

    accuracies: tuple[float, ...]
    bytes: float

    @property
    def told(self) -> str:
        """The middle one; the worst and the best, where they are others."""
        worst, middle, best = (f"{self.accuracies[at]:.3f}" for at in (0, len(self.accuracies) // 2, -1))
        return middle if worst == best else f"{middle} ({worst} to {best})"


def learned(of: Fleet, how: Compression | None) -> Learned:
    """Of rounds by FedAvg."""
    terms, found, size = Terms(strategies.fedavg()), list[float](), 0
    seeds = SEEDS if how else SEEDS[:1]
    for seed in seeds:
        source = Compressing(honest(of, terms), how, seed)
        found.append(course(of, terms, source).last)
        size += source.bytes
    return Learned(tuple(sorted(found)), size / (len(seeds) * terms.rounds * len(of.devices)))


def shipped(of: Fleet) -> Learned:
    """Before the first round; nothing was sent."""
    return Learned((of.accuracy(of.start),), 0)


def rows(found: Mapping[str, Mapping[str, Learned]]) -> list[tuple[str, ...]]:
    """By form, and there by fleet; the bytes are the mean of all fleets'."""
    return [(form, _bytes(list(by.values())), *(each.told for each in by.values())) for form, by in found.items()]


def _bytes(each: Sequence[Learned]) -> str:
    mean = sum(one.bytes for one in each) / len(each)
    return number(mean) if mean else ""
