"""Aliases: what was counted by the names that Triton has for it, for dashboards that were made for those."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterable, Iterator, List, Mapping, Tuple

if TYPE_CHECKING:
    from edgekit_server.counts import Counts
    from edgekit_server.resident import Resident

Sample = Tuple[str, Mapping[str, str], float]
"""A name, its labels, its value."""
Family = Tuple[str, str, List[Sample]]
"""A name, its type, its samples."""

_COUNTERS: Mapping[str, Callable[[Counts], int]] = {
    "nv_inference_request_success": lambda counts: counts.times["success"],
    "nv_inference_count": lambda counts: counts.samples,
    "nv_inference_exec_count": lambda counts: sum(run.times["compute_infer"] for run in counts.runs.values()),
    "nv_inference_request_duration_us": lambda counts: counts.ns["success"] // 1000,
    "nv_inference_queue_duration_us": lambda counts: counts.ns["queue"] // 1000,
    "nv_inference_compute_input_duration_us": lambda counts: counts.ns["compute_input"] // 1000,
    "nv_inference_compute_infer_duration_us": lambda counts: counts.ns["compute_infer"] // 1000,
    "nv_inference_compute_output_duration_us": lambda counts: counts.ns["compute_output"] // 1000,
}
_FAILURE, _PENDING = "nv_inference_request_failure", "nv_inference_pending_request_count"
_REASONS = {429: "REJECTED", 499: "CANCELED", 500: "BACKEND", 503: "REJECTED", 504: "REJECTED"}
"""By status; else OTHER."""


def families(residents: Iterable[Resident], served: Mapping[tuple[str, str], Counts]) -> list[Family]:
    """All that means something here. ``served``: what was counted, by app and version."""
    counters: list[Family] = [
        (name, "counter", [(name, _labels(key), value(counts)) for key, counts in served.items()])
        for name, value in _COUNTERS.items()
    ]
    failures = [each for key, counts in served.items() for each in _failures(key, counts)]
    return [*counters, (_FAILURE, "counter", failures), (_PENDING, "gauge", [_pending(each) for each in residents])]


def _failures(key: tuple[str, str], counts: Counts) -> Iterator[Sample]:
    found = dict.fromkeys(("REJECTED", "CANCELED", "BACKEND", "OTHER"), 0)
    for status, count in counts.statuses.items():
        if status >= 400:
            found[_REASONS.get(status, "OTHER")] += count
    for reason, count in found.items():
        yield _FAILURE, {**_labels(key), "reason": reason}, count


def _pending(one: Resident) -> Sample:
    return _PENDING, _labels((one.app, one.version)), sum(worker.waiting for worker in one.workers)


def _labels(key: tuple[str, str]) -> dict[str, str]:
    model, version = key
    return {"model": model, "version": version}
