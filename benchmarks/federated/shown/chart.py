"""Chart: accuracy over rounds as the paths of an SVG; colours and strokes are those of every edgekit page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.federated.shown.part import Figure

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, ABOVE, BELOW = 48, 16, 10, 34
STEP = 0.1
"""Between two lines of the grid: ten points of accuracy."""
MOST_TICKS = 8


@dataclass(frozen=True)
class Tick:
    at: float
    told: str


@dataclass(frozen=True)
class Chart:
    """``lines``: name, ``d`` of its path, and its values. ``rounds`` and ``levels``: ticks of both axes, in pixels."""

    figure: Figure
    lines: tuple[tuple[str, str, tuple[float, ...]], ...]
    rounds: tuple[Tick, ...]
    levels: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BELOW


def chart(figure: Figure) -> Chart:
    """From 0 to the next tenth above all that was reached."""
    values = {name: course.accuracies for name, course in figure.courses.items()}
    last = max((len(each) - 1 for each in values.values()), default=1)
    top = max(STEP, math.ceil(max((max(each) for each in values.values()), default=1.0) / STEP) * STEP)
    lines = tuple((name, path(each, last, top), each) for name, each in values.items())
    every = math.ceil(last / MOST_TICKS)
    rounds = tuple(Tick(x(number, last), str(number)) for number in range(0, last + 1, every))
    levels = tuple(Tick(y(level * STEP, top), f"{level * STEP:.0%}") for level in range(round(top / STEP) + 1))
    return Chart(figure, lines, rounds, levels)


def path(values: Sequence[float], last: int, top: float) -> str:
    """For the ``d`` of a path: a point for each round from 0 to ``last``, with ``top`` uppermost."""
    return "".join(f"{'L' if n else 'M'}{x(n, last):.1f} {y(value, top):.1f}" for n, value in enumerate(values))


def x(number: int, last: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * number / max(1, last)


def y(value: float, top: float) -> float:
    return ABOVE + (HEIGHT - ABOVE - BELOW) * (1 - value / top)
