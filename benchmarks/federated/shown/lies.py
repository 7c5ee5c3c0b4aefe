"""Lies: what devices send that are broken or tampered with, in place of what they have learned.

This file also goes into the environment of a runtime that is to lie (``lying_device``): it needs nothing of the host.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit_train.update import Weights

Lie = Callable[[Weights, Weights, np.random.Generator], Weights]
"""What was learned in this round, what the device learned in the first one, and chance, to what is sent."""


def flipped(delta: Weights, first: Weights, rng: np.random.Generator) -> Weights:
    """Away from what was learned, ten times as far."""
    return {name: np.float32(-10) * array for name, array in delta.items()}


def turned(delta: Weights, first: Weights, rng: np.random.Generator) -> Weights:
    """Away from what was learned, just as far: no bound of its length tells it from an honest one."""
    return {name: -array for name, array in delta.items()}


def noise(delta: Weights, first: Weights, rng: np.random.Generator) -> Weights:
    """Numbers of deviation 1."""
    return {name: np.asarray(rng.standard_normal(array.shape, np.float32)) for name, array in delta.items()}


def not_a_number(delta: Weights, first: Weights, rng: np.random.Generator) -> Weights:
    return {name: np.full_like(array, np.nan) for name, array in delta.items()}


def misshapen(delta: Weights, first: Weights, rng: np.random.Generator) -> Weights:
    """Of a model with one class less."""
    return {name: array[..., :-1] for name, array in delta.items()}


def stale(delta: Weights, first: Weights, rng: np.random.Generator) -> Weights:
    """What was learned in the first round, again and again, under the number of each round."""
    return first


LIES: dict[str, Lie] = {
    "sign flip ×10": flipped,
    "sign flip": turned,
    "noise": noise,
    "stale": stale,
    "NaN": not_a_number,
    "wrong shape": misshapen,
}
