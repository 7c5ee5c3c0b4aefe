"""Measures: how a round hides what single devices say, as its plan has it."""

from __future__ import annotations

from dataclasses import dataclass

CENTRAL, LOCAL = "central", "local"


@dataclass(frozen=True)
class Privacy:
    """``kind``: who adds the noise, the host (central) or each device (local). ``epsilon``, ``delta``: the budget.

    ``rate``: the probability with which each device of ``among`` takes part. ``noise``: as in ``ledger.Step``; 0 while
    it is not settled.
    """

    kind: str
    epsilon: float
    delta: float
    rate: float = 1.0
    noise: float = 0.0
    among: tuple[str, ...] = ()

    @property
    def central(self) -> bool:
        """Whether it is the host that adds the noise."""
        return self.kind == CENTRAL

    @property
    def expected(self) -> float:
        """How many devices take part on average."""
        return self.rate * len(self.among)
