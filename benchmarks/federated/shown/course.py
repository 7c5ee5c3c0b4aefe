"""Course: rounds one after the other by the library's own parts: trainer, checks, strategy. No wire is between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmarks.federated.shown.fleet import Fleet
from edgekit.errors import RoundError
from edgekit.federated import checks
from edgekit.federated.rounds.admission import limits
from edgekit.federated.rounds.round import Plan
from edgekit.federated.strategies import clipped
from edgekit.federated.strategy import State, Strategy
from edgekit_train.clipping import clip
from edgekit_train.head_trainer import HeadTrainer
from edgekit_train.trainer import TrainingFailed, added
from edgekit_train.update import Update, Weights

if TYPE_CHECKING:
    from edgekit_train.trainer import Config

ROUNDS, LIARS = 10, 4
"""``LIARS``: so many a robust strategy reckons with unless it is told otherwise."""
HOW: Config = {"epochs": 2, "rate": 0.02}
CLIP = 2.0
"""Somewhat longer than what a device learns in the first round: 1.2 to 1.5."""
RELEASE = "sha256:" + "0" * 64

Source = Callable[[Weights, int], list[Update]]
"""The weights that a round begins with, and its number, to what came from devices."""


@dataclass(frozen=True)
class Terms:
    """How rounds go. ``clip``: the longest that a delta may be, as in ``edgekit round start --clip``."""

    strategy: Strategy
    clip: float | None = None
    rounds: int = ROUNDS

    @property
    def name(self) -> str:
        return f"{self.strategy.name} --clip {self.clip:g}" if self.clip else self.strategy.name


@dataclass(frozen=True)
class Course:
    """``accuracies``: before the first round and after each. ``refused``: of each round that was, what was said.

    ``turned_away``: how many updates the checks have found wrong, in all rounds.
    """

    accuracies: tuple[float, ...]
    refused: tuple[str, ...] = ()
    turned_away: int = 0

    @property
    def last(self) -> float:
        return self.accuracies[-1]


@dataclass(frozen=True)
class Honest:
    """Every device learns from its own, and says what it has learned."""

    fleet: Fleet
    trainer: HeadTrainer = field(default_factory=HeadTrainer)
    config: Config = field(default_factory=lambda: HOW)
    most: float | None = None

    def __call__(self, weights: Weights, number: int) -> list[Update]:
        return self.of(list(self.fleet.devices), weights, number)

    def of(self, names: list[str], weights: Weights, number: int) -> list[Update]:
        """Those of some devices; whose training leaves the finite numbers has nothing to say."""
        found = (self._one(name, weights, number) for name in names)
        return [update for update in found if update]

    def _one(self, name: str, weights: Weights, number: int) -> Update | None:
        try:
            fitted = self.trainer.fit(weights, self.fleet.devices[name].samples, {**self.config, "seed": number})
        except TrainingFailed:
            return None
        delta = clip(fitted.delta, self.most).delta if self.most else fitted.delta
        return Update("shop", RELEASE, f"{number:032x}", name, fitted.examples, delta, fitted.metrics)


def honest(fleet: Fleet, terms: Terms) -> Honest:
    """Devices that train as the terms want it."""
    return Honest(fleet, config={**HOW, **terms.strategy.config}, most=terms.clip)


def course(fleet: Fleet, terms: Terms, source: Source) -> Course:
    """A round that is refused leaves the weights as they are; the next is tried all the same."""
    state, told = terms.strategy.init(fleet.start), Course((fleet.accuracy(fleet.start),))
    for number in range(terms.rounds):
        state, told = _round(state, terms, source(state.weights, number), told)
        told = replace(told, accuracies=(*told.accuracies, fleet.accuracy(state.weights)))
    return told


def _round(state: State, terms: Terms, came: list[Update], told: Course) -> tuple[State, Course]:
    most = limits(Plan(clip=terms.clip), state.weights)
    sound = [update for update in came if not checks.reasons(update, state.weights, most)]
    found_out = sum(checks.broken(update, state.weights, most) for update in came)
    told = replace(told, turned_away=told.turned_away + len(came) - len(sound))
    strategy = clipped(terms.strategy) if terms.clip else terms.strategy
    try:
        return strategy.without(found_out).aggregate(state, sound), told
    except RoundError as error:
        return state, replace(told, refused=(*told.refused, error.message))


def centralized(fleet: Fleet) -> Course:
    """All that the devices have seen in one place, and the same passes over it."""
    weights, found = fleet.start, [fleet.accuracy(fleet.start)]
    for number in range(ROUNDS):
        fitted = HeadTrainer().fit(weights, fleet.pooled.samples, {**HOW, "seed": number})
        weights = added(weights, fitted.delta)
        found.append(fleet.accuracy(weights))
    return Course(tuple(found))
