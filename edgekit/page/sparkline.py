"""Sparkline: a line without axes, as the points of an SVG."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 96, 20
MOST_POINTS = 32


def points(values: Sequence[float | None]) -> str:
    """For the ``d`` of a path: broken where nothing was measured, zero at the bottom."""
    shown = thinned(values)
    top = max((value for value in shown if value is not None), default=0.0) or 1.0
    step = WIDTH / max(1, len(shown) - 1)
    told, drawn = [], False
    for i, value in enumerate(shown):
        if value is not None:
            told.append(f"{'L' if drawn else 'M'}{i * step:.0f} {HEIGHT - 1 - value / top * (HEIGHT - 2):.0f}")
        drawn = value is not None
    return "".join(told)


def thinned(values: Sequence[float | None]) -> list[float | None]:
    """At most MOST_POINTS: of each run of values the most, as a peak is what one looks for."""
    run = -(-len(values) // MOST_POINTS) or 1
    runs = ([v for v in values[i : i + run] if v is not None] for i in range(0, len(values), run))
    return [max(known, default=None) for known in runs]
