"""Fidelity: how much of the float model's signal a quantized one keeps, as a signal-to-quantization-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.dataset import Sample
from edgekit.errors import EngineError
from edgekit_runtime.compare import Outputs, balance, divergence
from edgekit_runtime.session import Session

Array = NDArray[Any]

SAMPLES = 128
"""As many calibration samples tell calibrators apart: fewer favour the one that fits just these."""
BYTES = 1 << 28
"""As much is kept of the float model's outputs."""
BEST_DB, WORST_DB = 200.0, -200.0

NEAR = 0.005
"""A loss at which models agreed with float on 97 to 100 % of samples: no other range did better but by chance."""
ALIKE = 0.01
"""By what share of it a loss changes at most where the ranges are not what costs; the weights are, then."""


@dataclass(frozen=True)
class Reference:
    """Some samples with what the float model gives for them."""

    samples: Sequence[Sample]
    outputs: Sequence[Outputs]

    @staticmethod
    def of(session: Session, samples: Iterable[Sample]) -> Reference:
        """The first samples, as many as are bounded by SAMPLES and BYTES. Raises: DataError, EngineError."""
        kept, outputs, size = list[Sample](), list[Outputs](), 0
        for sample in samples:
            kept.append(sample)
            outputs.append(session.predict(sample.inputs))
            size += sum(array.nbytes for array in (*outputs[-1].values(), *sample.inputs.values()))
            if len(kept) >= SAMPLES or size > BYTES:
                break
        return Reference(kept, outputs)

    def first(self, count: int) -> Reference:
        return Reference(self.samples[:count], self.outputs[:count])

    def sqnr_db(self, session: Session) -> float:
        """Decibels over all samples, every output weighing the same; WORST_DB for a model that cannot be run.

        An output of mixed scales is balanced first, so that small columns count as large ones do.
        """
        share = self._mean(session, _noise_share)
        return WORST_DB if not math.isfinite(share) else -10 * math.log10(max(share, 10 ** (-BEST_DB / 10)))

    def loss(self, session: Session) -> float:
        """What tells candidates apart that are alike: for class scores the divergence of the probabilities that they
        stand for, in nats, for other outputs the share of noise; infinite for a model that cannot be run.
        """
        return self._mean(session, lambda *outputs: (_divergence if _are_scores(*outputs) else _noise_share)(*outputs))

    @np.errstate(invalid="ignore", over="ignore")  # infinity less infinity
    def _mean(self, session: Session, measure: Callable[[str, Sequence[Outputs], Sequence[Outputs]], float]) -> float:
        try:
            found = [session.predict(sample.inputs) for sample in self.samples]
        except EngineError:
            return math.inf
        return sum(measure(name, self.outputs, found) for name in self.outputs[0]) / len(self.outputs[0])


def settled(losses: Sequence[float]) -> bool:
    """Whether to try no other ranges after those that gave these losses."""
    return losses[-1] <= NEAR or (len(losses) == 2 and abs(losses[0] - losses[1]) < ALIKE * losses[0])


def _noise_share(name: str, reference: Sequence[Outputs], found: Sequence[Outputs]) -> float:
    signal = noise = 0.0
    for want, have in zip(reference, found, strict=True):
        if have[name].shape != want[name].shape:
            return math.inf
        a, b = balance(want[name], have[name])
        signal += float(np.sum(a * a))
        noise += float(np.sum((a - b) ** 2))
    return noise / signal if signal else (math.inf if noise else 0.0)


def _are_scores(name: str, reference: Sequence[Outputs], found: Sequence[Outputs]) -> bool:
    shapes = {outputs[name].shape for outputs in (*reference, *found)}
    return len(shapes) == 1 and all(len(shape) == 2 and shape[1] > 1 for shape in shapes)


def _divergence(name: str, reference: Sequence[Outputs], found: Sequence[Outputs]) -> float:
    """The mean Kullback-Leibler divergence of a sample's classes."""
    return divergence(*(np.concatenate([each[name] for each in outputs]) for outputs in (reference, found)))
