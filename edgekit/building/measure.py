"""Measure: candidates side by side on the evaluation data, through the code that will serve."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.building.candidate import Candidate
from edgekit.building.latency import UNTIMED, Latency
from edgekit.building.learning import OnDevices
from edgekit.data.dataset import Sample
from edgekit.errors import DataError, ModelError
from edgekit_runtime.compare import Agreements, Outputs, max_abs_error, same_answer
from edgekit_runtime.session import Session

TURN = 8
"""Samples that all sessions see before the next ones are read; Ctrl-C waits for no more."""


@dataclass(frozen=True)
class Measured:
    """What a candidate showed on the evaluation data; agreement and error are against the baseline.

    ``accuracy`` is None without labels or without class scores. ``max_abs_error`` is in the outputs' own unit, infinite
    for outputs of another shape or with NaN; JSON has null there. ``float_layers`` were kept in float by name.
    ``memory_mib`` is None where it was not asked for, see ``memory.peak_mib``. ``on_devices``: what such a candidate
    takes on devices of the target, None where that is not known.
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
    memory_mib: float | None = None
    on_devices: OnDevices | None = None
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
    agreement: Agreements = field(default_factory=dict)
    """When answers agree, by output, where it is declared."""

    def add(self, sample: Sample, reference: Outputs, outputs: Outputs) -> None:
        self.samples += 1
        self.agree += same_answer(reference, outputs, self.agreement)
        self.max_abs_error = max(self.max_abs_error, max_abs_error(reference, outputs, self.agreement))
        scores = _scores(outputs) if self._classifies(outputs) else None
        if sample.label is not None and scores is not None:
            _check_label(self.samples - 1, sample.label, scores.size)
            self.labelled += 1
            self.correct += int(scores.argmax()) == sample.label

    def _classifies(self, outputs: Outputs) -> bool:
        """Whether nothing was declared of the first output by which it holds no classes."""
        declared = self.agreement.get(next(iter(outputs)))
        return declared is None or declared.by in ("top1", "kl")

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.labelled if self.labelled else None


def evaluate(sessions: Sequence[Session], samples: Iterable[Sample]) -> list[Tally]:
    """Tallies of all sessions, the first of which is the baseline, side by side on this host's cores.

    Only the samples of a turn are kept.
    Raises: DataError, EngineError, ModelError when the baseline gives NaN, to which nothing can be compared.
    """
    tallies, number, rest = [Tally(agreement=session.interface.agreement) for session in sessions], 0, iter(samples)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while turn := list(islice(rest, TURN)):
            reference, *_ = found = list(pool.map(partial(_answers, turn), sessions))
            _check_finite(number, reference)
            for tally, given in zip(tallies, found, strict=True):
                for sample, want, have in zip(turn, reference, given, strict=True):
                    tally.add(sample, want, have)
            number += len(turn)
    return tallies


def _answers(turn: Sequence[Sample], session: Session) -> list[Outputs]:
    return [session.predict(sample.inputs) for sample in turn]


def retrace(
    session: Session, samples: Iterable[Sample], reference: Iterable[Outputs], enough: Callable[[Tally], bool]
) -> Tally:
    """The tally of one session against outputs that the baseline gave before, until it is ``enough``."""
    tally = Tally(agreement=session.interface.agreement)
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


def measured(candidate: Candidate, session: Session, tally: Tally, latency_ms: Latency = UNTIMED) -> Measured:
    """What the tally of a candidate comes to, and the times of its calls."""
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
        latency_ms=latency_ms,
        calibrator=quantization.calibrator.value if quantization.precision.calibrated else "",
        float_layers=tuple(sorted(quantization.float_layers)),
    )
