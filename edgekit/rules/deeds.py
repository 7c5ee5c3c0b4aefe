"""Deeds: what alerts call for beyond being told: a rollout held, a device taken back. Values in, values out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edgekit.rules.judging import Deed, Evidence, Rule
from edgekit.rules.metrics import HOUR_S
from edgekit.store.facts import Alert, Seen, Slice
from edgekit_runtime.histogram import percentile

FRESH_S = 24 * HOUR_S
"""A device that has told nothing for so long may run something else by now."""
AHEAD_S = 600.0
BUSIEST = 1024
"""Sessions on one device; what would have kept more of them busy all the time was not measured."""
HOLD, ROLL_BACK = "hold", "roll back"


@dataclass(frozen=True)
class Due:
    """``do`` is hold or roll back; ``reason`` names the rule, and is written down where it is done."""

    do: Deed
    rule: str
    device: str
    app: str
    release: str
    reason: str


@dataclass(frozen=True)
class Done:
    """A device that was taken back by a rule: from ``release`` to ``back``, "" where it did not come to that."""

    device: str
    app: str
    release: str
    rule: str
    state: str
    back: str = ""


def due(alerts: Sequence[Alert], rules: Sequence[Rule], evidence: Evidence, done: Collection[Done]) -> list[Due]:
    """What is to be done about alerts of now.

    A device is taken back from a release at most once, never from the one that a rule took it back to, and only on
    what it told lately and can have measured.
    """
    do = {rule.name: rule.do for rule in rules}
    known = {(seen.device, seen.app): seen for seen in evidence.fleet}
    found: dict[tuple[str, ...], Due] = {}
    for alert in sorted(alerts, key=lambda each: each.level != "critical"):
        what, seen = do.get(alert.rule, "alert"), known.get((alert.device, alert.app))
        if what == "alert" or seen is None or not _plausible(seen, evidence, alert.at_s):
            continue
        if what == ROLL_BACK and _has_been(alert, done):
            continue
        each = Due(what, alert.rule, alert.device, alert.app, alert.release, f"rule {alert.rule}: {alert.told}")
        found.setdefault((what, alert.app, alert.release, alert.device if what == ROLL_BACK else ""), each)
    return list(found.values())


def _has_been(alert: Alert, done: Collection[Done]) -> bool:
    own = [each for each in done if (each.device, each.app) == (alert.device, alert.app)]
    return any(alert.release in (each.release, each.back) for each in own)


def _plausible(seen: Seen, evidence: Evidence, now_s: float) -> bool:
    """Whether a device's clock and counts can be true, and are of late."""
    if seen.device in evidence.doubtful or not now_s - FRESH_S <= seen.last_s <= now_s + AHEAD_S:
        return False
    own = [s for s in evidence.slices if (s.device, s.app, s.release) == (seen.device, seen.app, seen.release)]
    return all(_busy(each) <= BUSIEST for each in own)


def _busy(each: Slice) -> float:
    """How many sessions were busy on average."""
    spent_ns = sum(percentile({index: 1}, 0.5) * number for index, number in each.buckets.items())
    return spent_ns / 1e9 / each.seconds
