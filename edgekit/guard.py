"""Guard: measures candidates beside the float model, through the code that will serve, and says which may ship.

``measure`` runs; ``judge`` and ``choose`` are pure.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.budget import Budget
from edgekit.dataset import Sample
from edgekit.recipe import FLOAT
from edgekit_runtime.compare import Outputs, max_abs_error, same_answer
from edgekit_runtime.session import Session

WARM_UP = 5
SLOWER = 1.1
"""A quantized candidate at more than this multiple of the float latency is not chosen."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds a call, on this host."""

    p50: float
    p95: float


@dataclass(frozen=True)
class Measured:
    """What a candidate showed on the evaluation data; agreement and error are against the baseline.

    ``accuracy`` is None without labels or without class scores. ``max_abs_error`` is in the outputs' own unit.
    """

    name: str
    format: str
    engine: str
    precision: str
    size_bytes: int
    samples: int
    agreement: float
    accuracy: float | None
    max_abs_error: float
    latency_ms: Latency
    chosen: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """Whether something ships; ``reasons`` say what broke or was passed over, ``notes`` what was not judged."""

    ok: bool
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "reasons": list(self.reasons), "notes": list(self.notes)}


@dataclass
class Tally:
    """Running sums over the evaluation samples for one candidate."""

    samples: int = 0
    agree: int = 0
    labelled: int = 0
    correct: int = 0
    max_abs_error: float = 0.0
    times_ns: list[int] = field(default_factory=list)

    def add(self, sample: Sample, reference: Outputs, outputs: Outputs, elapsed_ns: int) -> None:
        self.samples += 1
        self.agree += same_answer(reference, outputs)
        self.max_abs_error = max(self.max_abs_error, max_abs_error(reference, outputs))
        self.times_ns.append(elapsed_ns)
        answer = _class(outputs)
        if sample.label is not None and answer is not None:
            self.labelled += 1
            self.correct += answer == sample.label

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.labelled if self.labelled else None

    @property
    def latency_ms(self) -> Latency:
        times: NDArray[Any] = np.asarray(self.times_ns[WARM_UP:] or self.times_ns) / 1e6
        p50, p95 = np.percentile(times, [50, 95])
        return Latency(round(float(p50), 4), round(float(p95), 4))


def measure(sessions: Sequence[Session], samples: Iterable[Sample]) -> list[Tally]:
    """Tallies of all sessions, the first of which is the baseline; they take turns at each sample.

    Nothing is kept of a sample, and what disturbs this machine disturbs all alike. Raises: DataError, EngineError.
    """
    tallies = [Tally() for _ in sessions]
    for sample in samples:
        reference: Outputs = {}
        for index, (session, tally) in enumerate(zip(sessions, tallies, strict=True)):
            started = time.perf_counter_ns()
            outputs = session.predict(sample.inputs)
            elapsed = time.perf_counter_ns() - started
            reference = outputs if index == 0 else reference
            tally.add(sample, reference, outputs, elapsed)
    return tallies


def _class(outputs: Outputs) -> int | None:
    """The class that the first output names, when it holds the scores of one sample."""
    scores = next(iter(outputs.values()))
    return int(scores.argmax()) if scores.ndim == 2 and scores.shape[0] == 1 and scores.shape[1] > 1 else None


def judge(measured: Measured, baseline: Measured, budget: Budget, comparable_host: bool) -> list[str]:
    """The lines of the budget that a candidate breaks, in words."""
    broken = []
    if measured.accuracy is not None and baseline.accuracy is not None and budget.max_accuracy_drop is not None:
        drop = baseline.accuracy - measured.accuracy
        if drop > budget.max_accuracy_drop + 1e-9:
            change = f"{baseline.accuracy:.4f} → {measured.accuracy:.4f}"
            broken.append(f"accuracy drops by {drop:.4f} ({change}), allowed is {budget.max_accuracy_drop:g}")
    if budget.min_agreement is not None and measured.agreement < budget.min_agreement:
        broken.append(f"agrees with float on {measured.agreement:.2%}, needed are {budget.min_agreement:.2%}")
    if budget.max_size_mib is not None and measured.size_bytes > budget.max_size_mib * 2**20:
        broken.append(f"takes {measured.size_bytes / 2**20:.3f} MiB, allowed are {budget.max_size_mib:g}")
    if budget.max_p95_ms is not None and comparable_host and measured.latency_ms.p95 > budget.max_p95_ms:
        broken.append(f"p95 is {measured.latency_ms.p95:.3f} ms, allowed are {budget.max_p95_ms:g}")
    return broken


def choose(
    candidates: Sequence[Measured], budget: Budget, precisions: Sequence[str], comparable_host: bool
) -> tuple[int | None, Verdict]:
    """Which candidate ships (its index), and why not the others; the first one is the baseline.

    The order of ``precisions`` decides, then the latency. Latency counts only where the host has the target's
    architecture: elsewhere the target's own order of engines decides.
    """
    baseline, reasons, holding = candidates[0], [], []
    for index, candidate in enumerate(candidates):
        broken = judge(candidate, baseline, budget, comparable_host)
        if not broken and comparable_host:
            broken = _slower(candidate, candidates)
        reasons += [f"{candidate.name}: {reason}" for reason in broken]
        if not broken and candidate.precision in precisions:
            holding.append(index)
    notes = () if comparable_host else _not_judged(budget)
    if not holding:
        return None, Verdict(False, tuple(reasons), notes)
    best = min(holding, key=lambda i: _rank(i, candidates[i], precisions, comparable_host))
    return best, Verdict(True, tuple(reasons), notes)


def _rank(index: int, candidate: Measured, precisions: Sequence[str], comparable_host: bool) -> tuple[int, float]:
    return precisions.index(candidate.precision), candidate.latency_ms.p50 if comparable_host else index


def _slower(candidate: Measured, candidates: Sequence[Measured]) -> list[str]:
    floats = [other for other in candidates if other.precision == FLOAT and other.format == candidate.format]
    if candidate.precision == FLOAT or not floats:
        return []
    ratio = candidate.latency_ms.p50 / floats[0].latency_ms.p50
    return [f"{ratio:.2f} times as slow as float on this architecture"] if ratio > SLOWER else []


def _not_judged(budget: Budget) -> tuple[str, ...]:
    told = ["latency is this host's, of another architecture than the target: shown, not judged"]
    if budget.max_p95_ms is not None:
        told.append("max_p95_ms was not judged")
    return tuple(told)
