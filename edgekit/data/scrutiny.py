"""Scrutiny: calibration and evaluation data looked at together with the float model, before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.data import census, suspicion, tryout
from edgekit.data.dataset import Dataset
from edgekit_runtime.session import Session


@dataclass(frozen=True)
class Scrutiny:
    """What a bundle tells of its data, by role; and what looks wrong, a line each."""

    manifests: dict[str, dict[str, Any]]
    notes: tuple[str, ...]


def scrutinize(session: Session, calibration: Dataset, evaluation: Dataset) -> Scrutiny:
    """Walks through both sets. Raises: DataError when samples are in both, or cannot be read; EngineError.

    The calibration data are tried out only where the evaluation data are fed well: what both have is told once.
    """
    one, other = census.take(calibration), census.take(evaluation)
    suspicion.check_apart(one, other)
    looks = suspicion.suspicions(one, other, session.interface.preprocess)
    feeding = tryout.suspect(session, evaluation, other) or tryout.suspect(session, calibration, one)
    return Scrutiny({each.role: each.manifest() for each in (one, other)}, (*looks, *feeding))
