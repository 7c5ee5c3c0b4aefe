"""Points: windows as OpenTelemetry's data model has them, each counting what came in its own time alone (delta).

Names are those of the semantic conventions (https://opentelemetry.io/docs/specs/semconv/) where there are some, else
they begin with ``edgekit.``. Counters and conditions of unknown names stay out: a device may think of any.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from edgekit import drift
from edgekit.export.arrivals import Arrival
from edgekit.store.tally import Tally
from edgekit_runtime.histogram import GAMMA

SCALE = 6
"""Of the histograms: a bucket is 1.1 % wide, and so the error at most 1.6 %."""
SCOPE = InstrumentationScope("edgekit")
DELTA = AggregationTemporality.DELTA
DURATION, STAGE, ERRORS = "edgekit.inference.duration", "edgekit.inference.stage.duration", "edgekit.inference.errors"
THROTTLED, DRIFT = "edgekit.device.throttled", "edgekit.drift"
_CONDITIONS = {
    "temperature_c": ("hw.temperature", "Cel", 1.0),
    "power_w": ("hw.host.power", "W", 1.0),
    "frequency_mhz": ("hw.cpu.speed", "Hz", 1e6),
    "gpu_frequency_mhz": ("edgekit.gpu.speed", "Hz", 1e6),
    "memory_available_mib": ("edgekit.memory.available", "By", float(1 << 20)),
}
_HELD_BACK = ("throttled", "under_voltage", "frequency_capped", "soft_temperature_limit")
_COUNTERS = {
    f"{what}_{how}": f"edgekit.{what}.{how}"
    for what, hows in (
        ("cache", ("hits", "misses")),
        ("inputs", ("checked", "clipped")),
        ("outputs", ("checked", "clipped")),
        ("shadow", ("runs", "agreed")),
    )
    for how in hows
}

Attributes = Mapping[str, str]


def of(arrivals: Iterable[Arrival]) -> MetricsData:
    """All of them but an emulator's, whose times are no latencies."""
    real = [each for each in arrivals if not each.window.emulated]
    parts = groupby(sorted(real, key=_source), _source)
    return MetricsData([_resource(*source, list(own)) for source, own in parts])


def _source(arrival: Arrival) -> tuple[str, str, str]:
    return arrival.device, arrival.window.app, arrival.window.release


def _resource(device: str, app: str, release: str, arrivals: Sequence[Arrival]) -> ResourceMetrics:
    """An app on a device is an instance of a service; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES outdo that."""
    known = {"service.name": app, "service.version": release, "service.instance.id": device, "host.name": device}
    resource = Resource(known).merge(OTELResourceDetector().detect())
    return ResourceMetrics(resource, [ScopeMetrics(SCOPE, list(_metrics(arrivals)), "")], "")


def _metrics(arrivals: Sequence[Arrival]) -> Iterator[Metric]:
    calls = [_histogram(each, each.window.buckets, {}) for each in arrivals if each.window.buckets]
    stages = [
        _histogram(each, buckets, {"edgekit.stage": stage})
        for each in arrivals
        for stage, buckets in each.window.stages.items()
        if buckets
    ]
    for name, found in ((DURATION, calls), (STAGE, stages)):
        if found:
            yield Metric(name, "", "s", ExponentialHistogram(found, DELTA))
    failed = [_number(each, n, {"error.type": code}) for each in arrivals for code, n in each.window.errors.items()]
    yield from _sum(ERRORS, "{error}", failed)
    for key, name in _COUNTERS.items():
        counted = [_number(each, each.window.counters[key]) for each in arrivals if key in each.window.counters]
        yield from _sum(name, "1", counted)
    yield from _conditions(arrivals)
    yield from _drift(arrivals)


def _drift(arrivals: Sequence[Arrival]) -> Iterator[Metric]:
    """Of all of them together: one has seldom counts enough."""
    seen, last = Tally(), max(arrivals, key=lambda each: each.end_s)
    for each in arrivals:
        seen.take(Tally(drift=dict(each.window.drift)))
    points = [_number(last, index, {"edgekit.value": key}) for key, index in drift.scores(seen.drift).items()]
    if points:
        yield Metric(DRIFT, "", "1", Gauge(points))


def _conditions(arrivals: Sequence[Arrival]) -> Iterator[Metric]:
    for key, (name, unit, factor) in _CONDITIONS.items():
        about = {"hw.id": "soc"} if name.startswith("hw.") else {}
        told = [(each, each.window.conditions[key]) for each in arrivals if key in each.window.conditions]
        if told:
            yield Metric(name, "", unit, Gauge([_number(each, value * factor, about) for each, value in told]))
    held = [(each, key) for each in arrivals for key in _HELD_BACK if key in each.window.conditions]
    if held:
        points = [_number(each, each.window.conditions[key], {"edgekit.kind": key}) for each, key in held]
        yield Metric(THROTTLED, "", "1", Gauge(points))


def _sum(name: str, unit: str, points: Sequence[NumberDataPoint]) -> Iterator[Metric]:
    if points:
        yield Metric(name, "", unit, Sum(points, DELTA, is_monotonic=True))


def _number(arrival: Arrival, value: float, about: Attributes | None = None) -> NumberDataPoint:
    return NumberDataPoint(dict(about or {}), _ns(arrival.start_s), _ns(arrival.end_s), value)


def _histogram(arrival: Arrival, buckets: Mapping[int, int], about: Attributes) -> ExponentialHistogramDataPoint:
    taken = {index: 2 * GAMMA**index / (GAMMA + 1) / 1e9 for index in buckets}
    return ExponentialHistogramDataPoint(
        attributes=dict(about),
        start_time_unix_nano=_ns(arrival.start_s),
        time_unix_nano=_ns(arrival.end_s),
        count=sum(buckets.values()),
        sum=sum(taken[index] * number for index, number in buckets.items()),
        scale=SCALE,
        zero_count=0,
        positive=_placed([(taken[index], number) for index, number in buckets.items()]),
        negative=Buckets(0, []),
        flags=0,
        min=min(taken.values()),
        max=max(taken.values()),
    )


def _placed(counted: Sequence[tuple[float, int]]) -> Buckets:
    """The index i counts what lies between base^i and base^(i+1), base = 2^(2^-SCALE)."""
    indexes = [(math.ceil(math.log2(value) * 2**SCALE) - 1, number) for value, number in counted]
    first, last = min(index for index, _ in indexes), max(index for index, _ in indexes)
    counts = [0] * (last - first + 1)
    for index, number in indexes:
        counts[index - first] += number
    return Buckets(first, counts)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
