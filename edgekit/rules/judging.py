"""Rules: what devices must not show of a release, and what is done when one does. Values in, alerts out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgekit.advice.serving import Served
from edgekit.rules.metrics import HOUR_S, METRICS, Looked, Reading
from edgekit.store.facts import Alert, Seen, Slice

Level = Literal["warning", "critical"]
Deed = Literal["alert", "hold", "roll back"]
DAY_S = 24 * HOUR_S
WEEK_S = 7 * DAY_S
SILENT = "silent_h"
CALLS = 100
"""Below so many, one bad call in a hundred is not even one."""


@dataclass(frozen=True)
class Rule:
    """Holds against a release on a device when its metric is ``above`` or ``below`` a threshold, beyond chance.

    ``during_s``: what is looked at, back from the last that the device told, in whole hours, of more than a day in
    whole days; ``least``: how many calls
    that must be of. ``app``: the only one that it is about; ``devices``: the only ones, None for all.
    """

    name: str
    metric: str
    above: float | None = None
    below: float | None = None
    during_s: float = HOUR_S
    least: int = CALLS
    level: Level = "warning"
    do: Deed = "alert"
    app: str = ""
    devices: frozenset[str] | None = None

    @property
    def threshold(self) -> float:
        return self.above if self.above is not None else self.below or 0.0

    def broken(self, reading: Reading) -> bool:
        """Whether it holds, however the calls fell."""
        if reading.number < self.least:
            return False
        return reading.low > self.threshold if self.above is not None else reading.high < self.threshold

    def about(self, seen: Seen) -> bool:
        return self.app in ("", seen.app) and (self.devices is None or seen.device in self.devices)


@dataclass(frozen=True)
class Evidence:
    """What devices told: each device's newest release of an app, slices of an hour of its last day and a bit, and of a
    day from longer before.

    ``doubtful``: devices whose clocks were wrong.
    """

    slices: Sequence[Slice]
    before: Sequence[Slice]
    fleet: Sequence[Seen]
    servings: Sequence[Served] = ()
    doubtful: frozenset[str] = frozenset()


Key = tuple[str, str, str]


def judge(rules: Sequence[Rule], evidence: Evidence, now_s: float) -> list[Alert]:
    """An alert for each rule that a device's newest release of an app breaks.

    A worse value never ends one: only a better one does, or another release that the device has gone to.
    """
    lately, longer = _by_release(evidence.slices), _by_release(evidence.before)
    served = {(each.device, each.app, each.release): each for each in evidence.servings}
    live = {(each.device, each.app): each.release for each in evidence.servings if each.live}
    found = []
    for seen in evidence.fleet:
        key = (seen.device, seen.app, seen.release)
        before = _before(longer, seen)
        left = live.get(key[:2], seen.release) != seen.release
        for rule in (each for each in rules if each.about(seen) and not (left and each.metric != SILENT)):
            told = (longer if rule.during_s > DAY_S else lately).get(key, [])
            slices = [each for each in told if _ends(each) > seen.last_s - rule.during_s]
            found += _alerts(rule, Looked(seen, now_s, slices, before, served.get(key)))
    return found


def _alerts(rule: Rule, looked: Looked) -> list[Alert]:
    metric, seen = METRICS[rule.metric], looked.seen
    reading = metric.read(looked)
    if reading is None or not rule.broken(reading):
        return []
    side = "above" if rule.above is not None else "below"
    calls = f", of {reading.number} calls" if rule.least else ""
    told = f"{metric.told.format(reading.value)} ({side} {rule.threshold:g}{calls})"
    return [
        Alert(
            looked.now_s,
            seen.device,
            seen.app,
            seen.release,
            rule.name,
            rule.level,
            reading.value,
            rule.threshold,
            told,
        )
    ]


def _by_release(slices: Iterable[Slice]) -> dict[Key, list[Slice]]:
    found: dict[Key, list[Slice]] = {}
    for each in slices:
        found.setdefault((each.device, each.app, each.release), []).append(each)
    return found


def _before(known: Mapping[Key, list[Slice]], seen: Seen) -> list[Slice]:
    """The last week of the release that a device served last before it began with its newest one."""
    others = [
        [each for each in slices if each.start_s < seen.first_s]
        for key, slices in known.items()
        if key[:2] == (seen.device, seen.app) and key[2] != seen.release
    ]
    last = max(filter(None, others), key=lambda slices: max(map(_ends, slices)), default=[])
    end = max(map(_ends, last), default=0.0)
    return [each for each in last if _ends(each) > end - WEEK_S]


def _ends(each: Slice) -> float:
    return each.start_s + each.seconds
