"""Measure: candidates side by side on the evaluation data, through the code that will serve."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.candidate import Candidate
from edgekit.data.dataset import Sample
from edgekit.errors import DataError, ModelError
from edgekit_runtime.compare import Outputs, max_abs_error, same_answer
from edgekit_runtime.session import Session

TURN, WARM_UP = 20, 4
"""Calls that a session makes in its turn, and as many of them are not timed."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds a call, on this host; the median lies between ``p50_low`` and ``p50_high`` at 95 % confidence."""

    p50: float
    p95: float
    p50_low: float
    p50_high: float


@dataclass(frozen=True)
class Measured:
    """What a candidate showed on the evaluation data; agreement and error are against the baseline.

    ``accuracy`` is None without labels or without class scores. ``max_abs_error`` is in the outputs' own unit, infinite
    for outputs of another shape or with NaN; JSON has null there. ``float_layers`` were kept in float by name.
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
    calibrator: str = ""
    float_layers: tuple[str, ...] = ()
    chosen: bool = False

    def as_dict(self) -> dict[str, Any]:
        error = self.max_abs_error if math.isfinite(self.max_abs_error) else None
        return {**asdict(self), "max_abs_error": error}


@dataclass
class Tally:
    """Running sums over the evaluation samples for one candidate."""

    samples: int = 0
    agree: int = 0
    labelled: int = 0
    correct: int = 0
    max_abs_error: float = 0.0
    times_ns: list[int] = field(default_factory=list)

    def add(self, sample: Sample, reference: Outputs, outputs: Outputs, elapsed_ns: int | None = None) -> None:
        self.samples += 1
        self.agree += same_answer(reference, outputs)
        self.max_abs_error = max(self.max_abs_error, max_abs_error(reference, outputs))
        if elapsed_ns is not None:
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
        return latency_of(self.times_ns)


def latency_of(times_ns: Sequence[int]) -> Latency:
    """All zero where nothing was timed."""
    times: NDArray[Any] = np.sort(times_ns or [0]) / 1e6
    p50, p95 = np.percentile(times, [50, 95])
    return Latency(*(round(float(value), 4) for value in (p50, p95, *_median_interval(times))))


def _median_interval(times: NDArray[Any]) -> tuple[float, float]:
    """The order statistics between which the median lies at 95 % confidence, whatever the distribution.

    W. J. Conover, Practical Nonparametric Statistics, 3.2, in the normal approximation of the binomial.
    """
    half = 1.96 * math.sqrt(len(times)) / 2
    first, last = math.floor(len(times) / 2 - half), math.ceil(len(times) / 2 + half) - 1
    return float(times[max(first, 0)]), float(times[min(max(last, 0), len(times) - 1)])


def measure(sessions: Sequence[Session], samples: Iterable[Sample]) -> list[Tally]:
    """Tallies of all sessions, the first of which is the baseline; they take turns at every few samples.

    So what disturbs this machine disturbs all alike. The first calls of a turn are not timed: the threads of the
    session before it are still awake, and the caches are its. Only the samples of a turn are kept.
    Raises: DataError, EngineError, ModelError when the baseline gives NaN, to which nothing can be compared.
    """
    tallies, number, rest = [Tally() for _ in sessions], 0, iter(samples)
    while turn := list(islice(rest, TURN)):
        reference: list[Outputs] = []
        for session, tally in zip(sessions, tallies, strict=True):
            found = [_timed(session, sample) for sample in turn]
            if not reference:
                reference = [outputs for outputs, _ in found]
                _check_finite(number, reference)
            for place, (sample, want, (outputs, elapsed)) in enumerate(zip(turn, reference, found, strict=True)):
                tally.add(sample, want, outputs, elapsed if place >= WARM_UP or len(turn) < TURN else None)
        number += len(turn)
    return tallies


def _timed(session: Session, sample: Sample) -> tuple[Outputs, int]:
    started = time.perf_counter_ns()
    outputs = session.predict(sample.inputs)
    return outputs, time.perf_counter_ns() - started


def retrace(
    session: Session, samples: Iterable[Sample], reference: Iterable[Outputs], enough: Callable[[Tally], bool]
) -> Tally:
    """The tally of one session against outputs that the baseline gave before, until it is ``enough``; untimed."""
    tally = Tally()
    for sample, want in zip(samples, reference, strict=False):
        tally.add(sample, want, session.predict(sample.inputs))
        if enough(tally):
            break
    return tally


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


def _check_finite(first: int, reference: Sequence[Outputs]) -> None:
    for number, outputs in enumerate(reference, first):
        for name, array in outputs.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ModelError(
                    f"sample {number}: the float model gives NaN or infinity in {name!r}",
                    "nothing can be compared to that",
                )


def measured(candidate: Candidate, session: Session, tally: Tally) -> Measured:
    """What the tally of a candidate comes to."""
    quantization = candidate.recipe.quantization
    return Measured(
        name=candidate.recipe.name,
        format=candidate.recipe.format.value,
        engine=session.engine.name,
        precision=quantization.precision.value,
        size_bytes=candidate.model.size,
        samples=tally.samples,
        agreement=tally.agree / tally.samples,
        accuracy=tally.accuracy,
        max_abs_error=tally.max_abs_error,
        latency_ms=tally.latency_ms,
        calibrator=quantization.calibrator.value if quantization.precision.calibrated else "",
        float_layers=tuple(sorted(quantization.float_layers)),
    )
