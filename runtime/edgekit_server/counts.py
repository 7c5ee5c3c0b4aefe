"""Counts: what a release has answered since it is served, and what took how long, as statistics and metrics tell it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

STAGES = ("queue", "compute_input", "compute_infer", "compute_output")
KINDS = ("success", "fail", *STAGES, "cache_hit", "cache_miss")
"""As Triton's statistics extension names them: whole requests, the stages of those that succeeded, the result cache."""
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds; models on small boards answer in half a millisecond, or in a second."""


@dataclass(frozen=True)
class Counts:
    """``times`` and ``ns``: how many there were of each kind, and their nanoseconds together.

    ``samples``: of all answers; ``last_ms``: when the last one was, since 1970. ``runs``: those of the engine, by how
    many samples ran together. ``statuses``: requests by what became of them; ``buckets``: how many took up to each of
    BOUNDS and no less, and at the end more; ``seconds``: all of these together.
    """

    times: Counter[str] = field(default_factory=Counter)
    ns: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    last_ms: int = 0
    runs: dict[int, Counts] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    buckets: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    seconds: float = 0.0
