"""Scenes: CIFAR pictures in fog, each seen several times as a camera does it, and who of a fleet sees which.

Needs the pretrained models and data in ``../shared/models``; where they lack, what is raised is pytest's Skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tests.runtime.learning import Array, pictures

DEVICES, JUDGED, CLASSES, MOVED = 20, 400, 10, 2
EVEN, UNEVEN, VERY_UNEVEN = 1e6, 1.0, 0.1
SPREADS = {"even": EVEN, "uneven (α = 1)": UNEVEN, "very uneven (α = 0.1)": VERY_UNEVEN}
"""How classes are spread over devices, see ``split``."""


@dataclass(frozen=True, eq=False)
class Scenes:
    """int8, less 128, as a quantized model takes them: ``seen`` [800, 4, 32, 32, 3] of ``labels``; those judged by."""

    seen: Array
    labels: Array
    judged: Array
    judged_labels: Array


@cache
def scenes() -> Scenes:
    (x, y), (more, more_y) = pictures("test", fog=True), pictures("calib", fog=True)
    mine, labels = np.concatenate([x[:-JUDGED], more]), np.concatenate([y[:-JUDGED], more_y])
    return Scenes(np.stack([views(each) for each in mine]), labels, x[-JUDGED:], y[-JUDGED:])


def views(picture: Array) -> Array:
    """Of a picture [32, 32, 3]: itself, mirrored, and both moved by two pixels, one way and the other."""
    wide = np.pad(picture, ((MOVED, MOVED), (MOVED, MOVED), (0, 0)), mode="edge")
    size = len(picture)
    return np.stack([picture, picture[:, ::-1], wide[:size, :size], wide[-size:, -size:][:, ::-1]])


def shares(spread: float) -> dict[str, list[int]]:
    """The places of scenes that each device sees, by its name; none is on two."""
    parts = split(scenes().labels, DEVICES, spread, np.random.default_rng(0))
    return {f"pole-{number:02}": part for number, part in enumerate(parts)}


def split(labels: NDArray[np.int64], devices: int, spread: float, rng: np.random.Generator) -> list[list[int]]:
    """Places of samples for each device, as many on each, each sample once.

    Each device has a mix of classes of its own, out of a Dirichlet distribution: the smaller ``spread``, the fewer
    classes it sees (T. Hsu, H. Qi, M. Brown, Measuring the Effects of Non-Identical Data Distribution, 2019).
    """
    left = [rng.permutation(np.flatnonzero(labels == each)).tolist() for each in range(CLASSES)]
    mixes = rng.dirichlet([spread] * CLASSES, devices)
    found: list[list[int]] = [[] for _ in range(devices)]
    for turn in range(len(labels)):
        mix = _of_those_left(mixes[turn % devices], left)
        found[turn % devices].append(left[rng.choice(CLASSES, p=mix)].pop())
    return found


def _of_those_left(mix: NDArray[np.float64], left: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """A mix without the classes that are used up; when all of it is, whatever is left."""
    there = np.array([bool(each) for each in left])
    rest = mix * there if (mix * there).sum() > 0 else there.astype(np.float64)
    return np.asarray(rest / rest.sum())
