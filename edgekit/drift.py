"""Drift: how far what devices are fed, and what they answer, has moved from what the build saw; no labels are needed.

The measure is the population stability index (N. Siddiqi, Credit Risk Scorecards, Wiley 2006), Jeffreys' divergence of
two histograms. Where nothing has moved it is as chi-squared, its mean (bins - 1) / calls (Yurdakul and Naranjo,
Statistical Properties of the Population Stability Index, Journal of Risk Model Validation 14(4), 2020): so nothing is
said of few calls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgekit_runtime.windows import EXPECTED

MODERATE, LARGE = 0.1, 0.25
"""Siddiqi's levels: from the first on it is worth a look, from the second on it is another population."""
LEAST_CALLS, LEAST_VALUES = 200, 10000
"""Of confidence and entropy there is one a call; of an input some 64 values, which have much in common."""
LEAST_RUNS = 20
UNSEEN = 0.5
"""Counts as so many in each bin: one that is empty is no proof that nothing ever lies in it."""
SHARES_OF = 10000
"""As many calibration values as the device scales to."""

Drift = Mapping[str, Sequence[int]]
"""Counts per bin, as a window or a slice has them."""


def psi(shares: Sequence[float], counts: Sequence[int]) -> float:
    """The index of ``counts`` against the ``shares`` of the same bins; 0 for the same, and for no counts.

    Raises: ValueError for different numbers of bins.
    """
    total, whole = sum(counts), sum(shares)
    if not total or not whole:
        return 0.0
    smooth = UNSEEN * len(counts)
    pairs = zip(shares, counts, strict=True)
    both = [
        ((share / whole * SHARES_OF + UNSEEN) / (SHARES_OF + smooth), (n + UNSEEN) / (total + smooth))
        for share, n in pairs
    ]
    return sum((b - a) * math.log(b / a) for a, b in both)


def scores(drift: Drift) -> dict[str, float]:
    """The index by key, "input:NAME", "detail:NAME", "confidence:NAME" and "entropy:NAME", where there are counts
    enough; windows merge by adding, key by key and bin by bin.
    """
    found = {}
    for key, counts in drift.items():
        expected = drift.get(EXPECTED + key, ())
        if len(expected) == len(counts) and sum(counts) >= _least(key):
            found[key] = psi(expected, counts)
    return found


def _least(key: str) -> int:
    return LEAST_VALUES if key.startswith(("input:", "detail:")) else LEAST_CALLS


def worst(drift: Drift) -> tuple[str, float] | None:
    """What has moved furthest; None where there are not counts enough of anything."""
    return max(scores(drift).items(), key=lambda each: each[1], default=None)


def clipped(counters: Mapping[str, int]) -> dict[str, float]:
    """Of "inputs" and "outputs", the share of the values looked at that the model's numbers cannot hold, or, of a
    float model, that the build never saw; without those that were not looked at.
    """
    parts = {part: counters.get(f"{part}_checked", 0) for part in ("inputs", "outputs")}
    return {part: counters.get(f"{part}_clipped", 0) / checked for part, checked in parts.items() if checked}


def agreement(counters: Mapping[str, int]) -> float | None:
    """The share of shadow runs in which the float twin said the same; None for fewer than LEAST_RUNS."""
    runs = counters.get("shadow_runs", 0)
    return counters.get("shadow_agreed", 0) / runs if runs >= LEAST_RUNS else None


def describe(drift: Drift, counters: Mapping[str, int]) -> list[str]:
    """Lines for a person: what has moved, what is clipped, how often the twin agreed; none where there is nothing."""
    moved = sorted(scores(drift).items(), key=lambda each: -each[1])
    lines = [f"{key}: {_level(index)} (PSI {index:.2f})" for key, index in moved if index >= MODERATE]
    lines += [f"{part}: {share:.1%} of values clipped" for part, share in clipped(counters).items() if share >= 0.01]
    same = agreement(counters)
    return lines if same is None else [*lines, f"agrees with its float twin in {same:.1%}"]


def _level(index: float) -> str:
    return "not what the model was calibrated for" if index >= LARGE else "has moved"
