"""Figures: what a device's windows come to: its start, the warm run, the steady state, and what the budget says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.bench.conditions import Conditions, conditions_of
from edgekit.bench.layer_times import LayerTimes
from edgekit.bench.percentiles import Percentiles, percentiles
from edgekit.bench.steady import steady
from edgekit.building.guard import Verdict
from edgekit_runtime import fields, histogram, trial
from edgekit_runtime.windows import Window

LONGEST_NS = 10**15


@dataclass(frozen=True)
class Facts:
    """What the device runs. ``starts``: nanoseconds of each load and of the first call after it."""

    release: str
    version: str
    precision: str
    engine: dict[str, str]
    degraded: str | None
    max_p95_ms: float
    starts: tuple[tuple[int, int], ...]

    @staticmethod
    def of(told: dict[str, Any]) -> Facts:
        """Raises: KeyError, TypeError, ValueError."""
        engine = {key: fields.text(fields.table(told["engine"])[key]) for key in ("name", "version", "provider")}
        limit = trial.policy(fields.table(told["budget"])).max_p95_ms
        starts = tuple((_duration(load), _duration(call)) for load, call in fields.items(told["starts"]))
        if not starts:
            raise ValueError("no start")
        release, version, precision = (fields.text(told[key]) for key in ("release", "version", "precision"))
        degraded = fields.text(told["degraded"]) if told["degraded"] is not None else None
        return Facts(release, version, precision, engine, degraded, limit, starts)

    @property
    def load(self) -> Percentiles:
        return percentiles([{histogram.index(load): 1} for load, _ in self.starts])

    @property
    def first_call(self) -> Percentiles:
        return percentiles([{histogram.index(call): 1} for _, call in self.starts])

    def as_dict(self) -> dict[str, Any]:
        cold = {"starts": len(self.starts), "first_load_ms": round(self.starts[0][0] / 1e6, 6)}
        return {
            **{key: getattr(self, key) for key in ("release", "version", "precision", "engine", "degraded")},
            "max_p95_ms": None if math.isinf(self.max_p95_ms) else self.max_p95_ms,
            "cold": {**cold, "load_ms": _plain(self.load), "first_call_ms": _plain(self.first_call)},
        }


@dataclass(frozen=True)
class Part:
    """Some windows in a row, and what they come to."""

    windows: tuple[Window, ...]

    @property
    def calls(self) -> int:
        return sum(window.count for window in self.windows)

    @property
    def seconds(self) -> float:
        return sum(window.end_s - window.start_s for window in self.windows)

    @property
    def percentiles(self) -> Percentiles:
        return percentiles([window.buckets for window in self.windows])

    @property
    def calls_per_s(self) -> float | None:
        return round(self.calls / self.seconds, 3) if self.seconds else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "seconds": round(self.seconds, 3),
            "calls_per_s": self.calls_per_s,
            "latency_ms": _plain(self.percentiles),
        }


@dataclass(frozen=True)
class Bench:
    """What came of it. ``load`` are windows of the whole time under load, of which the last is the steady state."""

    app: str
    facts: Facts
    warm: Part
    load: Part
    programs: dict[str, float]
    layers: LayerTimes | None = None

    @property
    def conditions(self) -> Conditions:
        return conditions_of((*self.warm.windows, *self.load.windows), self.programs)

    @property
    def sustained(self) -> Part | None:
        """The steady state at the end; None where it was not asked for."""
        return Part(self.load.windows[steady(_medians(self.load.windows)).start :]) if self.load.windows else None

    @property
    def settled(self) -> bool:
        """Whether it was reached in the first half."""
        return bool(self.load.windows) and steady(_medians(self.load.windows)).settled

    @property
    def verdict(self) -> Verdict:
        sustained = self.sustained
        return judged(self.facts.max_p95_ms, sustained.percentiles if sustained else None, self.settled)

    def as_dict(self) -> dict[str, Any]:
        windows = [*((each, "warm") for each in self.warm.windows), *((each, "load") for each in self.load.windows)]
        epoch_s, sustained = windows[0][0].start_s, self.sustained
        since = {"from_s": round(sustained.windows[0].start_s - epoch_s, 3)} if sustained else {}
        return {
            "app": self.app,
            **self.facts.as_dict(),
            "warm": self.warm.as_dict(),
            "sustained": {**sustained.as_dict(), **since, "settled": self.settled} if sustained else None,
            "conditions": self.conditions.as_dict(),
            "windows": [{"part": part, **_window(each, epoch_s)} for each, part in windows],
            "layers": self.layers.as_dict() if self.layers else None,
            "verdict": self.verdict.as_dict(),
        }


def _window(window: Window, epoch_s: float) -> dict[str, Any]:
    times = {"start_s": round(window.start_s - epoch_s, 3), "seconds": round(window.end_s - window.start_s, 3)}
    return {**times, "calls": window.count, "p50_ms": round(median_ms(window), 6), "conditions": window.conditions}


def _plain(found: Percentiles) -> dict[str, Any]:
    return {name: each.as_dict() if each else None for name, each in found.items()}


def _duration(nanoseconds: object) -> int:
    return fields.count(nanoseconds, 1, LONGEST_NS)


def judged(max_p95_ms: float, sustained: Percentiles | None, settled: bool) -> Verdict:
    """Whether the budget's latency holds, by the sustained one only."""
    if sustained is None:
        why = "this short run is no sustained figure: measure with --sustain 10m"
        return Verdict(True, notes=(why if math.isinf(max_p95_ms) else f"max_p95_ms was not judged: {why}",))
    notes = () if settled else ("it was still changing when the run ended: give it longer",)
    p95 = sustained["p95"]
    if math.isinf(max_p95_ms):
        return Verdict(True, notes=notes)
    if p95 is None:
        return Verdict(True, notes=(*notes, "max_p95_ms was not judged: too few calls, give it longer"))
    if (p95.low or 0) <= max_p95_ms <= (p95.high or math.inf):
        notes = (*notes, f"max_p95_ms of {max_p95_ms:g} lies within the interval of the measured: give it longer")
    told = f"sustained p95 is {p95.ms:.3f} ms, allowed are {max_p95_ms:g}"
    return Verdict(False, (told,), notes) if p95.ms > max_p95_ms else Verdict(True, (), notes)


def median_ms(window: Window) -> float:
    return histogram.percentile(window.buckets, 0.5) / 1e6


def _medians(windows: Sequence[Window]) -> list[float]:
    return [median_ms(window) for window in windows]
