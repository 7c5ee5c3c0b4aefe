"""Panels: what the dashboard shows, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RATE = "[$__rate_interval]"
DEVICES = 'device=~"$device"'
MODELS = f'{DEVICES}, model=~"$model"'
UP = f'up{{job="edgekit", {DEVICES}}}'
REQUESTS, ERRORS = (
    f"edgekit_inference_requests_total{{{MODELS}}}",
    (f'edgekit_inference_requests_total{{{MODELS}, outcome="error"}}'),
)
TOOK = f"edgekit_inference_request_duration_seconds_bucket{{{MODELS}}}"
STAGES = "edgekit_inference_stage_duration_seconds"
HITS = f"edgekit_inference_cache_hits_total{{{MODELS}}}"
BUDGET = f"edgekit_model_latency_budget_seconds{{{MODELS}}}"


@dataclass(frozen=True)
class Query:
    """``legend`` names a series by its labels, as ``{{device}}``."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """``unit`` in Grafana's words; ``about`` is told beside the title; ``width`` of 24; ``alarm``: red from it on."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    about: str = ""
    kind: Literal["timeseries", "stat", "table", "state-timeline"] = "timeseries"
    width: int = 12
    stacked: bool = False
    alarm: float | None = None


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


def _quantile(share: float, by: str) -> str:
    return f"histogram_quantile({share}, {_rate(TOOK, f'{by}, le')})"


def _rate(series: str, by: str = "") -> str:
    return f"sum {f'by ({by}) ' if by else ''}(rate({series}{RATE}))"


def _share(part: str, whole: str, by: str = "") -> str:
    return f"{_rate(part, by)} / {_rate(whole, by)}"


def _legend(labels: str) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in labels.split(", "))


def _by(labels: str, expr: str) -> tuple[Query]:
    """A series for each combination of labels, named by them."""
    return (Query(expr, _legend(labels)),)


def _stat(title: str, unit: str, expr: str, about: str, alarm: float | None = None) -> Panel:
    return Panel(title, unit, (Query(expr),), about, "stat", 4, alarm=alarm)


def _percentiles(by: str) -> tuple[Query, ...]:
    budget = Query(f"max by ({by}) ({BUDGET})", f"{_legend(by)} budget")
    return (*(Query(_quantile(each / 100, by), f"{_legend(by)} p{each}") for each in (50, 95, 99)), budget)


_READY, _DEGRADED = f"edgekit_model_ready{{{MODELS}}}", f"edgekit_model_degraded{{{MODELS}}}"
_BY_STAGE = _share(f"{STAGES}_sum{{{MODELS}}}", f"{STAGES}_count{{{MODELS}}}", "model, version, stage")
_FREQUENCY = f"edgekit_device_frequency_hertz{{{DEVICES}}} / edgekit_device_frequency_max_hertz{{{DEVICES}}}"

FLEET = (
    _stat("Devices that answer", "none", f"sum({UP})", "By the last scrape."),
    _stat("Devices that do not", "none", f"sum(1 - {UP})", "By the last scrape.", 1),
    _stat("Models not ready", "none", f"sum(1 - {_READY})", "They are to be served and are not.", 1),
    _stat("Models degraded", "none", f"sum({_DEGRADED})", "They run by less than their bundle demands.", 1),
    _stat("Requests", "reqps", _rate(REQUESTS), "Of all models."),
    _stat("Errors", "percentunit", _share(ERRORS, REQUESTS), "Requests that are wrong themselves do not count.", 0.01),
    Panel(
        "Releases",
        "none",
        (Query(f"edgekit_model_info{{{MODELS}}}"),),
        "What each device serves, and by which engine.",
        kind="table",
        width=24,
    ),
    Panel(
        "Ready",
        "none",
        _by("device, model", _READY),
        "Whether a model that is to be served is.",
        kind="state-timeline",
    ),
    Panel("Requests by outcome", "reqps", _by("outcome", _rate(REQUESTS, "outcome")), stacked=True),
)
LATENCY = (
    Panel(
        "Percentiles and budget",
        "s",
        _percentiles("model, version"),
        "Of whole requests, their time in the queue included; the budget is of the 95th.",
    ),
    Panel(
        "p95 by device",
        "s",
        _by("device, model, version", _quantile(0.95, "device, model, version")),
    ),
)
WORK = (
    Panel(
        "Mean by stage",
        "s",
        _by("model, version, stage", _BY_STAGE),
        "In the queue, until the tensors lay ready, in the model, until the answer was written.",
        stacked=True,
    ),
    Panel(
        "Queue",
        "none",
        _by("device, model", f"max by (device, model) (edgekit_inference_queue_length{{{MODELS}}})"),
        "Requests that wait for a model; 64 may.",
    ),
    Panel(
        "Answers from the cache",
        "percentunit",
        _by("device, model", _share(HITS, REQUESTS, "device, model")),
        "Share of the requests, where the server keeps answers (--cache-mib).",
    ),
    Panel(
        "Failures",
        "none",
        _by("device, model", f"increase(edgekit_model_failures_total{{{MODELS}}}{RATE})"),
        "Processes of a model that crashed, hung or could not load it.",
    ),
)
CONDITIONS = (
    Panel("Temperature", "celsius", _by("device", f"edgekit_device_temperature_celsius{{{DEVICES}}}")),
    Panel(
        "Held back",
        "percentunit",
        _by("device, kind", f"avg_over_time(edgekit_device_throttled{{{DEVICES}}}{RATE})"),
        "Share of the time: by heat, or by a supply that is too weak (under_voltage).",
    ),
    Panel("Frequency", "percentunit", _by("device", _FREQUENCY), "Of the most that the processor can have."),
    Panel("Power", "watt", _by("device", f"edgekit_device_power_watts{{{DEVICES}}}"), "Where the board measures it."),
    Panel("Memory available", "bytes", _by("device", f"edgekit_device_memory_available_bytes{{{DEVICES}}}")),
    Panel(
        "Memory of the server",
        "bytes",
        _by("device", f'process_resident_memory_bytes{{job="edgekit", {DEVICES}}}'),
        "Of its front; each model has a process of its own.",
    ),
)
ROWS = (
    Row("Fleet", FLEET),
    Row("Latency by release", LATENCY),
    Row("Stages", WORK),
    Row("Conditions", CONDITIONS),
)
