"""Hedged heads: hidden layers with a head on the features and on each of them, and what share each has in the answer.

The weights: ``hidden.0`` … as the layers of a head, ``exit.0`` … of one layer each, and ``hedge.alpha``, the shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Tuple

import numpy as np

from edgekit_runtime.errors import InvalidInput
from edgekit_train import heads

if TYPE_CHECKING:
    from edgekit_train.update import Weights

    Array = np.ndarray[Any, Any]
    Layer = Tuple[Array, Array]

ALPHA = "hedge.alpha"
DISCOUNT, SMOOTH = 0.99, 0.2
"""β and s of Sahoo et al. 2018: how fast a head that is wrong loses its share, and what all of them keep together."""


class HedgedHeads:
    """``body``, the hidden layers, and an ``exit`` on the features and on each of them."""

    def __init__(self, body: list[Layer], exits: list[Layer], alpha: Array) -> None:
        self.body, self.exits, self.alpha = body, exits, alpha

    @staticmethod
    def of(weights: Weights) -> HedgedHeads:
        """Copies. Raises: InvalidInput where they are no such heads."""
        bodies = {name: array for name, array in weights.items() if name.startswith("hidden.")}
        body = heads.layers(bodies, "hidden")
        exits = [_exit(weights, place) for place in range(len(body) + 1)]
        alpha = np.array(weights.get(ALPHA, ()), np.float32)
        found = HedgedHeads(body, exits, alpha)
        if odd := sorted(weights.keys() - found.named.keys()):
            raise InvalidInput(f"{odd[0]} is no part of heads on {len(body)} hidden layers")
        _check(found)
        return found

    @property
    def layers(self) -> list[Layer]:
        return [*self.body, *self.exits]

    @property
    def named(self) -> Weights:
        return {**heads.named(self.body, "hidden"), **heads.named(self.exits, "exit"), ALPHA: self.alpha}

    @property
    def shape(self) -> tuple[int, int]:
        return self.exits[0][0].shape[0], self.exits[0][1].size

    def answers(self, rows: Array) -> tuple[list[Array], list[Array]]:
        """What each exit takes, and its logits."""
        taken = [rows]
        for weight, bias in self.body:
            taken.append(np.maximum(taken[-1] @ weight + bias, 0))
        return taken, [each @ weight + bias for each, (weight, bias) in zip(taken, self.exits)]

    def weighed(self, scores: list[Array]) -> Array:
        whole: Array = sum(share * heads.probabilities(each) for share, each in zip(self.alpha, scores))
        return whole

    def gradient(self, taken: list[Array], scores: list[Array], labels: Array) -> list[Layer]:
        """Of the weighted sum of losses, in the order of ``layers``."""
        errors = [share * heads.error_of(each, labels) for share, each in zip(self.alpha, scores)]
        exits = [(rows.T @ error, error.sum(axis=0)) for rows, error in zip(taken, errors)]
        body: list[Layer] = []
        back = np.zeros_like(taken[-1])
        for place in reversed(range(len(self.body))):
            back = (back + errors[place + 1] @ self.exits[place + 1][0].T) * (taken[place + 1] > 0)
            body.insert(0, (taken[place].T @ back, back.sum(axis=0)))
            back = back @ self.body[place][0].T
        return [*body, *exits]

    def judge(self, losses: list[float]) -> None:
        """Less weight for those that were wrong, no head below its share of SMOOTH."""
        alpha = np.maximum(self.alpha * DISCOUNT ** np.array(losses), SMOOTH / len(losses))
        self.alpha = (alpha / alpha.sum()).astype(np.float32)


def _check(found: HedgedHeads) -> None:
    """Raises: InvalidInput for heads of other widths than their layers, of other classes, or with other shares."""
    size, classes = found.shape
    wanted = [(width, classes) for width in (size, *(bias.size for _, bias in found.body))]
    given = [weight.shape for weight, _ in found.exits]
    if given != wanted or size != found.body[0][0].shape[0]:
        raise InvalidInput(f"heads of {given} on hidden layers of {[weight.shape for weight, _ in found.body]}")
    if found.alpha.shape != (len(given),):
        raise InvalidInput(f"{len(given)} heads with {found.alpha.size} shares")


def _exit(weights: Weights, place: int) -> Layer:
    names = f"exit.{place}.weight", f"exit.{place}.bias"
    if not weights.keys() >= set(names):
        raise InvalidInput(f"a hidden layer without its head exit.{place}")
    return heads.layers({f"{heads.PREFIX}.0.{name.rpartition('.')[2]}": weights[name] for name in names})[0]
