"""Fidelity: how much of the float model's signal a quantized one keeps, as a signal-to-quantization-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.dataset import Sample
from edgekit.errors import EngineError
from edgekit_runtime.compare import Outputs, balance
from edgekit_runtime.session import Session

SAMPLES = 128
"""As many calibration samples tell calibrators apart: fewer favour the one that fits just these."""
BYTES = 1 << 28
"""As much is kept of the float model's outputs."""
BEST_DB, WORST_DB = 200.0, -200.0


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
        try:
            found = [session.predict(sample.inputs) for sample in self.samples]
        except EngineError:
            return WORST_DB
        shares = [_noise_share(name, self.outputs, found) for name in self.outputs[0]]
        share = sum(shares) / len(shares)
        return WORST_DB if not math.isfinite(share) else -10 * math.log10(max(share, 10 ** (-BEST_DB / 10)))


def _noise_share(name: str, reference: Sequence[Outputs], found: Sequence[Outputs]) -> float:
    signal = noise = 0.0
    for want, have in zip(reference, found, strict=True):
        if have[name].shape != want[name].shape:
            return math.inf
        a, b = balance(want[name], have[name])
        signal += float(np.sum(a * a))
        noise += float(np.sum((a - b) ** 2))
    return noise / signal if signal else (math.inf if noise else 0.0)
