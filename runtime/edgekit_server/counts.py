"""Counts: what a release has answered since it is served, and what took how long."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Mapping

STAGES = ("queue", "compute_input", "compute_infer", "compute_output")
KINDS = ("success", "fail", *STAGES, "cache_hit", "cache_miss")
"""As Triton's statistics extension names them: whole requests, the stages of those that succeeded, the result cache."""


@dataclass
class Counts:
    """``times`` and ``ns``: how many there were of each kind, and their nanoseconds together.

    ``samples``: of all answers; ``last_ms``: when the last one was, since 1970. ``runs``: those of the engine, by how
    many samples ran together.
    """

    times: Counter[str] = field(default_factory=Counter)
    ns: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    last_ms: int = 0
    runs: dict[int, Counts] = field(default_factory=dict)

    def add(self, spent_ns: Mapping[str, int]) -> None:
        """One more of each of these kinds."""
        times, ns = self.times, self.ns  # Counter.update takes several times as long
        for kind, spent in spent_ns.items():
            times[kind] += 1
            ns[kind] += spent

    def answered(self, spent_ns: Mapping[str, int], samples: int, now_ms: int) -> None:
        """A request, by what it took."""
        self.add(spent_ns)
        self.samples += samples
        self.last_ms = now_ms

    def ran(self, samples: int, spent_ns: Mapping[str, int]) -> None:
        """The engine, once, for as many samples as there were together."""
        self.runs.setdefault(samples, Counts()).add(spent_ns)
