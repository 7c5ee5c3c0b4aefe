"""Flower replies: what a SuperNode answered, as an update that was checked; it comes from a machine that may lie."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Message, MetricRecord

from edgekit.errors import BrokenUpdate, RoundError
from edgekit.federated import checks
from edgekit.federated.checks import Limits
from edgekit_train.clipping import norm
from edgekit_train.flower_records import CLIP, EXAMPLES, NOISE, weights_of
from edgekit_train.update import MOST_METRICS, Update, Weights

MOST_LINE = 300
FLOAT32 = 2.0**-22
"""By so much of the weights' norm a delta may seem longer: sums and differences are rounded."""


def update_of(reply: Message, base: Weights, limits: Limits) -> Update:
    """The delta from ``base``, of the device that the node's number names; its round is Flower's run.

    Raises: RoundError, saying what is wrong; BrokenUpdate for what no node has come to by its work.
    """
    if reply.has_error():
        raise RoundError(f"it answered with an error: {line(reply.error.reason)}")
    arrays, metrics = list(reply.content.array_records.values()), list(reply.content.metric_records.values())
    if len(arrays) != 1 or len(metrics) != 1:
        raise BrokenUpdate(f"{len(arrays)} records of arrays and {len(metrics)} of metrics, where one of each must be")
    try:
        delta = differences(weights_of(arrays[0]), base)
    except ValueError as error:
        raise BrokenUpdate(line(str(error))) from error
    told, figures = _told(metrics[0])
    where = reply.metadata
    update = Update("flower", "", f"{where.run_id:032x}", f"{where.src_node_id}", told, delta, figures)
    if wrong := checks.reasons(update, base, limits):
        raise (BrokenUpdate if checks.broken(update, base, limits) else RoundError)("; ".join(wrong))
    return update


def limits_of(told: Mapping[str, Any], base: Weights) -> Limits:
    """What replies to a message with these settings are held to: the clip and the noise, where it has a clip."""
    if CLIP not in told:
        return checks.unclipped(base)
    limits = checks.clipped(base, float(told[CLIP]), float(told.get(NOISE, 0.0)))
    return replace(limits, norm=limits.norm + FLOAT32 * norm(base))


def differences(after: Weights, before: Weights) -> Weights:
    """After less before; what does not fit is left as it is, for the checks to name."""
    with np.errstate(over="ignore", invalid="ignore"):
        return {name: _less(array, before.get(name)) for name, array in after.items()}


def _less(after: np.ndarray[Any, Any], before: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    if before is None or before.shape != after.shape:
        return after
    delta: np.ndarray[Any, Any] = np.subtract(after, before, dtype=np.float32)
    return delta


def _told(metrics: MetricRecord) -> tuple[int, dict[str, float]]:
    """How many samples were learned from, and the other figures. Raises: BrokenUpdate where that cannot be."""
    examples = metrics.get(EXAMPLES)
    if not isinstance(examples, int):
        raise BrokenUpdate(f"{EXAMPLES!r} is no whole number")
    numbers = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
    finite = {name: float(value) for name, value in numbers.items() if name != EXAMPLES and math.isfinite(value)}
    if len(finite) > MOST_METRICS:
        raise BrokenUpdate(f"{len(finite)} metrics, where at most {MOST_METRICS} can be")
    return examples, finite


def medians(told: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure that more than half of the devices tell: what a few of them make up is not believed."""
    names = {name for each in told for name in each}
    values = {name: [each[name] for each in told if name in each] for name in sorted(names)}
    return {name: statistics.median(each) for name, each in values.items() if 2 * len(each) > len(told)}


def line(text: str | None) -> str:
    """What another machine said, in one line that can be shown."""
    shown = "".join(each if each.isprintable() else " " for each in (text or "no reason")[: 2 * MOST_LINE])
    return " ".join(shown.split())[:MOST_LINE]
