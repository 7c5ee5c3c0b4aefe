"""Stages: of what the time of a mean call is made up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from edgekit.page.axis import Axis
from edgekit.page.latency import Buckets, add
from edgekit.page.plot import Series
from edgekit_runtime.histogram import GAMMA
from edgekit_runtime.windows import STAGES

if TYPE_CHECKING:
    from edgekit.store import Slice


def means(slices: Iterable[Slice], axis: Axis) -> tuple[Series, ...]:
    """Milliseconds of each stage per whole call, over time, in the order in which a call goes through them."""
    cells: dict[str, list[Buckets]] = {}
    for each in slices:
        if not each.emulated:
            steps = cells.setdefault(each.stage, [{} for _ in range(axis.number)])
            add(steps[axis.index(each.start_s)], each.buckets)
    calls = [sum(cell.values()) for cell in cells.get("call", [{}] * axis.number)]
    return tuple(Series(stage, _per_call(cells[stage], calls)) for stage in STAGES if stage in cells)


def _per_call(cells: Sequence[Buckets], calls: Sequence[int]) -> tuple[float | None, ...]:
    return tuple(total_ms(cell) / number if number else None for cell, number in zip(cells, calls, strict=True))


def total_ms(buckets: Buckets) -> float:
    """The sum of all that was counted, within 1 %."""
    return sum(count * 2 * GAMMA**index / (GAMMA + 1) for index, count in buckets.items()) / 1e6
