"""Calibration: how a model's numbers were spread when it was built; the host writes that, the device counts by it.

One way of looking at a call for both: a few values of each input, the confidence of a few answers and their entropy.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit_runtime import fields
from edgekit_runtime import manifest as manifests

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

MEDIA_TYPE = "application/vnd.edgekit.calibration.v1+json"
SCHEMA_VERSION = 1
MOST_BYTES = 1 << 14
MOST_TENSORS, MOST_NAME, MOST_BINS = 8, 160, 32
KINDS = ("input", "detail", "confidence", "entropy")
PLACES, ROWS = 64, 16
"""Values of an input that are looked at in a call, and answers of an output: rows of a batch, pixels of a mask."""
COLOURS = 4
LEAST = 1e-12


@dataclass(frozen=True)
class Bins:
    """``edges`` rise, each parts what is below it from the rest; ``shares`` are of the bins, one more, together 1."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Spread:
    """Of a tensor: ``bins`` by what is counted, "input" and "detail", or "confidence" and "entropy" where it holds
    class scores, along ``axis`` and logits if they want a ``softmax``. What is not from ``low`` to ``high`` counts as
    clipped; None where nothing can be.
    """

    bins: dict[str, Bins] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    axis: int = -1
    softmax: bool = False


@dataclass(frozen=True)
class Calibration:
    """By the names of the source model."""

    inputs: dict[str, Spread]
    outputs: dict[str, Spread]


def dump(calibration: Calibration) -> bytes:
    """Canonical JSON. Raises: ValueError for more than MOST_BYTES."""
    data = manifests.canonical({"schema_version": SCHEMA_VERSION, **asdict(calibration)})
    if len(data) > MOST_BYTES:
        raise ValueError(f"a calibration profile of {len(data)} bytes")
    return data


def parse(data: bytes) -> Calibration:
    """Raises: ValueError for what ``dump`` did not write."""
    try:
        document = fields.load(data)
        fields.count(document["schema_version"], SCHEMA_VERSION, SCHEMA_VERSION)
        return Calibration(*(_spreads(fields.table(document[key])) for key in ("inputs", "outputs")))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no calibration profile: {error}") from error


def _spreads(document: dict[str, Any]) -> dict[str, Spread]:
    if len(document) > MOST_TENSORS or any(len(name) > MOST_NAME for name in document):
        raise ValueError("too many tensors, or too long a name")
    return {name: _spread(fields.table(each)) for name, each in document.items()}


def _spread(document: dict[str, Any]) -> Spread:
    bins = {name: _bins(fields.table(each)) for name, each in fields.table(document["bins"]).items()}
    if not bins.keys() <= set(KINDS):
        raise ValueError(f"bins of {', '.join(bins)[:80]}")
    low, high = (None if document[key] is None else fields.number(document[key]) for key in ("low", "high"))
    return Spread(bins, low, high, fields.count(document["axis"], -8, 7), document["softmax"] is True)


def _bins(document: dict[str, Any]) -> Bins:
    edges, shares = (tuple(map(fields.number, fields.items(document[key]))) for key in ("edges", "shares"))
    if len(shares) != len(edges) + 1 or len(shares) > MOST_BINS or list(edges) != sorted(edges) or min(shares) < 0:
        raise ValueError(f"{len(edges)} edges, {len(shares)} shares")
    return Bins(edges, shares)


def some(array: Array, turn: int, beside: int = 0) -> Array:
    """About PLACES of a tensor's values, from all along each axis, and others at another ``turn``; or those that lie so
    far ``beside`` them.
    """
    flat = array.reshape(-1)
    stride = max(1, flat.size // PLACES)
    while math.gcd(stride, flat.size) > 1:
        stride += 1
    return flat[turn % stride + beside :: stride]


def looks(array: Array, turn: int) -> dict[str, Array]:
    """Some values ("input"), and how far each is from its neighbour ("detail"): noise raises that, and a lens out of
    focus lowers it.
    """
    values, others = some(array, turn), some(array, turn, _neighbour(array))
    return {"input": values, "detail": np.abs(np.subtract(others, values[: others.size], dtype=np.float64))}


def _neighbour(array: Array) -> int:
    """How far it is to the next pixel, or the next value."""
    return int(array.shape[-1]) if array.ndim == 4 and array.shape[-1] <= COLOURS else 1


def answers(array: Array, axis: int, turn: int) -> Array:
    """At most ROWS answers, a row of scores each, of those that lie across ``axis``.

    Raises: ValueError, IndexError for an array of too few axes.
    """
    scores = np.moveaxis(array, axis, -1)
    count = int(np.prod(scores.shape[:-1]))
    stride = max(1, count // ROWS)
    which = np.arange(turn % stride, count, stride)[:ROWS]
    rows: Array = scores[np.unravel_index(which, scores.shape[:-1])].astype(np.float64)
    return rows


def certainty(rows: Array, *, softmax: bool) -> dict[str, Array]:
    """Of answers: "confidence", the greatest probability, and "entropy", from 0, sure, to 1, no idea."""
    p = np.exp(rows - rows.max(axis=-1, keepdims=True)) if softmax else rows
    p = np.maximum(p, LEAST)
    p = p / p.sum(axis=-1, keepdims=True)
    return {"confidence": p.max(axis=-1), "entropy": -(p * np.log(p)).sum(axis=-1) / math.log(max(2, p.shape[-1]))}


def beyond(array: Array, spread: Spread) -> int:
    """How many are not within ``low`` and ``high``; what is no number is not."""
    return int(array.size - np.count_nonzero((array >= spread.low) & (array <= spread.high)))


def counted(array: Array, edges: Array) -> Array:
    """How many values lie in each bin; what is no number counts as very large."""
    counts: Array = np.bincount(np.searchsorted(edges, array, "right"), minlength=len(edges) + 1)
    return counts
