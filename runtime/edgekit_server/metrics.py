"""Metrics: what the server has counted, as Prometheus reads it (text format 0.0.4), in base units."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Iterable, Iterator, Mapping, Tuple

from edgekit_runtime import processes

if TYPE_CHECKING:
    from edgekit_server.counts import Counts
    from edgekit_server.resident import Resident

Sample = Tuple[str, Mapping[str, str], float]
"""A name with what is added to it, its labels, its value."""

TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds; models on small boards answer in half a millisecond, or in a second."""
_PREFIX = "edgekit_inference"
_STAGES = {"queue": "queue", "compute_input": "preprocess", "compute_infer": "infer", "compute_output": "postprocess"}


class Durations:
    """Requests for a release: how long they took, and by status what became of them."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self._buckets, self._seconds = [0] * (len(BOUNDS) + 1), 0.0

    def add(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        self._buckets[bisect_left(BOUNDS, seconds)] += 1
        self._seconds += seconds

    def samples(self, labels: Mapping[str, str]) -> Iterator[Sample]:
        name, total = f"{_PREFIX}_request_duration_seconds", 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self._buckets):
            total += count
            yield f"{name}_bucket", {**labels, "le": bound}, total
        yield f"{name}_sum", labels, self._seconds
        yield f"{name}_count", labels, total


def text(residents: Iterable[Resident], durations: Mapping[tuple[str, str], Durations]) -> str:
    """All of it. ``durations`` by app and version."""
    known = list(residents)
    families: list[tuple[str, str, list[Sample]]] = [
        (f"{_PREFIX}_requests_total", "counter", list(_requests(durations))),
        (f"{_PREFIX}_request_duration_seconds", "histogram", list(_took(durations))),
        (f"{_PREFIX}_stage_duration_seconds", "summary", [each for one in known for each in _staged(one)]),
        (f"{_PREFIX}_queue_length", "gauge", [each for one in known for each in _waiting(one)]),
        ("edgekit_model_info", "gauge", [each for one in known for each in _about(one)]),
        *_process(),
    ]
    lines = []
    for name, kind, samples in families:
        if samples:
            lines.append(f"# TYPE {name} {kind}")
            lines += [_line(*sample) for sample in samples]
    return "\n".join((*lines, ""))


def _requests(
    durations: Mapping[tuple[str, str], Durations],
) -> Iterator[Sample]:
    for (model, version), found in durations.items():
        for status, count in sorted(found.statuses.items()):
            labels = {"model": model, "version": version, "outcome": _outcome(status), "status": str(status)}
            yield f"{_PREFIX}_requests_total", labels, count


def _outcome(status: int) -> str:
    return "success" if status < 400 else "rejected" if status in (429, 503) else "invalid" if status < 500 else "error"


def _took(durations: Mapping[tuple[str, str], Durations]) -> Iterator[Sample]:
    for (model, version), found in durations.items():
        yield from found.samples({"model": model, "version": version})


def _staged(one: Resident) -> Iterator[Sample]:
    counts: Counts = one.counts
    for kind, stage in _STAGES.items():
        labels = {"model": one.app, "version": one.version, "stage": stage}
        yield f"{_PREFIX}_stage_duration_seconds_sum", labels, counts.ns[kind] / 1e9
        yield f"{_PREFIX}_stage_duration_seconds_count", labels, counts.times[kind]


def _waiting(one: Resident) -> Iterator[Sample]:
    yield f"{_PREFIX}_queue_length", {"model": one.app}, sum(len(worker.asked) for worker in one.workers)


def _about(one: Resident) -> Iterator[Sample]:
    if one.release:
        m = one.release.bundle.manifest
        engine = one.serving.engine if one.serving else ""
        about = {"digest": one.release.digest, "format": m.format, "precision": m.precision, "engine": engine}
        yield "edgekit_model_info", {"model": one.app, "version": one.version, "state": one.state, **about}, 1


def _process() -> Iterator[tuple[str, str, list[Sample]]]:
    """Of the front, by the names that all exporters use."""
    facts = processes.facts(os.getpid())
    if facts:
        tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        started_s = time.time() - time.monotonic() + int(facts[19]) / tick
        yield (
            "process_cpu_seconds_total",
            "counter",
            [("process_cpu_seconds_total", {}, (int(facts[11]) + int(facts[12])) / tick)],
        )
        yield "process_resident_memory_bytes", "gauge", [("process_resident_memory_bytes", {}, int(facts[21]) * page)]
        yield "process_start_time_seconds", "gauge", [("process_start_time_seconds", {}, round(started_s, 2))]
        yield "process_open_fds", "gauge", [("process_open_fds", {}, len(os.listdir("/proc/self/fd")))]


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{told}}} {value}" if told else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
