"""Ledger: what rounds have spent of a privacy budget, and whether another one may be.

A round is entered before anything of it is used: what was computed and then lost is spent as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgekit.errors import PrivacySpent, RoundError
from edgekit.federated.privacy import rdp
from edgekit_runtime import fields

MOST_NOISE, MOST_ROUNDS = 1e6, 1 << 20


@dataclass(frozen=True)
class Budget:
    """(ε, δ): δ well below one over the number of devices. Raises: ValueError for what is no such pair."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < math.inf or not 0 < self.delta < 1:
            raise ValueError(f"a budget of ε = {self.epsilon!r} and δ = {self.delta!r}")


@dataclass(frozen=True)
class Step:
    """A round: how likely each device was in it, and its noise, see ``rdp.curve``."""

    rate: float
    noise: float


Entries = tuple[tuple[Step, int], ...]
"""Rounds of a kind, and how many of them."""


def local(deviation: float, clip: float) -> Step:
    """What a device spends that sends its own noised delta: whoever reads it knows whose it is, so nothing is sampled;
    and two deltas of norm ``clip`` are up to twice as far apart. It guards each delta, not that there was one.
    """
    return Step(1.0, deviation / (2 * clip))


@dataclass(frozen=True)
class Ledger:
    budget: Budget
    entries: Entries = ()

    @property
    def spent(self) -> float:
        """ε so far, at the budget's δ."""
        total = sum((rounds * rdp.curve(step.rate, step.noise) for step, rounds in self.entries), 0 * rdp.ORDERS)
        return rdp.epsilon(total, self.budget.delta)

    def entered(self, step: Step, rounds: int = 1) -> Ledger:
        """With so many more rounds of the kind. Raises: PrivacySpent where that is more than the budget."""
        counts = dict(self.entries)
        counts[step] = counts.get(step, 0) + rounds
        after = replace(self, entries=tuple(counts.items()))
        if after.spent > self.budget.epsilon:
            had = f"ε = {self.spent:.3g} of {self.budget.epsilon:g} (δ = {self.budget.delta:g})"
            raise PrivacySpent(
                f"the privacy budget does not allow another round: {had} is spent, and it would be {after.spent:.3g}",
                "stop here, or start over with a model that has learned nothing from these devices",
            )
        return after

    def left(self, step: Step) -> int:
        """How many more rounds of the kind the budget allows, up to MOST_ROUNDS."""
        fits, most = 0, MOST_ROUNDS
        while fits < most:
            middle = (fits + most + 1) // 2
            fits, most = (middle, most) if self._allows(step, middle) else (fits, middle - 1)
        return fits

    def _allows(self, step: Step, rounds: int) -> bool:
        try:
            self.entered(step, rounds)
        except RoundError:
            return False
        return True

    def as_dict(self) -> dict[str, Any]:
        rows = [{"rate": step.rate, "noise": step.noise, "rounds": rounds} for step, rounds in self.entries]
        return {"epsilon": self.budget.epsilon, "delta": self.budget.delta, "rounds": rows, "spent": self.spent}

    @staticmethod
    def of(document: Mapping[str, Any]) -> Ledger:
        """Raises: ValueError, KeyError for what ``as_dict`` did not write."""
        budget = Budget(fields.number(document["epsilon"]), fields.number(document["delta"]))
        rows = [fields.table(row) for row in fields.items(document["rounds"])]
        steps = [Step(fields.number(row["rate"]), fields.number(row["noise"])) for row in rows]
        counts = [fields.count(row["rounds"], 1) for row in rows]
        return Ledger(budget, tuple(zip(steps, counts, strict=True)))


def noise_for(budget: Budget, rate: float, rounds: int, entries: Entries = ()) -> float:
    """The least noise with which so many rounds more keep to the budget, to a thousandth.

    Raises: RoundError where there is none.
    """
    below, above = rdp.LEAST_NOISE, 1.0
    ledger = Ledger(budget, entries)
    while not ledger._allows(Step(rate, above), rounds):
        below, above = above, 2 * above
        if above > MOST_NOISE:
            raise RoundError("no noise is enough for this budget", "allow a larger ε or δ, or fewer rounds")
    while above > below * 1.001:
        middle = math.sqrt(below * above)
        below, above = (below, middle) if ledger._allows(Step(rate, middle), rounds) else (middle, above)
    return above
