"""Charts: the plots of an app, those that there is anything to be seen on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit.page import climate, faults, shifts, stages, told, words
from edgekit.page.axis import axis as axis_of
from edgekit.page.latency import bounded, lines, measured, percentiles
from edgekit.page.plot import BAND, BARS, LINES, STACK, Plot
from edgekit.page.tables import Tables

if TYPE_CHECKING:
    from edgekit.store import Slice


def charts(whole: list[Slice], parts: list[Slice], tables: Tables) -> list[Plot]:
    """Of the calls and the stages of an app; what explains a latency stands under it."""
    found = [*_releases(whole, tables), *_devices(tables), *_climate(whole), *_stages(whole, parts)]
    return [*found, *_errors(whole, tables), *_drift(whole), *_quality(whole)]


def _releases(whole: list[Slice], tables: Tables) -> list[Plot]:
    axis = axis_of(whole)
    known = lines(measured(whole), axis, lambda one: one.release)
    newest = [row.name for row in tables.releases if row.name in known]
    drawn = [replace(line, name=words.release(line.name)) for line in bounded(known, newest, "{} older")]
    line = told.releases(tables.releases)
    return [Plot("releases", "Latency by release", line, "ms", LINES, axis.times, percentiles(drawn))] if known else []


def _devices(tables: Tables) -> list[Plot]:
    axis, each = axis_of(tables.each), tables.each
    known = lines(measured(each), axis, lambda one: one.device)
    if len(known) < 2:
        return []
    slowest = [row.name for row in tables.devices if row.name in known]
    drawn = [replace(line, name=words.cut(line.name)) for line in bounded(known, slowest, "the other {}")]
    line = told.devices(tables.devices)
    return [Plot("devices", "Latency by device", line, "ms", LINES, axis.times, percentiles(drawn))]


def _climate(whole: list[Slice]) -> list[Plot]:
    axis = axis_of(whole)
    warm, held, found = climate.temperature(whole, axis), climate.limits(whole, axis), []
    if warm:
        line = told.temperature(warm, axis)
        found.append(Plot("temperature", "Temperature", line, "°C", BAND, axis.times, {"": warm}))
    if held:
        found.append(Plot("limits", "Throttling", told.limits(held, axis), "%", LINES, axis.times, {"": held}))
    return found


def _stages(whole: list[Slice], parts: list[Slice]) -> list[Plot]:
    axis = axis_of(whole)
    means = stages.means((*whole, *parts), axis)
    line = told.stages(means)
    return [Plot("stages", "Stages of a mean call", line, "ms", STACK, axis.times, {"": means})] if means else []


def _errors(whole: list[Slice], tables: Tables) -> list[Plot]:
    axis = axis_of(whole)
    failed = faults.errors(whole, axis)
    if not failed:
        return []
    line = told.errors(failed, tables.whole.count, axis)
    return [Plot("errors", "Errors", line, "", BARS, axis.times, {"": failed})]


def _drift(whole: list[Slice]) -> list[Plot]:
    axis = axis_of(whole)
    known = shifts.shifts(whole, axis)
    line = told.shifts(known, axis) if known else ""
    return [Plot("drift", "Drift from calibration", line, "PSI", LINES, axis.times, {"": known})] if known else []


def _quality(whole: list[Slice]) -> list[Plot]:
    axis = axis_of(whole)
    known = faults.shares(whole, axis)
    line = told.shares(known) if known else ""
    return [Plot("quality", "Clipped, cached, agreed", line, "%", LINES, axis.times, {"": known})] if known else []
