"""Paired: two models on the same labelled samples, answer by answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.building.measure import Tally
from edgekit.data.dataset import Sample
from edgekit.errors import DataError
from edgekit_runtime import fields
from edgekit_runtime.compare import Outputs
from edgekit_runtime.session import Session


@dataclass(frozen=True)
class Paired:
    """Of ``samples``, how many both answered rightly (``both``), only the model before (``lost``), only the one after
    (``gained``).
    """

    samples: int
    both: int
    lost: int
    gained: int

    @property
    def before(self) -> float:
        """The accuracy of the model before."""
        return (self.both + self.lost) / self.samples

    @property
    def after(self) -> float:
        return (self.both + self.gained) / self.samples

    @property
    def worse(self) -> bool:
        """Whether the model after has fewer right answers. What chance allows does not count: a little worse by each
        round, none of them beyond chance, is much worse in the end.
        """
        return self.gained < self.lost

    @property
    def told(self) -> str:
        """In a line."""
        moved = f"{self.gained} more right, {self.lost} fewer"
        return f"accuracy {self.before:.4f} → {self.after:.4f} on {self.samples} evaluation samples ({moved})"

    def as_dict(self) -> dict[str, float]:
        counts = {"samples": self.samples, "gained": self.gained, "lost": self.lost}
        return {**counts, "accuracy_before": self.before, "accuracy_after": self.after}

    @staticmethod
    def of(document: Mapping[str, Any]) -> Paired:
        """Raises: ValueError, KeyError for what ``as_dict`` did not write."""
        samples = fields.count(document["samples"], 1)
        gained, lost = (fields.count(document[key], 0, samples) for key in ("gained", "lost"))
        right = round(fields.number(document["accuracy_after"]) * samples)
        return Paired(samples, fields.count(right - gained, 0, samples - gained - lost), lost, gained)


def paired(before: Session, after: Session, samples: Iterable[Sample]) -> Paired:
    """Both answer each sample; those without a label do not count.

    Raises: DataError where no sample has a label, or the models give no class scores; EngineError.
    """
    sessions = (before, after)
    tallies = [Tally(agreement=session.interface.agreement) for session in sessions]
    marks = Counter[tuple[bool | None, ...]]()
    for sample in samples:
        answers = [session.predict(sample.inputs) for session in sessions]
        marks[tuple(_mark(tally, sample, given) for tally, given in zip(tallies, answers, strict=True))] += 1
    both, lost, gained, neither = (marks[pair] for pair in ((True, True), (True, False), (False, True), (False, False)))
    if not both + lost + gained + neither:
        raise DataError("evaluation data: no sample with a class to judge a round by", "give labels")
    return Paired(both + lost + gained + neither, both, lost, gained)


def _mark(tally: Tally, sample: Sample, outputs: Outputs) -> bool | None:
    """Whether it is right; None where that cannot be said."""
    labelled, correct = tally.labelled, tally.correct
    tally.add(sample, outputs, outputs)
    return tally.correct > correct if tally.labelled > labelled else None
