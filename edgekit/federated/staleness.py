"""Staleness: an update that was begun from weights of some rounds ago counts for less, and never for more.

C. Xie, S. Koyejo, I. Gupta, Asynchronous Federated Optimization, 2019 (the polynomial weight). It makes the delta
smaller, as in J. Nguyen et al., Federated Learning with Buffered Asynchronous Aggregation, AISTATS 2022: so it is the
same for every rule, and a round of nothing but late updates moves the weights less.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit_train.update import Update

EXPONENT = 0.5
"""The paper's; an update four rounds late counts for less than half."""


def weight(rounds: int, exponent: float = EXPONENT) -> float:
    """(1 + rounds)^-exponent: 1 for one that is not late."""
    return float((1 + rounds) ** -exponent)


def aged(update: Update, rounds: int) -> Update:
    """An update that is so many rounds late, its delta made smaller."""
    if not rounds:
        return update
    by = np.float32(weight(rounds))
    return replace(update, delta={name: array * by for name, array in update.delta.items()})
