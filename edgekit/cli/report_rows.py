"""The rows of ``edgekit report``: as JSON has them, and as the tables show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from edgekit import trend
from edgekit.cli.output import milliseconds, print_table
from edgekit.store import Store, Summary
from edgekit.trend import Trend
from edgekit_runtime.windows import STAGES

RANGE = ("least", "mean", "most")


def read(store: Store, devices: Iterable[str]) -> list[dict[str, Any]]:
    """Raises: EdgekitError."""
    summaries = store.summaries(devices)
    trends = trend.read(store, summaries)
    return [_row(each, trends.get((each.device, each.app, each.release, each.emulated))) for each in summaries]


def _row(summary: Summary, told: Trend | None) -> dict[str, Any]:
    latency = {"p50": summary.p50, "p95": summary.p95, "p99": summary.p99}
    facts = {"device": summary.device, "app": summary.app, "release": summary.release, "count": summary.count}
    return {
        **facts,
        "emulated": summary.emulated,
        "latency_ms": latency,
        "errors": summary.errors,
        "first_s": summary.first_s,
        "last_s": summary.last_s,
        **_lately(told, summary.emulated),
    }


def _lately(told: Trend | None, emulated: bool) -> dict[str, Any]:
    """An emulator's times are no latencies."""
    conditions = told.conditions.items() if told else ()
    timed = told if told and not emulated else None
    return {
        "trend": timed and {"start_s": timed.span.start_s, "seconds": timed.span.seconds, "p95_ms": timed.p95_ms},
        "stages_ms": timed.stages_ms if timed else {},
        "conditions": {name: dict(zip(RANGE, values, strict=True)) for name, values in conditions},
    }


def show(rows: list[dict[str, Any]]) -> None:
    columns = ("device", "app", "release", "count", "p50 ms", "p95 ms", "p99 ms", "p95 over time", "errors")
    print_table(columns, [_cells(row) for row in rows])
    lately = [row for row in rows if row["stages_ms"] or row["conditions"]]
    if lately:
        stages = [name for name in STAGES if any(name in row["stages_ms"] for row in lately)]
        told = ("device", "app", "release", *(f"{name} p95 ms" for name in stages), "°C", "throttled")
        click.echo()
        print_table(told, [_stage_cells(row, stages) for row in lately])


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    latency = ["emulated" if row["emulated"] else milliseconds(row["latency_ms"][key]) for key in ("p50", "p95", "p99")]
    errors = ", ".join(f"{code} {number}" for code, number in row["errors"].items()) or 0
    line = trend.sparkline(row["trend"]["p95_ms"]) if row["trend"] else ""
    return row["device"], row["app"], row["release"][:19], row["count"], *latency, line, errors


def _stage_cells(row: dict[str, Any], stages: list[str]) -> tuple[object, ...]:
    heat, throttled = row["conditions"].get("temperature_c"), row["conditions"].get("throttled")
    return (
        *(row["device"], row["app"], row["release"][:19]),
        *(milliseconds(row["stages_ms"].get(name)) for name in stages),
        f"{heat['least']:.0f} to {heat['most']:.0f}" if heat else "",
        f"{throttled['mean']:.0%}" if throttled else "",
    )
