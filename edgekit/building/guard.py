"""Guard: which of the measured candidates may ship, and why not the others. Nothing is run here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgekit.budget import Budget
from edgekit.building.latency import Latency
from edgekit.building.measure import Measured, Tally
from edgekit.precision import Precision

FLOAT, MIXED = Precision.FLOAT32.value, Precision.MIXED.value
SLOWER = 1.1
"""A quantized candidate at more than this multiple of the float latency is not chosen; within it, two are alike."""
FAR_SLOWER = 3.0
"""One that is certainly beyond this multiple is not even run on the evaluation data."""
SMALLER = 0.9
"""The share of the float size that mixed precision must come under to go before float16 where no latency counts."""
LEAST_MS = 1e-4
"""Latencies are rounded to it."""
UNSTEADY_MIB = 0.6
"""By so much what a process of ONNX Runtime takes differs from one time to the next."""


@dataclass(frozen=True)
class Verdict:
    """Whether something ships; ``reasons`` say what broke or was passed over, ``notes`` what was not judged."""

    ok: bool
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "reasons": list(self.reasons), "notes": list(self.notes)}


@dataclass(frozen=True)
class Broken:
    """A line of the budget that a candidate breaks, in words; ``needed`` is the value at which it would hold."""

    told: str
    line: str = ""
    needed: float = math.nan
    allowed: float = math.nan

    @property
    def float_helps(self) -> bool:
        """Whether layers in float may mend it: they answer better, and are neither smaller nor lighter."""
        return self.line not in ("max_size_mib", "max_memory_mib")

    @property
    def is_answers(self) -> bool:
        return self.line in ("max_accuracy_drop", "min_agreement")

    @property
    def excess(self) -> float:
        """By what share of the allowed it is broken; infinite where no value would do."""
        return abs(self.needed - self.allowed) / max(abs(self.allowed), 1e-3) if self.line else math.inf


def judge(measured: Measured, baseline: Measured, budget: Budget, comparable_host: bool) -> list[str]:
    """The lines of the budget that a candidate breaks, in words."""
    return [each.told for each in broken(measured, baseline, budget, comparable_host)]


def broken(measured: Measured, baseline: Measured, budget: Budget, comparable_host: bool) -> list[Broken]:
    """The lines of the budget that a candidate breaks."""
    found = (
        [] if math.isfinite(measured.max_abs_error) else [Broken("gives NaN, or outputs of another shape than float")]
    )
    if measured.accuracy is not None and baseline.accuracy is not None and budget.max_accuracy_drop is not None:
        drop, allowed = baseline.accuracy - measured.accuracy, budget.max_accuracy_drop
        if drop > allowed + 1e-9:
            change = f"{baseline.accuracy:.4f} → {measured.accuracy:.4f}"
            told = f"accuracy drops by {drop:.4f} ({change}), allowed is {allowed:g}"
            found.append(Broken(told, "max_accuracy_drop", _up(drop), allowed))
    if budget.min_agreement is not None and measured.agreement < budget.min_agreement:
        told = f"agrees with float on {measured.agreement:.2%}, needed are {budget.min_agreement:.2%}"
        found.append(Broken(told, "min_agreement", _down(measured.agreement), budget.min_agreement))
    size = measured.size_bytes / 2**20
    if budget.max_size_mib is not None and size > budget.max_size_mib:
        told = f"takes {size:.3f} MiB, allowed are {budget.max_size_mib:g}"
        found.append(Broken(told, "max_size_mib", _up(size), budget.max_size_mib))
    p95, where = _p95(measured)
    if budget.max_p95_ms is not None and (comparable_host or where) and p95 > budget.max_p95_ms:
        told = f"p95 is {p95:.3f} ms{where}, allowed are {budget.max_p95_ms:g}"
        found.append(Broken(told, "max_p95_ms", _up(p95), budget.max_p95_ms))
    memory, most = measured.memory_mib, budget.max_memory_mib
    if most is not None and memory is not None and memory > most:
        told = f"needs {memory:.3f} MiB of memory, allowed are {most:g}"
        found.append(Broken(told, "max_memory_mib", _up(memory + UNSTEADY_MIB), most))
    return found


def _p95(measured: Measured) -> tuple[float, str]:
    """Milliseconds, and where that was, "" for this host: what devices measured goes before it."""
    if not measured.on_devices:
        return measured.latency_ms.p95, ""
    return measured.on_devices.latency_ms.p95, f" on {measured.on_devices.counted}"


def lacks(measured: Measured, baseline: Measured, budget: Budget) -> float:
    """How many answers would have to be better for the budget to hold; infinite where they would not mend it."""
    lines = broken(measured, baseline, budget, comparable_host=False)
    if not all(each.is_answers for each in lines):
        return math.inf
    return max((math.ceil(abs(each.needed - each.allowed) * baseline.samples - 1e-6) for each in lines), default=0.0)


def _up(value: float) -> float:
    """Rounded so that it holds: up, to four places."""
    return math.ceil(value * 1e4 - 1e-6) / 1e4


def _down(value: float) -> float:
    return math.floor(value * 1e4 + 1e-6) / 1e4


@dataclass(frozen=True)
class Nearest:
    """A candidate that breaks the budget by least, and the lines that it breaks."""

    name: str
    lines: tuple[Broken, ...]

    @property
    def told(self) -> str:
        held = ", ".join(f"{each.line}={each.needed:.12g}" for each in self.lines)
        return f"nearest is {self.name}, which would hold {held}"


def nearest(
    candidates: Sequence[Measured], budget: Budget, precisions: Sequence[str], comparable_host: bool
) -> Nearest | None:
    """Which candidate comes nearest to a budget that none holds."""
    rated = []
    for candidate in candidates:
        lines = tuple(broken(candidate, candidates[0], budget, comparable_host))
        if candidate.precision in precisions and lines and all(each.line for each in lines):
            rated.append((len(lines), sum(each.excess for each in lines), Nearest(candidate.name, lines)))
    return min(rated, key=lambda each: each[:2])[2] if rated else None


def hopeless(tally: Tally, baseline: Measured, budget: Budget) -> bool:
    """Whether a candidate breaks the budget even if it does well on all samples that are yet to come."""
    least = (budget.min_agreement or 0.0) * baseline.samples
    if tally.samples - tally.agree > baseline.samples - least + 1e-9:
        return True
    if baseline.accuracy is None or budget.max_accuracy_drop is None:
        return False
    best = (baseline.samples - tally.labelled + tally.correct) / baseline.samples
    return baseline.accuracy - best > budget.max_accuracy_drop + 1e-9


def choose(
    candidates: Sequence[Measured], budget: Budget, precisions: Sequence[str], comparable_host: bool
) -> tuple[int | None, Verdict]:
    """Which candidate ships (its index), and why not the others; the first one is the baseline.

    The fastest does; of those that are about as fast, the smallest, and of these the one that agrees best. Where
    devices of the target have run several of them, their times decide among these. Else latency counts only where the
    host has the target's architecture: elsewhere the order of ``precisions`` decides, and then the target's order of
    engines.
    """
    reasons, notes, holding = _absent(candidates, precisions), _not_judged(candidates, budget, comparable_host), []
    for index, candidate in enumerate(candidates):
        lines = judge(candidate, candidates[0], budget, comparable_host)
        reasons += [f"{candidate.name}: {line}" for line in lines]
        if not lines and candidate.precision in precisions:
            holding.append(index)
    if not holding:
        near = nearest(candidates, budget, precisions, comparable_host)
        return None, Verdict(False, tuple(reasons), (*notes, *([near.told] if near else [])))
    known = [index for index in holding if candidates[index].on_devices]
    if len(known) > 1:
        best = _fittest(known, [_as_on_devices(candidate) for candidate in candidates])
        told = [line for index, line in _of_devices(known, candidates).items() if index != best]
        return best, Verdict(True, (*reasons, *told), (*notes, *_unknown(holding, candidates)))
    best = _fittest(holding, candidates) if comparable_host else _foremost(holding, candidates, precisions)
    for index in holding if comparable_host else []:
        told = [f"{candidates[index].name}: {each}" for each in slower(candidates[index], candidates)]
        notes, reasons = (notes + told, reasons) if index == best else (notes, reasons + told)
    return best, Verdict(True, tuple(reasons), tuple(notes))


def _fittest(holding: Sequence[int], candidates: Sequence[Measured]) -> int:
    fastest = max(min(candidates[index].latency_ms.p50 for index in holding), LEAST_MS)
    like = [index for index in holding if candidates[index].latency_ms.p50_low <= fastest * SLOWER]
    return min(like, key=lambda i: (candidates[i].size_bytes, -candidates[i].agreement, candidates[i].latency_ms.p50))


def _as_on_devices(candidate: Measured) -> Measured:
    return replace(candidate, latency_ms=candidate.on_devices.latency_ms) if candidate.on_devices else candidate


def _of_devices(known: Sequence[int], candidates: Sequence[Measured]) -> dict[int, str]:
    """By index, what devices took against the fastest there."""
    timed = {index: found for index in known if (found := candidates[index].on_devices)}
    fastest = min(timed, key=lambda index: timed[index].latency_ms.p50)
    told = {}
    for index, found in timed.items():
        times = ratio(found.latency_ms, timed[fastest].latency_ms)
        against = f"{times:.2f} times as slow as {candidates[fastest].name} on devices of the target"
        told[index] = f"{candidates[index].name}: {against}: {found.told}, against {timed[fastest].told}"
    return told


def _unknown(holding: Sequence[int], candidates: Sequence[Measured]) -> list[str]:
    """What was passed over because no device has run it."""
    names = [candidates[index].name for index in holding if not candidates[index].on_devices]
    return [f"not considered, for no device of the target has run it: {', '.join(names)}"] if names else []


def _foremost(holding: Sequence[int], candidates: Sequence[Measured], precisions: Sequence[str]) -> int:
    """By the order of precisions; a mixed one that is hardly smaller than float has lost what it is preferred for."""

    def place(index: int) -> tuple[bool, int, int]:
        one = candidates[index]
        hardly = one.precision == MIXED and one.size_bytes > SMALLER * candidates[0].size_bytes
        return hardly, precisions.index(one.precision), index

    return min(holding, key=place)


def slower(candidate: Measured, candidates: Sequence[Measured]) -> list[str]:
    """By how much a candidate is slower than the float one of its format, where that counts."""
    times = _ratio(candidate, candidates)
    return [f"{times:.2f} times as slow as float on this architecture"] if times > SLOWER else []


def faster(candidate: Measured, candidates: Sequence[Measured]) -> bool:
    """Whether a candidate is faster than the float one of its format."""
    return _ratio(candidate, candidates) < 1


def _ratio(candidate: Measured, candidates: Sequence[Measured]) -> float:
    floats = [other for other in candidates if other.precision == FLOAT and other.format == candidate.format]
    if candidate.precision == FLOAT or not floats:
        return 1.0
    if candidate.on_devices and floats[0].on_devices:
        return ratio(candidate.on_devices.latency_ms, floats[0].on_devices.latency_ms)
    return ratio(candidate.latency_ms, floats[0].latency_ms)


def ratio(latency: Latency, of_float: Latency) -> float:
    """How many times as slow as float."""
    return latency.p50 / max(of_float.p50, LEAST_MS)


def far_slower(latency: Latency, of_float: Latency) -> bool:
    """Whether it is so slow, whatever disturbed both, that it need not be looked at any further."""
    return latency.p50_low > FAR_SLOWER * max(of_float.p50_high, LEAST_MS)


def _absent(candidates: Sequence[Measured], precisions: Sequence[str]) -> list[str]:
    """What may ship, but was not made."""
    made = {candidate.precision for candidate in candidates}
    why = "there is no such candidate" if FLOAT in made else "the model is quantized already"
    return [f"{precision}: {why}" for precision in precisions if precision not in made]


def _not_judged(candidates: Sequence[Measured], budget: Budget, comparable_host: bool) -> list[str]:
    told = []
    if not comparable_host:
        told.append("latency is this host's, of another architecture than the target: shown, not judged")
    if not comparable_host and budget.max_p95_ms is not None and not all(each.on_devices for each in candidates):
        told.append("max_p95_ms was not judged")
    if budget.max_accuracy_drop is not None and candidates[0].accuracy is None:
        told.append("max_accuracy_drop was not judged: no labels, or no class scores in the first output")
    if budget.max_memory_mib is not None:
        judged = candidates[0].memory_mib is not None
        told.append("memory is this host's" if judged else "max_memory_mib was not judged: it was not measured")
    return told
