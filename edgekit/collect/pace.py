"""Pace: how often a device may deliver (a token bucket)."""

from __future__ import annotations

import time
from collections.abc import Callable

BURST, PER_S = 240.0, 1.0
"""Four weeks offline are some 200 parcels."""
MOST_DEVICES = 10_000


class Pace:
    """Only devices that are known may ask, so there are not more of them than were enrolled."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, device: str) -> float:
        """0 when it may, which is counted; else how long it has to wait."""
        now = self._clock()
        left, since = self._left.get(device, (BURST, now))
        left = min(BURST, left + (now - since) * PER_S)
        if left < 1:
            return (1 - left) / PER_S
        if device not in self._left and len(self._left) >= MOST_DEVICES:
            self._left.clear()
        self._left[device] = (left - 1, now)
        return 0.0
