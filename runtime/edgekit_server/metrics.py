"""Metrics: what the server has counted, as Prometheus reads it (text format 0.0.4), in base units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Iterable, Iterator, Mapping
from urllib.parse import parse_qs

from edgekit_runtime import trial
from edgekit_server import aliases, machine
from edgekit_server.counts import BOUNDS
from edgekit_server.http import Refused

if TYPE_CHECKING:
    from edgekit_server.aliases import Family, Sample
    from edgekit_server.counts import Counts
    from edgekit_server.resident import Resident

TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "edgekit_inference"
_STAGES = {"queue": "queue", "compute_input": "preprocess", "compute_infer": "infer", "compute_output": "postprocess"}
_FROM_THE_START = (200, 500, 503)
"""Told while there are none: Prometheus sees no rise in what begins with 1."""


def names(query: str) -> str:
    """By whose names a request wants them: ours, "", or "triton". Raises: Refused."""
    (name,) = parse_qs(query).get("names", [""])[-1:]
    if name not in ("", "triton"):
        raise Refused(400, f"there are no names of {name[:80]!r} for metrics, but of 'triton'")
    return name


def text(residents: Iterable[Resident], served: Mapping[tuple[str, str], Counts], names: str = "") -> str:
    """All of it. ``served``: what was counted, by app and version."""
    known = list(residents)
    lines = []
    for name, kind, samples in aliases.families(known, served) if names else _families(known, served):
        if samples:
            lines.append(f"# TYPE {name} {kind}")
            lines += [_line(*sample) for sample in samples]
    return "\n".join((*lines, ""))


def _families(known: list[Resident], served: Mapping[tuple[str, str], Counts]) -> list[Family]:
    return [
        (f"{_PREFIX}_requests_total", "counter", list(_requests(served))),
        (f"{_PREFIX}_request_duration_seconds", "histogram", list(_took(served))),
        (f"{_PREFIX}_stage_duration_seconds", "summary", [each for one in known for each in _staged(one)]),
        (f"{_PREFIX}_queue_length", "gauge", [each for one in known for each in _waiting(one)]),
        (f"{_PREFIX}_cache_hits_total", "counter", [each for one in known for each in _kept(one)]),
        ("edgekit_model_info", "gauge", [each for one in known for each in _about(one)]),
        ("edgekit_model_ready", "gauge", [each for one in known for each in _ready(one)]),
        ("edgekit_model_failures_total", "counter", [each for one in known for each in _failures(one)]),
        ("edgekit_model_degraded", "gauge", [each for one in known for each in _degraded(one)]),
        ("edgekit_model_latency_budget_seconds", "gauge", [each for one in known for each in _budget(one)]),
        *machine.process(),
        *machine.CONDITIONS.families(),
    ]


def _requests(served: Mapping[tuple[str, str], Counts]) -> Iterator[Sample]:
    for (model, version), found in served.items():
        for status in sorted({*_FROM_THE_START, *found.statuses}):
            labels = {"model": model, "version": version, "outcome": _outcome(status), "status": str(status)}
            yield f"{_PREFIX}_requests_total", labels, found.statuses.get(status, 0)


def _outcome(status: int) -> str:
    return "success" if status < 400 else "rejected" if status in (429, 503) else "invalid" if status < 500 else "error"


def _took(served: Mapping[tuple[str, str], Counts]) -> Iterator[Sample]:
    name = f"{_PREFIX}_request_duration_seconds"
    for (model, version), found in served.items():
        labels, total = {"model": model, "version": version}, 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), found.buckets):
            total += count
            yield f"{name}_bucket", {**labels, "le": bound}, total
        yield f"{name}_sum", labels, found.seconds
        yield f"{name}_count", labels, total


def _staged(one: Resident) -> Iterator[Sample]:
    counts = one.counts
    for kind, stage in _STAGES.items():
        labels = {"model": one.app, "version": one.version, "stage": stage}
        yield f"{_PREFIX}_stage_duration_seconds_sum", labels, counts.ns[kind] / 1e9
        yield f"{_PREFIX}_stage_duration_seconds_count", labels, counts.times[kind]


def _waiting(one: Resident) -> Iterator[Sample]:
    yield f"{_PREFIX}_queue_length", {"model": one.app}, sum(worker.waiting for worker in one.workers)


def _kept(one: Resident) -> Iterator[Sample]:
    """Requests whose answer was in the cache."""
    yield f"{_PREFIX}_cache_hits_total", {"model": one.app, "version": one.version}, one.counts.times["cache_hit"]


def _about(one: Resident) -> Iterator[Sample]:
    if one.release:
        m = one.release.bundle.manifest
        engine = one.serving.engine if one.serving else ""
        about = {"digest": one.release.digest, "format": m.format, "precision": m.precision, "engine": engine}
        yield "edgekit_model_info", {"model": one.app, "version": one.version, "state": one.state, **about}, 1


def _ready(one: Resident) -> Iterator[Sample]:
    """0 where it is to serve and does not; nothing where it was unloaded."""
    if one.serving or (one.wanted and not one.barred):
        yield "edgekit_model_ready", {"model": one.app}, int(one.serving is not None)


def _failures(one: Resident) -> Iterator[Sample]:
    """Workers that crashed, hung or could not load it."""
    yield "edgekit_model_failures_total", {"model": one.app}, one.failed


def _degraded(one: Resident) -> Iterator[Sample]:
    """1 where the model runs by less than its bundle demands."""
    if one.serving:
        yield "edgekit_model_degraded", {"model": one.app, "version": one.version}, int(bool(one.serving.degraded))


def _budget(one: Resident) -> Iterator[Sample]:
    """What 95 of 100 calls are to hold, where its project has said so."""
    if one.release:
        limit_ms = trial.policy(one.release.bundle.manifest.budget).max_p95_ms
        if math.isfinite(limit_ms):
            labels = {"model": one.app, "version": one.version}
            yield "edgekit_model_latency_budget_seconds", labels, limit_ms / 1e3


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{told}}} {value}" if told else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
