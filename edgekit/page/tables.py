"""Tables: what was counted of an app, of each of its releases and of each of its devices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgekit.page.axis import axis as axis_of
from edgekit.page.gather import Found
from edgekit.page.rows import Row, newest_first, rows, slowest_first

if TYPE_CHECKING:
    from edgekit.store import Slice


@dataclass(frozen=True)
class Tables:
    """What was counted in all, of releases (the newest first) and of devices (the slowest first)."""

    each: list[Slice]
    whole: Row
    releases: list[Row]
    devices: list[Row]


def of_app(whole: list[Slice], each: list[Slice], found: Found) -> Tables:
    """Of the slices of all devices together, and of each. Emulated calls are not in the former, but count as calls."""
    whole = whole or each
    axis, app = axis_of(whole), each[0].app
    first, users = _firsts(app, found), _users(app, each, found)
    releases = [
        replace(row, first_s=first.get(row.name, row.first_s), devices=len(users.get(row.name, ())))
        for row in rows(whole, axis, lambda one: one.release)
    ]
    last = {seen.device: seen.last_s for seen in found.fleet if seen.app == app}
    by_device = rows(each, axis_of(each), lambda one: one.device)
    devices = [replace(row, last_s=last.get(row.name, row.last_s)) for row in by_device]
    [total] = rows(whole, axis, lambda one: one.app)
    total = replace(total, devices=len(set().union(*users.values())))
    return Tables(each, total, newest_first(releases), slowest_first(devices))


def _firsts(app: str, found: Found) -> dict[str, float]:
    """When each release was seen first, also before what is shown."""
    first: dict[str, float] = {}
    for summary in found.summaries:
        if summary.app == app:
            first[summary.release] = min(summary.first_s, first.get(summary.release, summary.first_s))
    return first


def _users(app: str, each: list[Slice], found: Found) -> dict[str, set[str]]:
    """The devices of each release; a slice may be of a day that began before what is shown."""
    here = {summary.device for summary in found.summaries if summary.app == app and summary.last_s >= found.start_s}
    users: dict[str, set[str]] = {}
    for one in each:
        if one.device in here:
            users.setdefault(one.release, set()).add(one.device)
    return users
