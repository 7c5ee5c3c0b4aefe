"""Look: the dashboard's page as it is now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgekit.counted import counted
from edgekit.dashboard import rollouts, rounds
from edgekit.dashboard.fleet_map import HEALTHS, Map, maps
from edgekit.page import render
from edgekit.page.gather import lately

if TYPE_CHECKING:
    from edgekit.fleet import Device
    from edgekit.store import Store

PLOTS = ("releases", "limits", "errors")
"""What is told here of each app; the report has all."""


def look(store: Store, devices: Callable[[], Sequence[Device]], now_s: float) -> str:
    """The page, of the last day. Raises: EdgekitError, ExtraNotInstalled."""
    found = lately(store, now_s)
    drawn = maps(devices(), found.fleet, found.alerts, now_s)
    shown = render.shown_of(found, PLOTS)
    facts = {"title": title(drawn), "found": found, "maps": drawn, "healths": HEALTHS}
    template = render.environment("edgekit.dashboard").get_template("dashboard.html")
    return template.render(facts, **shown, rollouts=rollouts.last(store), rounds=rounds.last(store))


def title(drawn: Sequence[Map]) -> str:
    """What a tab shows: how many devices have what is worst."""
    counts = [(health, sum(each.healths.get(health, 0) for each in drawn)) for health in ("critical", "warning")]
    worst = ", ".join(f"{count} {health}" for health, count in counts if count)
    names = {cell.device for each in drawn for group in each.groups for cell in group.cells}
    return f"{worst or counted(len(names), 'device')} – edgekit"
