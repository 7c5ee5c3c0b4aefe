"""Views: what a page shows of each app."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgekit.page import words
from edgekit.page.charts import charts
from edgekit.page.gather import Found
from edgekit.page.plot import Plot
from edgekit.page.rows import Row
from edgekit.page.tables import Tables, of_app

if TYPE_CHECKING:
    from edgekit.store import Slice

MOST_APPS = 6
MOST_RELEASES = 12
MOST_DEVICES = 50


@dataclass(frozen=True)
class View:
    """An app: its figures, its plots, its releases (newest first) and devices (slowest first), and how many more."""

    key: str
    app: str
    figures: tuple[tuple[str, str], ...]
    plots: tuple[Plot, ...]
    releases: tuple[Row, ...]
    more_releases: int
    devices: tuple[Row, ...]
    more_devices: int

    def only(self, names: Collection[str]) -> View:
        """With these plots."""
        return replace(self, plots=tuple(plot for plot in self.plots if plot.key.partition("-")[2] in names))


def views(found: Found) -> list[View]:
    """Of the MOST_APPS that are called most. (A slice may be of a day that began before what is shown.)"""
    whole, parts, each = (by_app(slices) for slices in (found.whole, found.parts, found.each))
    fresh = {summary.app for summary in found.summaries if summary.last_s >= found.start_s}
    ranked = sorted(fresh & each.keys(), key=lambda app: (-calls(each[app]), app))[:MOST_APPS]
    none: list[Slice] = []
    tables = {app: of_app(whole.get(app, none), each[app], found) for app in ranked}
    return [_view(f"app{i}", whole.get(app, none), parts.get(app, none), tables[app]) for i, app in enumerate(ranked)]


def by_app(slices: Iterable[Slice]) -> dict[str, list[Slice]]:
    apps: dict[str, list[Slice]] = {}
    for one in slices:
        apps.setdefault(one.app, []).append(one)
    return apps


def calls(slices: Iterable[Slice]) -> int:
    return sum(sum(one.buckets.values()) for one in slices)


def _view(key: str, whole: list[Slice], parts: list[Slice], tables: Tables) -> View:
    """``key`` begins the names of its plots."""
    releases, devices = tables.releases, tables.devices
    plots = charts(whole, parts, tables)
    return View(
        key, tables.whole.name, _figures(tables.whole),
        tuple(replace(plot, key=f"{key}-{plot.key}") for plot in plots),
        tuple(releases[:MOST_RELEASES]), len(releases[MOST_RELEASES:]),
        tuple(devices[:MOST_DEVICES]), len(devices[MOST_DEVICES:]),
    )  # fmt: skip


def _figures(whole: Row) -> tuple[tuple[str, str], ...]:
    """Label and value, the most asked for first."""
    figures = [("p50", words.ms(whole.p50)), ("p95", words.ms(whole.p95)), ("p99", words.ms(whole.p99))]
    figures += [("calls", words.number(whole.count)), ("failed", words.share(whole.failed))]
    if whole.throttled is not None:
        figures.append(("throttled", words.share(whole.throttled)))
    if whole.hottest is not None:
        figures.append(("hottest", words.celsius(whole.hottest)))
    return (*figures, ("devices", words.number(whole.devices)))
