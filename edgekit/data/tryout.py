"""Tryout: alternatives to how samples are fed, tried on the float model, to notice wrong preprocessing.

With labels, an alternative is told when the model is right on clearly more samples by it, at ``CHANCE`` over all
alternatives together. Without labels only one thing is certain enough: a model that gives the same unsure answer to
everything, and by an alternative distinct and surer ones. (Confidence alone proves nothing: values that are 255 times
too large make most models surer, and wrong.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.alternatives import AS_IS, Alternative, alternatives
from edgekit.data.answers import Answers, confidence, distinction, guessing, luck, several
from edgekit.data.census import Census
from edgekit.data.dataset import Dataset, Sample
from edgekit_runtime.session import Session
from edgekit_runtime.tensors import fits

Array = NDArray[Any]

SCREEN, CONFIRM, FINALISTS = 48, 400, 3
"""Alternatives see the first number of samples, evenly taken; the best of them up to the second number more."""
FEW, BEHIND = 3, 2
"""One in so many of the first see all alternatives; those that are right on fewer by more than this are dropped."""
STEP = 64
LEAST = 20
"""Samples, on fewer of which nothing is told."""
GOOD = 0.95
"""A share of right answers at which nothing else is tried."""
CHANCE, LEAST_GAIN = 0.01, 0.05
SAME, DISTINCT = 0.02, 0.25
UNSURE, SURER = 0.9, 0.1
ABOUT = 0.01


@dataclass(frozen=True)
class _Tried:
    """An alternative, and what the model answered by it."""

    way: Alternative
    answers: Answers

    @property
    def right(self) -> Array:
        return self.answers.right(self.way.shift)

    def only(self, places: Array) -> _Tried:
        return _Tried(self.way, Answers(self.answers.scores[places], self.answers.labels[places]))

    def and_then(self, more: _Tried) -> _Tried:
        return _Tried(self.way, self.answers.and_then(more.answers))


def suspect(session: Session, data: Dataset, census: Census) -> tuple[str, ...]:
    """What is probably wrong with how ``data``, whose census is given, is fed to the float model: one line at most.

    Nothing is told of models whose first output is no class scores. Raises: DataError, EngineError.
    """
    screened = _evenly(census.samples, SCREEN)
    (plain,) = _try([AS_IS], session, data.at(screened)) or (None,)
    if plain is None or len(plain.answers.labels) < LEAST:
        return ()
    others = alternatives(session.interface, census.columns)
    if (plain.answers.labels < 0).any():
        line = _unlike(plain, others, session, data.at(screened))
    elif plain.right.mean() < GOOD:
        line = _better(plain, others, session, data, screened, census.samples)
    else:
        line = None
    return (f"{data.role} data: {line}",) if line else ()


def _better(
    plain: _Tried, others: Sequence[Alternative], session: Session, data: Dataset, screened: range, samples: int
) -> str | None:
    """By labels: the alternative that is right on clearly more samples; else whether it is all guessing."""
    plain, tried = _screened(plain, others, session, data, screened)
    ahead = [index for index, each in enumerate(tried) if each.right.sum() > plain.right.sum()]
    final = sorted(sorted(ahead, key=lambda index: -int(tried[index].right.sum()))[:FINALISTS])
    rest = [number for number in _evenly(samples, CONFIRM) if number not in screened]
    whole = _confirmed([plain, *(tried[index] for index in final)], session, data, rest)
    plain, winner = whole[0], _first(whole, lambda each: float(each.right.mean()))
    gain = winner.right.mean() - plain.right.mean()
    sure = luck(winner.right, plain.right) < CHANCE / len(others)
    if sure and gain >= LEAST_GAIN and not guessing(winner.answers, winner.way.shift):
        return _told(winner, plain)
    lost = len(plain.right) >= SCREEN and several(plain.answers) and guessing(plain.answers)
    return _told_guessing(plain) if lost else None


def _screened(
    plain: _Tried, others: Sequence[Alternative], session: Session, data: Dataset, numbers: range
) -> tuple[_Tried, list[_Tried]]:
    """What is as it is and its alternatives on some samples, but for those that fell behind on the first of them."""
    places = np.arange(len(numbers))
    few, rest = places[::FEW], places[places % FEW > 0]
    start = plain.only(few)
    tried = _try(others, session, data.at([numbers[place] for place in few]))
    near = [each for each in tried if each.right.sum() >= start.right.sum() - BEHIND]
    more = _try([each.way for each in near], session, data.at([numbers[place] for place in rest]))
    return plain.only(np.append(few, rest)), [one.and_then(other) for one, other in zip(near, more, strict=True)]


def _confirmed(tried: list[_Tried], session: Session, data: Dataset, numbers: Sequence[int]) -> list[_Tried]:
    """What is as it is, first, and its alternatives on more samples, as long as there may be something to tell."""
    steps = -(-len(numbers) // STEP)
    for step in range(steps):
        plain, *others = tried
        ahead = any(each.right.mean() - plain.right.mean() >= LEAST_GAIN / 2 for each in others)
        if not ahead and not guessing(plain.answers):
            break
        more = _try([each.way for each in tried], session, data.at(numbers[step::steps]))
        tried = [one.and_then(other) for one, other in zip(tried, more, strict=True)]
    return tried


def _first(tried: Sequence[_Tried], score: Callable[[_Tried], float]) -> _Tried:
    """The first one that is about as good as the best: those that change less come first."""
    scores = [score(each) for each in tried]
    return next(each for each, have in zip(tried, scores, strict=True) if have >= max(scores) - ABOUT)


def _told(winner: _Tried, plain: _Tried) -> str:
    where = f"input {winner.way.input!r}: " if winner.way.input else ""
    shares = f"{winner.right.mean():.0%} instead of {plain.right.mean():.0%} of {len(plain.right)} samples"
    return f"{where}{winner.way.told}? With {winner.way.remedy} the float model is right on {shares}"


def _told_guessing(plain: _Tried) -> str:
    count = f"{plain.right.mean():.1%} of {len(plain.right)} samples, no better than guessing"
    return f"the float model is right on {count}: wrong preprocessing, or labels in another order?"


def _unlike(plain: _Tried, others: Sequence[Alternative], session: Session, samples: Iterable[Sample]) -> str | None:
    """Without labels: the alternative by which a model tells samples apart that it does not as they are fed."""
    sure = confidence(plain.answers)
    if plain.answers.scores.dtype.kind != "f" or distinction(plain.answers) > SAME or sure > UNSURE:
        return None
    tried = _try([way for way in others if way.feed], session, samples)
    better = [e for e in tried if distinction(e.answers) > DISTINCT and confidence(e.answers) > sure + SURER]
    if not better:
        return None
    best = _first(better, lambda each: distinction(each.answers))
    same = f"the float model gives nearly the same answer to all of {len(plain.right)} samples, {sure:.0%} sure"
    return (
        f"input {best.way.input!r}: {best.way.told}? As it is, {same}; "
        f"with {best.way.remedy} distinct ones, {confidence(best.answers):.0%} sure"
    )


def _evenly(samples: int, count: int) -> range:
    """The numbers of about ``count`` of the samples: files are often sorted by class."""
    return range(0, samples, max(1, samples // count))


def _try(ways: Sequence[Alternative], session: Session, samples: Iterable[Sample]) -> list[_Tried]:
    """What the model answers by each way; nothing where its first output is no class scores, or there is no sample."""
    labels, rows = [], list[list[Array]]()
    for sample in samples:
        plain = session.interface.feeds(sample.inputs)
        scores = {way.feed: _scores(session, _fed(session, sample, plain, way)) for way in ways}
        if any(each is None for each in scores.values()):
            return []
        rows.append([scores[way.feed] for way in ways])  # type: ignore[misc]
        labels.append(-1 if sample.label is None else sample.label)
    known = np.array(labels)
    return [
        _Tried(way, Answers(np.array(each), known))
        for way, each in zip(ways, zip(*rows, strict=True), strict=bool(rows))
    ]


def _fed(session: Session, sample: Sample, plain: dict[str, Array], way: Alternative) -> dict[str, Array]:
    """The model's tensors by a way; as declared where the way leads to a shape that the model does not take."""
    if way.feed is None:
        return plain
    spec = next(spec for spec in session.interface.inputs if spec.name == way.input)
    tensor = way.feed(sample.inputs[way.input])
    return {**plain, spec.inner: tensor} if fits(spec.shape, tensor.shape) else plain


def _scores(session: Session, feeds: dict[str, Array]) -> Array | None:
    outputs = session.interface.results(session.engine.run(feeds))
    scores = next(iter(outputs.values()))
    return scores[0] if scores.ndim == 2 and scores.shape[0] == 1 and scores.shape[1] > 1 else None
