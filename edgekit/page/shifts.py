"""Shifts: how far inputs and answers have moved from what the build was calibrated with, over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from edgekit import drift
from edgekit.page.axis import Axis
from edgekit.page.plot import Series

if TYPE_CHECKING:
    from edgekit.store import Slice

MOST_KEYS = 5
Bins = dict[str, tuple[int, ...]]


def shifts(slices: Iterable[Slice], axis: Axis) -> tuple[Series, ...]:
    """The population stability index by what it is of, the worst first; nothing where too little was counted."""
    cells: list[Bins] = [{} for _ in range(axis.number)]
    for one in slices:
        _add(cells[axis.index(one.start_s)], one.drift)
    scores = [drift.scores(cell) for cell in cells]
    worst = {key: max(score.get(key, 0.0) for score in scores) for key in {key for score in scores for key in score}}
    ranked = sorted(worst, key=lambda key: (-worst[key], key))
    return tuple(Series(_read(key), _values(scores, key)) for key in ranked[:MOST_KEYS])


def _add(total: Bins, more: drift.Drift) -> None:
    for key, counts in more.items():
        before = total.get(key, (0,) * len(counts))
        if len(before) == len(counts):  # else another build's profile
            total[key] = tuple(map(sum, zip(before, counts, strict=True)))


def _values(scores: Sequence[dict[str, float]], key: str) -> tuple[float | None, ...]:
    return tuple(score.get(key) for score in scores)


def _read(key: str) -> str:
    """A key as a person reads it: input x."""
    return key.replace(":", " ", 1)
