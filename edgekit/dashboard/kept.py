"""Kept: a page that is made anew only now and then, however many look at it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

PERIOD_S = 5.0


@dataclass(frozen=True)
class Copy:
    """A page, and a name for just this one."""

    body: bytes
    tag: str


class Kept:
    """``make`` is called by one at a time, and not before PERIOD_S after the last time."""

    def __init__(self, make: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock = make, clock
        self._lock, self._made_s = threading.Lock(), -PERIOD_S
        self._copy = Copy(b"", "")

    def latest(self) -> Copy:
        """Raises: what ``make`` does."""
        with self._lock:
            if self._clock() - self._made_s >= PERIOD_S:
                body = self._make().encode()
                self._copy = Copy(body, f'W/"{hashlib.sha256(body).hexdigest()[:32]}"')
                self._made_s = self._clock()
            return self._copy
