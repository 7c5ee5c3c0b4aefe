"""Promises: what ours should hold against the others, judged by the rows of one run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.build.contest import Row
from edgekit.data.answers import luck

NOISE = 0.05
"""A difference in accuracy that luck brings about oftener than this is none."""
MOST_WALL = 1.3
LOOKED, TIMED, EVALUATED = "looking at the data", "timing", "evaluating"
"""What a build says while it does what a converter or quantizer does not."""


@dataclass(frozen=True)
class Promise:
    """Something that our row should hold against the others, whether it does, and by which numbers."""

    name: str
    kept: bool
    told: str


def all_of(ours: Row, peers: Sequence[Row], calls_s: float) -> list[Promise]:
    """``calls_s``: the wall time of the converters and quantizers that a build calls, each called once by itself."""
    made, within = against(ours, peers), ours.entry.more.get("within", 0.0)
    looking = spent(ours, LOOKED, TIMED, EVALUATED)
    return [
        *made,
        _in_time("the same tools, each called once", ours.entry.wall_s, calls_s, looking),
        _in_time("its own calls of them", ours.entry.seconds, within, looking),
    ]


def _in_time(what: str, ours_s: float, calls_s: float, looking_s: float) -> Promise:
    """``looking_s``: those of ours that went into what no converter or quantizer does."""
    ratio, making = (seconds / calls_s if calls_s else 0.0 for seconds in (ours_s, ours_s - looking_s))
    name = f"wall time at most {MOST_WALL} times that of {what}"
    told = f"{ours_s:.1f} s / {calls_s:.1f} s = {ratio:.2f}"
    return Promise(name, ratio <= MOST_WALL, f"{told}; {making:.2f} without looking at data, timing and evaluating")


def against(ours: Row, peers: Sequence[Row]) -> list[Promise]:
    """Accuracy, latency and unfused pairs."""
    made = [row for row in peers if row.engine]
    if not ours.engine:
        return [Promise("something ships", False, "; ".join(ours.refused))]
    return [_accurate(ours, made), *_fast(ours, [row for row in made if not row.refused])]


def _accurate(ours: Row, peers: Sequence[Row]) -> Promise:
    best = max(peers, key=lambda row: row.share)
    chance = luck(best.good, ours.good)
    told = f"{ours.share:.4f} against {best.share:.4f} ({best.entry.name}), p = {chance:.3f}"
    return Promise("as accurate as the best", ours.share >= best.share or chance >= NOISE, told)


def _fast(ours: Row, holding: Sequence[Row]) -> list[Promise]:
    """Those whose medians lie within the same range are alike."""
    if not holding:
        return [Promise("as fast as the fastest", True, "no other holds the budget")]
    fastest = min(holding, key=lambda row: row.latency_ms.p50)
    ratio = ours.latency_ms.p50 / fastest.latency_ms.p50
    told = f"{ours.latency_ms.p50:.3f} ms / {fastest.latency_ms.p50:.3f} ms ({fastest.entry.name}) = {ratio:.2f}"
    alike = ours.latency_ms.p50_low <= fastest.latency_ms.p50_high
    same = [row for row in holding if row.entry.format == ours.entry.format and row.pairs is not None]
    least = min((row.pairs or 0 for row in same), default=ours.pairs or 0)
    pairs = Promise("as few unfused pairs", (ours.pairs or 0) <= least, f"{ours.pairs} against {least}")
    return [Promise("as fast as the fastest", alike, told), pairs]


def saved(row: Row) -> Promise | None:
    """Where our own int8 broke the budget and mixed precision ships instead: by which numbers."""
    within = row.entry.more.get("measured", [])
    chosen = next((each for each in within if each["chosen"] and each["precision"] == "mixed"), None)
    if chosen is None:
        return None
    whole = f"{chosen['format']}-int8: "
    refused = [line.removeprefix(whole) for line in row.entry.more["verdict"]["reasons"] if line.startswith(whole)]
    layers = f"{len(chosen['float_layers'])} layers in float: {', '.join(chosen['float_layers'])}"
    told = f"{whole}{'; '.join(refused)}; {chosen['name']} with {layers}"
    return Promise("refused by the budget, saved by mixed precision", not row.refused and bool(refused), told)


def against_control(ours: Row, theirs: Row) -> list[Promise]:
    """Ours against NNCF with accuracy control: both ONNX, the same data, the same budget."""
    if not theirs.engine:
        return [Promise("against accuracy control", True, f"it failed: {'; '.join(theirs.refused)}")]
    if not ours.engine:
        return [Promise("against accuracy control", False, "; ".join(ours.refused))]
    layers = f"{ours.float_layers} against {theirs.float_layers}"
    few = (ours.float_layers or 0) <= (theirs.float_layers or 0)
    alone = ours.entry.seconds - spent(ours, LOOKED, TIMED)
    return [
        Promise("at most as many float layers as NNCF", few or bool(theirs.refused), layers),
        _less("in less time than NNCF", ours.entry.wall_s, theirs.entry.wall_s),
        _less("the same, without imports and what NNCF does not do", alone, theirs.entry.seconds),
    ]


def _less(name: str, ours_s: float, theirs_s: float) -> Promise:
    return Promise(name, ours_s < theirs_s, f"{ours_s:.1f} s against {theirs_s:.1f} s")


def spent(row: Row, *stages: str) -> float:
    """Seconds that our build was in stages of these names."""
    told: dict[str, float] = row.entry.more.get("stages", {})
    return sum(seconds for stage, seconds in told.items() if stage.startswith(stages))
