"""What rules say of devices, for the commands that have just heard from them: judged, done where due, and told.

To be imported before a store is opened: that makes the tables of all that is imported by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from edgekit import fanout, fleet
from edgekit.cli.connect import connected, show_failure
from edgekit.fleet import Device
from edgekit.rollout_store import Book
from edgekit.rules import enforce, rulebook, watch
from edgekit.rules.deed_store import Deeds
from edgekit.rules.deeds import ROLL_BACK, Due
from edgekit.rules.enforce import Outcome
from edgekit.rules.judging import Rule
from edgekit.rules.watch import Watched
from edgekit.store import Alert, Store

REFUSED = 3


@dataclass(frozen=True)
class Judged:
    """What the rules found, and what came of what was due."""

    watched: Watched
    outcomes: tuple[Outcome, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether the answer is no: a rule has acted, or a critical alert is open."""
        return self.watched.critical or bool(self.outcomes)

    def as_dict(self) -> dict[str, Any]:
        return {
            "alerts": [asdict(alert) for alert in self.watched.open],
            "closed": [asdict(alert) for alert in self.watched.closed],
            "acted": [
                {"device": o.due.device, "app": o.due.app, "release": o.due.release, "rule": o.due.rule}
                | {"what": o.what, "told": o.told, "error": o.error}
                for o in self.outcomes
            ],
        }

    def show(self) -> None:
        """A line each."""
        for alert in self.watched.open:
            click.echo(f"{alert.level}: {said(alert)}")
        for alert in self.watched.closed:
            click.echo(f"closed: {said(alert)}")
        for outcome in self.outcomes:
            click.echo(f"{outcome.due.device}: {outcome.told}" if outcome.what != "held" else outcome.told)
            if outcome.error:
                show_failure(outcome.due.device, outcome.error)


def said(alert: Alert) -> str:
    """One line."""
    about = " ".join(filter(None, (alert.app, alert.release[:19])))
    return f"{alert.device}: {about}: {alert.rule}: {alert.told}"


def in_force() -> tuple[Rule, ...]:
    """The rules of this folder. Raises: ConfigError."""
    return rulebook.load(Path.cwd(), fleet.load(Path.cwd()))


def judged(
    store: Store, rules: Sequence[Rule], devices: Sequence[Device], accept: bool, tell: Callable[[str], None]
) -> Judged:
    """Judge devices that were heard from; hold and roll back where a rule says so. Raises: EdgekitError."""
    watched = watch.watch(store, rules, [device.name for device in devices], time.time())
    known, deeds = {device.name: device for device in devices}, Deeds(store)
    held = enforce.hold(watched.due, Book(store))

    def back(due: Due) -> Outcome | None:
        tell(f"{due.device}: rolling back {due.app}")
        return enforce.roll_back(due, known[due.device], deeds, lambda device: connected(device, accept))

    done = fanout.at_once(back, [due for due in watched.due if due.do == ROLL_BACK])
    return Judged(watched, (*held, *filter(None, done)))
