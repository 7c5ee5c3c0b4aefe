"""Private: rounds whose devices are drawn and clipped, and whose sum has noise, within a budget of privacy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.federated.shown.course import Course, Honest, Terms, course
from edgekit.federated import strategies
from edgekit.federated.privacy.central import Central
from edgekit.federated.privacy.ledger import Budget, Ledger, Step, noise_for
from edgekit.federated.privacy.sampling import chosen
from edgekit_train.noise import Randomness
from edgekit_train.update import Update, Weights


@dataclass(frozen=True)
class Drawn:
    """A source of whichever devices a coin of their own has put into the round."""

    devices: Honest
    rate: float
    randomness: Randomness

    def __call__(self, weights: Weights, number: int) -> list[Update]:
        return self.devices.of(chosen(self.devices.fleet.devices, self.rate, self.randomness), weights, number)


@dataclass(frozen=True)
class Privately:
    """``rate``: how likely a device is in a round. ``delta``: δ, below one over the devices. ``clip``: the longest that
    the delta of a device may be. Chance has a seed here, as that of a real fleet never has.
    """

    devices: Honest
    rate: float
    delta: float
    clip: float
    rounds: int = 10

    def plain(self, seed: int) -> Course:
        """Neither clipped nor noised."""
        return self._course(Terms(strategies.fedavg(), rounds=self.rounds), seed)

    def noised(self, epsilon: float, seed: int) -> Course:
        """With the least noise that the budget allows. Raises: RoundError where it allows none."""
        budget = Budget(epsilon, self.delta)
        noise = noise_for(budget, self.rate, self.rounds)
        Ledger(budget).entered(Step(self.rate, noise), self.rounds)
        expected = self.rate * len(self.devices.fleet.devices)
        central = Central(self.clip, noise, expected, np.random.default_rng(seed).bytes)
        return self._course(Terms(replace(strategies.fedavg(), rule=central.rule), rounds=self.rounds), seed)

    def _course(self, terms: Terms, seed: int) -> Course:
        source = Drawn(self.devices, self.rate, np.random.default_rng([seed, 1]).bytes)
        return course(self.devices.fleet, terms, source)
