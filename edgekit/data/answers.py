"""Answers: the class scores that a model gave for some samples, and what these say about how it was fed. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BEYOND_CHANCE = 2.0
"""Standard deviations over what guessing would get."""
MOST = 0.7


@dataclass(frozen=True)
class Answers:
    """Class scores [samples, classes] and labels [samples], -1 where there is none."""

    scores: Array
    labels: Array

    def right(self, shift: int = 0) -> Array:
        """Whether the highest score is that of the label and ``shift``, by sample."""
        return np.asarray((self.labels >= 0) & (self.scores.argmax(1) == self.labels + shift))

    def and_then(self, more: Answers) -> Answers:
        return Answers(np.concatenate((self.scores, more.scores)), np.concatenate((self.labels, more.labels)))


def luck(one: Array, other: Array) -> float:
    """How likely ``one`` were right (booleans, by sample) so much oftener than ``other`` if both were equally good.

    The sign test over the samples that only one of the two has right (Dixon and Mood 1946), one-sided.
    """
    wins, losses = int((one & ~other).sum()), int((other & ~one).sum())
    games = wins + losses
    ways = sum(math.comb(games, k) for k in range(wins, games + 1))
    return float(ways / 2**games)


def several(answers: Answers) -> bool:
    """Whether the labels are of several classes, none of which has nearly all."""
    return bool(np.unique(answers.labels, return_counts=True)[1].max() <= MOST * len(answers.labels))


def guessing(answers: Answers, shift: int = 0) -> bool:
    """Whether no more answers are right than if the same ones had been dealt out by lot (Cohen 1960).

    So it is for any answers where all labels are the same.
    """
    count, classes = answers.scores.shape
    said = np.bincount(answers.scores.argmax(1), minlength=classes) / count
    true = np.bincount((answers.labels + shift).clip(0, classes - 1), minlength=classes) / count
    lot = float(said @ true)
    return bool(answers.right(shift).mean() <= lot + BEYOND_CHANCE * math.sqrt(lot * (1 - lot) / count))


def distinction(answers: Answers) -> float:
    """How much the answers tell the samples apart, from 0 (always the same) to 1: the mutual information of the two, as
    a share of the most that so many samples and classes can have.
    """
    shares = _probabilities(answers.scores)
    return float((_entropy(shares.mean(0)) - _entropy(shares).mean()) / math.log(min(shares.shape)))


def confidence(answers: Answers) -> float:
    """The mean probability of the class that is answered."""
    return float(_probabilities(answers.scores).max(1).mean())


def _probabilities(scores: Array) -> Array:
    """The scores themselves where they are probabilities, else their softmax."""
    x = scores.astype(np.float64)
    if x.min() >= 0 and np.abs(x.sum(1) - 1).max() < 0.01:
        return x
    powers = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def _entropy(shares: Array) -> Array:
    return np.asarray(-(shares * np.log(shares.clip(1e-12))).sum(-1))
