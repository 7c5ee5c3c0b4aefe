"""Mixed precision: the fewest layers kept in float that make a quantized model hold its budget.

The layers are ranked by what each alone does to the outputs when only it is quantized (as in "per-layer sensitivity",
H. Wu et al., arXiv:2004.09602, 5.1), then as many of the worst as are needed stay in float, and then each of these is
tried without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

ALONE = 8
"""So many of the first layers are tried by themselves."""


@dataclass(frozen=True)
class Sensitivity:
    """A layer, and the outputs' signal-to-quantization-noise ratio when only it is quantized."""

    layer: str
    sqnr_db: float


def ranked(layers: Sequence[str], sqnr_db: Callable[[frozenset[str]], float]) -> tuple[Sensitivity, ...]:
    """The layers, the one that does most harm first. ``sqnr_db`` takes the layers that stay in float."""
    every = frozenset(layers)
    found = [Sensitivity(layer, sqnr_db(every - {layer})) for layer in layers]
    return tuple(sorted(found, key=lambda each: each.sqnr_db))


def noisiest(noise_db: Mapping[str, float]) -> list[str]:
    """The layers of whose outputs least is left, worst first; as many as are tried by themselves."""
    return sorted(noise_db, key=lambda layer: noise_db[layer])[:ALONE]


def fewest(ranking: Sequence[str], holds: Callable[[frozenset[str]], bool]) -> frozenset[str] | None:
    """The layers to keep in float: the first of the ranking, as few as hold; None when not even all of them do.

    Where the first one does not, one of the next ones may by itself: the ranking is of noise, and what holds is often a
    matter of a few answers. ``holds`` is asked O(log n) times, and at most twice for each layer that is kept.
    """
    holds = cache(holds)
    count = _least(len(ranking), lambda count: holds(frozenset(ranking[:count])))
    if count is None:
        return None
    for layer in ranking[1 : min(count, ALONE)]:
        if holds(frozenset({layer})):
            return frozenset({layer})
    kept = frozenset(ranking[:count])
    for layer in reversed(ranking[: count - 1]):
        if holds(kept - {layer}):
            kept -= {layer}
    return kept


def _least(most: int, holds: Callable[[int], bool]) -> int | None:
    """The least count from 1 to ``most`` that holds, if what holds at one holds above it: doubled, then halved."""
    below, count = 0, 1
    while not holds(count):
        if count >= most:
            return None
        below, count = count, min(2 * count, most)
    while count - below > 1:
        middle = (below + count) // 2
        below, count = (below, middle) if holds(middle) else (middle, count)
    return count
