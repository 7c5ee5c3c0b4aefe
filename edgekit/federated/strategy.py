"""Strategy: how updates become weights, as a pair of functions, and how many devices it needs for what it promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgekit.errors import RoundError
from edgekit.federated.adaptive import Moments, Plain
from edgekit.federated.rows import Rows, kept
from edgekit.federated.vectors import UNCHECKED, Layout, Wide, layout_of
from edgekit_train.update import Update, Weights

Rule = Callable[[Layout, Iterable[Update]], Wide]
"""Deltas to one delta, float64 [size]. It goes through the updates once, and keeps no more of them than it says."""


class Server(Protocol):
    """How one delta moves the weights, from round to round."""

    def start(self, size: int) -> Moments: ...
    def step(self, moments: Moments, delta: Wide) -> tuple[Moments, Wide]: ...


@dataclass(frozen=True)
class State:
    """What a round begins with and what it ends with."""

    weights: Weights
    moments: Moments = field(default_factory=dict)


@dataclass(frozen=True)
class Strategy:
    """``least``: with fewer devices the paper promises nothing. ``config``: what the devices are told to train with.
    ``fewer_liars``: the same rule for so many liars fewer, where it counts with any.
    """

    name: str
    rule: Rule
    least: int = 1
    server: Server = Plain()
    config: Mapping[str, float] = field(default_factory=dict)
    fewer_liars: Callable[[int], Strategy] | None = None

    def without(self, broken: int) -> Strategy:
        """The same once so many of the devices that may lie have given themselves away, and take no part."""
        return self.fewer_liars(broken) if self.fewer_liars and broken else self

    def init(self, weights: Weights) -> State:
        """What the first round begins with."""
        return State(weights, self.server.start(layout_of(weights).size))

    def aggregate(self, state: State, updates: Iterable[Update]) -> State:
        """What the next round begins with, of updates that were checked, one a device; they are gone through once.

        Raises: RoundError for too few devices, for one that is there twice, for updates that do not fit the weights,
        and when what comes of them is not finite.
        """
        layout = layout_of(state.weights)
        delta = self.rule(layout, self._counted(updates))
        moments, move = self.server.step(state.moments, delta)
        moved = layout.apart(layout.flat(state.weights) + move)
        if not all(np.isfinite(array).all() for part in (moved, moments) for array in part.values()):
            raise RoundError(f"{self.name}: the new weights are not finite", UNCHECKED)
        return State(moved, moments)

    def _counted(self, updates: Iterable[Update]) -> Iterator[Update]:
        """The same, unless there are too few: that is said before the rule has its last one and combines them."""
        devices = set[str]()
        for update in updates:
            if update.device in devices:
                raise RoundError(f"{self.name}: two updates from {update.device}", "take one from each device")
            devices.add(update.device)
            yield update
        if len(devices) < self.least:
            came = f"{self.name}: needs updates from {self.least} devices and has {len(devices)}"
            raise RoundError(came, "wait for more devices, or choose a strategy that needs fewer")


def by_rows(combine: Callable[[Rows], Wide]) -> Rule:
    """A rule that needs all updates at once: they are kept on the disk meanwhile."""

    def rule(layout: Layout, updates: Iterable[Update]) -> Wide:
        with kept(layout.size) as rows:
            for update in updates:
                rows.add(update.device, layout.flat(update.delta))
            return combine(rows)

    return rule
