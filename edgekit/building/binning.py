"""Binning: bins that hold about the same share each of what was seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_watch.calibration import Bins, counted

Array = NDArray[Any]

DIGITS, SHARE_DIGITS = 7, 6
"""Kept of an edge, and after the point of a share."""
SMALLEST = 0.5
"""The least share of a bin, as a part of what it were if all were equal."""
ASIDE = 1e-3
"""How far beside a value that was the only one there are edges."""


def bins(values: Array, most: int) -> Bins:
    """At most so many; what is no finite number is left out.

    An edge lies halfway between two values that were seen: another processor's last bit moves none across it.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    edges = _rounded(_edges(finite, most))
    shares = counted(finite, edges) / max(1, finite.size)
    return Bins(tuple(edges.tolist()), tuple(round(share, SHARE_DIGITS) for share in shares.tolist()))


def _edges(values: Array, most: int) -> Array:
    seen, counts = np.unique(values, return_counts=True)
    if seen.size == 1:
        aside = ASIDE * max(abs(float(seen[0])), 1.0)
        return np.array([seen[0] - aside, seen[0] + aside])
    below = np.cumsum(counts)[:-1] / max(1, values.size)
    cuts, last, least = list[int](), 0.0, SMALLEST / most
    for wanted in np.arange(1, most) / most if below.size else ():
        cut = int(np.argmin(np.abs(below - wanted)))
        if below[cut] - last >= least and 1 - below[cut] >= least:
            cuts.append(cut)
            last = below[cut]
    cuts = cuts or [int(np.argmin(np.abs(below - 0.5)))] if below.size else []
    edges: Array = (seen[cuts] + seen[[cut + 1 for cut in cuts]]) / 2
    return edges


def _rounded(edges: Array) -> Array:
    rounded: Array = np.unique([float(f"{edge:.{DIGITS}g}") for edge in edges])
    return rounded
