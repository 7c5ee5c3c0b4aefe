"""Guard: measures candidates beside the float model, through the code that will serve, and says which may ship.

``measure`` runs; ``judge`` and ``choose`` are pure.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.budget import Budget
from edgekit.dataset import Sample
from edgekit.errors import DataError, ModelError
from edgekit.recipe import FLOAT
from edgekit_runtime.compare import Outputs, max_abs_error, same_answer
from edgekit_runtime.session import Session

WARM_UP = 5
SLOWER = 1.1
"""A quantized candidate at more than this multiple of the float latency is not chosen."""
LEAST_MS = 1e-4
"""Latencies are rounded to it."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds a call, on this host."""

    p50: float
    p95: float


@dataclass(frozen=True)
class Measured:
    """What a candidate showed on the evaluation data; agreement and error are against the baseline.

    ``accuracy`` is None without labels or without class scores. ``max_abs_error`` is in the outputs' own unit, infinite
    for outputs of another shape or with NaN; JSON has null there.
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
        error = self.max_abs_error if math.isfinite(self.max_abs_error) else None
        return {**asdict(self), "max_abs_error": error}


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
        scores = _scores(outputs)
        if sample.label is not None and scores is not None:
            _check_label(self.samples - 1, sample.label, scores.size)
            self.labelled += 1
            self.correct += int(scores.argmax()) == sample.label

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

    Nothing is kept of a sample, and what disturbs this machine disturbs all alike.
    Raises: DataError, EngineError, ModelError when the baseline gives NaN, to which nothing can be compared.
    """
    tallies = [Tally() for _ in sessions]
    for number, sample in enumerate(samples):
        reference: Outputs = {}
        for index, (session, tally) in enumerate(zip(sessions, tallies, strict=True)):
            started = time.perf_counter_ns()
            outputs = session.predict(sample.inputs)
            elapsed = time.perf_counter_ns() - started
            if index == 0:
                reference = outputs
                _check_finite(number, reference)
            tally.add(sample, reference, outputs, elapsed)
    return tallies


def _scores(outputs: Outputs) -> NDArray[Any] | None:
    """The first output, when it holds the class scores of one sample."""
    scores = next(iter(outputs.values()))
    return scores if scores.ndim == 2 and scores.shape[0] == 1 and scores.shape[1] > 1 else None


def _check_label(number: int, label: int, classes: int) -> None:
    if not 0 <= label < classes:
        raise DataError(
            f"evaluation data: sample {number}: label {label}, the model has the classes 0 to {classes - 1}",
            "renumber them",
        )


def _check_finite(number: int, outputs: Outputs) -> None:
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(
                f"sample {number}: the float model gives NaN or infinity in {name!r}", "nothing can be compared to that"
            )


def judge(measured: Measured, baseline: Measured, budget: Budget, comparable_host: bool) -> list[str]:
    """The lines of the budget that a candidate breaks, in words."""
    broken = []
    if not math.isfinite(measured.max_abs_error):
        broken.append("gives NaN, or outputs of another shape than float")
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
    architecture: elsewhere the target's own order of engines decides. A quantized candidate that is slower than float
    is passed over only where float may ship instead.
    """
    reasons, notes, holding = _absent(candidates, precisions), _not_judged(candidates, budget, comparable_host), []
    for index, candidate in enumerate(candidates):
        broken = judge(candidate, candidates[0], budget, comparable_host)
        slower = _slower(candidate, candidates) if comparable_host and not broken else []
        if FLOAT in precisions:
            broken += slower
        else:
            notes += [f"{candidate.name}: {each}" for each in slower]
        reasons += [f"{candidate.name}: {reason}" for reason in broken]
        if not broken and candidate.precision in precisions:
            holding.append(index)
    if not holding:
        return None, Verdict(False, tuple(reasons), tuple(notes))
    best = min(holding, key=lambda i: _rank(i, candidates[i], precisions, comparable_host))
    return best, Verdict(True, tuple(reasons), tuple(notes))


def _rank(index: int, candidate: Measured, precisions: Sequence[str], comparable_host: bool) -> tuple[int, float]:
    return precisions.index(candidate.precision), candidate.latency_ms.p50 if comparable_host else index


def _slower(candidate: Measured, candidates: Sequence[Measured]) -> list[str]:
    floats = [other for other in candidates if other.precision == FLOAT and other.format == candidate.format]
    if candidate.precision == FLOAT or not floats:
        return []
    ratio = candidate.latency_ms.p50 / max(floats[0].latency_ms.p50, LEAST_MS)
    return [f"{ratio:.2f} times as slow as float on this architecture"] if ratio > SLOWER else []


def _absent(candidates: Sequence[Measured], precisions: Sequence[str]) -> list[str]:
    """What may ship, but was not made."""
    made = {candidate.precision for candidate in candidates}
    why = "there is no such candidate" if FLOAT in made else "the model is quantized already"
    return [f"{precision}: {why}" for precision in precisions if precision not in made]


def _not_judged(candidates: Sequence[Measured], budget: Budget, comparable_host: bool) -> list[str]:
    told = []
    if not comparable_host:
        told.append("latency is this host's, of another architecture than the target: shown, not judged")
    if not comparable_host and budget.max_p95_ms is not None:
        told.append("max_p95_ms was not judged")
    if budget.max_accuracy_drop is not None and candidates[0].accuracy is None:
        told.append("max_accuracy_drop was not judged: no labels, or no class scores in the first output")
    return told
