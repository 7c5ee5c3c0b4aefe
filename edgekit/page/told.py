"""Told: what is to be seen on each plot, in a sentence or two."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from edgekit.counted import counted
from edgekit.drift import LARGE, MODERATE
from edgekit.page import words
from edgekit.page.axis import Axis
from edgekit.page.plot import Series
from edgekit.page.rows import Row


def releases(found: Sequence[Row]) -> str:
    """The newest beside the one before it. ``found``: newest first."""
    timed = [row for row in found if row.p95 is not None]
    if not timed:
        return "No call was timed."
    now = timed[0]
    line = f"{words.release(now.name)}, the newest release, has a p95 of {words.ms(now.p95)}"
    if len(timed) == 1:
        return f"{line} over {counted(now.count, 'call')}."
    before = timed[1]
    return f"{line}, {_beside(now.p95, before.p95)} {words.release(before.name)} before it ({words.ms(before.p95)})."


def _beside(now: float | None, before: float | None) -> str:
    change = (now or 0.0) / (before or 1.0) - 1
    if abs(change) < 0.02:
        return "the same as"
    return f"{abs(change):.0%} {'more' if change > 0 else 'less'} than".replace("%", " %")


def devices(found: Sequence[Row]) -> str:
    """The slowest beside the one in the middle. ``found``: slowest first."""
    timed = [row for row in found if row.p95 is not None]
    if not timed:
        return "No call was timed."
    slowest, middle = timed[0], statistics.median(row.p95 or 0.0 for row in timed)
    line = f"{words.cut(slowest.name)} is the slowest, with a p95 of {words.ms(slowest.p95)}"
    if len(timed) == 1:
        return f"{words.cut(slowest.name)} has a p95 of {words.ms(slowest.p95)}."
    return f"{line}; the device in the middle of {len(timed)} has {words.ms(middle)}."


def temperature(found: Sequence[Series], axis: Axis) -> str:
    hottest, at = peak(found[-1], axis)
    return f"The hottest device reached {words.celsius(hottest)} ({words.hour(at)}). The line is the mean of all."


def limits(found: Sequence[Series], axis: Axis) -> str:
    """The mean and the worst of each kind."""
    if not any(value for series in found for value in series.values):
        return "No device was held back."
    told = []
    for series in found:
        known = [value for value in series.values if value is not None]
        worst, at = peak(series, axis)
        mean = words.share(sum(known) / len(known) / 100)
        told.append(f"{series.name} {mean} of the time, at worst {words.share(worst / 100)} ({words.hour(at)})")
    return _sentence("; ".join(told))


def stages(found: Sequence[Series]) -> str:
    means = {series.name: _mean(series.values) for series in found}
    whole = sum(means.values())
    if not whole:
        return "No stage was timed."
    told = ", ".join(f"{name} {words.share(mean / whole)}" for name, mean in means.items())
    return f"Of a mean call's {words.ms(whole)}: {told}."


def errors(found: Sequence[Series], calls: int, axis: Axis) -> str:
    counts = {series.name: int(sum(value or 0 for value in series.values)) for series in found}
    failed = sum(counts.values())
    each = Series("", tuple(sum(value or 0 for value in at) for at in zip(*(s.values for s in found), strict=True)))
    most, at = peak(each, axis)
    told = ", ".join(f"{words.cut(code)} {count:,}" for code, count in counts.items())
    share = words.share(failed / (failed + calls))
    return f"{counted(failed, 'call')} failed, {share}: {told}. Most, {most:,.0f}, at {words.hour(at)}."


def shares(found: Sequence[Series]) -> str:
    """The last of each."""
    last = ((s.name, next((v for v in reversed(s.values) if v is not None), 0.0)) for s in found)
    return _sentence(", ".join(f"{name} {words.share(value / 100)}" for name, value in last), " at last")


def shifts(found: Sequence[Series], axis: Axis) -> str:
    """The worst, beside the levels at which it is worth a look. ``found``: the worst first."""
    most, at = peak(found[0], axis)
    how = "much" if most >= LARGE else "somewhat" if most >= MODERATE else "hardly"
    line = f"{words.cut(found[0].name)} moved most, to {most:.2f} at {words.hour(at)}: {how}"
    return _sentence(f"{line} ({MODERATE} is worth a look, {LARGE} is another population)")


def peak(series: Series, axis: Axis) -> tuple[float, int]:
    """The most, and when."""
    known = [(value, -time) for value, time in zip(series.values, axis.times, strict=True) if value is not None]
    value, time = max(known, default=(0.0, -axis.start_s))
    return value, -time


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0


def _sentence(text: str, end: str = "") -> str:
    return f"{text[:1].upper()}{text[1:]}{end}."
