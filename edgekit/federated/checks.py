"""Checks: what is wrong with an update, before anything is computed with it. It comes from a machine that may lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit_train.clipping import norm, squares
from edgekit_train.update import MOST_COUNTED, Update, Weights

FARTHEST = 10.0
"""Where nothing is clipped: how long a delta may be, as a multiple of the weights' own norm, or of 1."""


@dataclass(frozen=True)
class Limits:
    """``norm``: the longest that a delta may be (L2, all arrays together). ``examples``: the most that a device can
    have learned from, since a mean without a clip weighs by them. ``clipped``: devices hold the norm themselves, and
    exactly.
    """

    norm: float
    examples: int
    clipped: bool = False


def unclipped(base: Weights) -> Limits:
    """Where nobody has said how far a device may go from the weights ``base``."""
    return Limits(FARTHEST * max(1.0, norm(base)), MOST_COUNTED)


def clipped(base: Weights, clip: float, noise: float) -> Limits:
    """Where devices shorten what they have learned to ``clip``, and then add noise of that deviation to each number."""
    numbers: float = sum(array.size for array in base.values())
    most = clip + noise * (numbers**0.5 + 6)  # beyond six deviations is nobody
    return Limits(1.001 * most, MOST_COUNTED, clipped=True)


def reasons(update: Update, base: Weights, limits: Limits) -> list[str]:
    """Why an update of the weights ``base`` is not to be used, a line each; none where it is sound."""
    wrong = misfits(update.delta, base)
    if not wrong:
        wrong += _norm(update.delta, limits.norm)
    if not 1 <= update.examples <= limits.examples:
        wrong.append(f"examples: {update.examples}, where 1 to {limits.examples} can be")
    return wrong


def broken(update: Update, base: Weights, limits: Limits) -> bool:
    """Whether that is what no device sends that does its work: other arrays, or more than its own clip leaves."""
    return bool(misfits(update.delta, base)) or (limits.clipped and any(_norm(update.delta, limits.norm)))


def misfits(arrays: Weights, base: Weights) -> list[str]:
    """Which arrays are others than in ``base`` by name, dtype or shape, or are not finite, a line each."""
    return [*_names(arrays, base), *_arrays(arrays, base)]


def _names(delta: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[str]:
    for told, names in (("missing", base.keys() - delta.keys()), ("not in the model", delta.keys() - base.keys())):
        if names:
            first = ", ".join(f"{name[:40]!r}" for name in sorted(names)[:3])
            yield f"names: {first}{' and others' if len(names) > 3 else ''} {told}"


def _arrays(delta: Weights, base: Weights) -> Iterator[str]:
    for name in sorted(delta.keys() & base.keys()):
        array, want = delta[name], base[name]
        if array.dtype != np.float32:
            yield f"{name}: {array.dtype}, where float32 must be"
        elif array.shape != want.shape:
            yield f"{name}: shape {list(array.shape)}, where the model has {list(want.shape)}"
        elif not math.isfinite(squares(array)):
            yield f"{name}: numbers that are not finite"


def _norm(delta: Weights, most: float) -> Iterator[str]:
    length = norm(delta)
    if not length <= most:
        yield f"norm: {length:.3g}, where at most {most:.3g} can be"
