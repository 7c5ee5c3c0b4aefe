"""Facts: what the store answers with. All moments are seconds since 1970, put right as ``clock`` says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

CALL = "call"
"""The stage that is a whole call."""
ALL = ""
"""The name of the device in a slice that is of all devices together."""


@dataclass(frozen=True)
class Summary:
    """Calls of one release on one device; latencies in milliseconds, within 1 %; None without a call or if emulated."""

    device: str
    app: str
    release: str
    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    errors: dict[str, int]
    first_s: float
    last_s: float
    emulated: bool = False


@dataclass(frozen=True, slots=True)
class Slice:
    """What was counted of one release and stage in the ``seconds`` from ``start_s`` on.

    ``buckets`` as in ``Window``. All that is of no one stage (errors, counters, conditions, drift) stands with CALL
    alone. ``conditions``: the least, the mean and the most of what windows had; of what is 0 or 1 the mean is a share.
    ``device`` is ALL where the slice is of all devices together.
    """

    start_s: float
    seconds: float
    device: str
    app: str
    release: str
    stage: str
    buckets: dict[int, int]
    errors: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    conditions: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    drift: dict[str, tuple[int, ...]] = field(default_factory=dict)
    emulated: bool = False


@dataclass(frozen=True)
class Seen:
    """A device's newest release of an app: when its windows began and ended, its calls, and the last conditions."""

    device: str
    app: str
    release: str
    first_s: float
    last_s: float
    count: int
    errors: int
    conditions: dict[str, float]


@dataclass(frozen=True)
class Alert:
    """What a rule has against a release on a device, told in one line."""

    at_s: float
    device: str
    app: str
    release: str
    rule: str
    level: Literal["warning", "critical"]
    value: float
    threshold: float
    told: str
