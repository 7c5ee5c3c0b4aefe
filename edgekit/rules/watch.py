"""Watch: what devices told, judged by the rules: alerts are opened and closed in the store; what is due is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from edgekit.advice.serving_store import Servings
from edgekit.rules import clock_store, deeds, judging
from edgekit.rules.deed_store import Deeds
from edgekit.rules.deeds import Due
from edgekit.rules.judging import DAY_S, Evidence, Rule
from edgekit.rules.metrics import HOUR_S
from edgekit.store import Alert, Seen, Slice, Store

BEFORE_S = 30 * DAY_S
"""What the release before showed longer ago is no measure for the next one."""


@dataclass(frozen=True)
class Watched:
    """``open``: all alerts of the devices, critical ones first; ``raised`` and ``closed``: what is new about them."""

    open: tuple[Alert, ...]
    raised: tuple[Alert, ...] = ()
    closed: tuple[Alert, ...] = ()
    due: tuple[Due, ...] = ()

    @property
    def critical(self) -> bool:
        return any(alert.level == "critical" for alert in self.open)


def watch(store: Store, in_force: Sequence[Rule], devices: Sequence[str], now_s: float) -> Watched:
    """Judge some devices by all rules. Raises: EdgekitError when the store refuses."""
    before = opened(store, devices)
    evidence, found = look(store, in_force, devices, now_s)
    keys = {_key(alert) for alert in found}
    closed = [alert for alert in before if _key(alert) not in keys]
    raised = store.raise_alerts(found)
    store.close_alerts(closed, now_s)
    todo = deeds.due(found, in_force, evidence, Deeds(store).done(devices))
    return Watched(_sorted(opened(store, devices)), _sorted(raised), tuple(closed), tuple(todo))


def look(store: Store, in_force: Sequence[Rule], devices: Sequence[str], now_s: float) -> tuple[Evidence, list[Alert]]:
    """What devices told, and what the rules make of it; nothing is changed. Raises: EdgekitError."""
    fleet = [seen for seen in store.fleet() if seen.device in set(devices)]
    lately = [each for days in _by_day(fleet) for each in _lately(store, days)]
    before = store.slices(now_s - BEFORE_S, now_s + DAY_S, seconds=int(DAY_S), devices=devices)
    servings, doubtful = Servings(store).all(devices), clock_store.doubtful(store, devices, now_s)
    evidence = Evidence(lately, before, fleet, servings, doubtful)
    return evidence, judging.judge(in_force, evidence, now_s)


def _by_day(fleet: Sequence[Seen]) -> list[list[Seen]]:
    """Those that told something last on the same day: so nobody's last words make all others be read from then on."""
    order = sorted(fleet, key=lambda seen: seen.last_s)
    return [list(days) for _, days in groupby(order, key=lambda seen: seen.last_s // DAY_S)]


def _lately(store: Store, fleet: Sequence[Seen]) -> list[Slice]:
    """What they told in the day before their last words, of these apps."""
    start_s, end_s, own = fleet[0].last_s - DAY_S, fleet[-1].last_s + HOUR_S, {(one.device, one.app) for one in fleet}
    told = store.slices(start_s, end_s, devices=sorted({device for device, _ in own}))
    return [each for each in told if (each.device, each.app) in own]


def opened(store: Store, devices: Sequence[str]) -> tuple[Alert, ...]:
    """The open alerts of devices. Raises: EdgekitError."""
    names = set(devices)
    return _sorted([alert for alert in store.alerts() if alert.device in names])


def _sorted(alerts: Sequence[Alert]) -> tuple[Alert, ...]:
    return tuple(sorted(alerts, key=lambda each: (each.level != "critical", each.device, each.app, each.rule)))


def _key(alert: Alert) -> tuple[str, str, str, str]:
    return alert.device, alert.app, alert.release, alert.rule
