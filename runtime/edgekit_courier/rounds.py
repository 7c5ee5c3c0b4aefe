"""Rounds: a delivery every few minutes, never at the same moment as all other devices, and seldom when it fails."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Callable, NoReturn

from edgekit_courier import delivery, letter
from edgekit_courier.errors import Undelivered
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.notify import SUPERVISOR

EVERY_S, LONGEST_S = 300.0, 3600.0
STRANGER_S = 30.0
"""How often a device that nobody has enrolled looks whether somebody has."""
TICK_S = 5.0


def pause_s(failures: int, after_s: float = 0.0, chance: Callable[[], float] = random.random) -> float:
    """How long to wait after so many failures in a row: half as long again at most, by chance."""
    least = min(EVERY_S * (1 << min(max(failures - 1, 0), 10)), LONGEST_S)
    return max(least, after_s) * (1 + chance() / 2)


class Rounds:
    """``say`` hears when deliveries begin to fail, or go well again; not each of them."""

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self._home, self._say = home, say
        self._failures, self._said = 0, ""

    def turn(self) -> float:
        """One delivery; how long to wait then."""
        try:
            if letter.read(self._home) is None:
                self._tell("waiting to be enrolled")
                return STRANGER_S * (1 + random.random() / 2)
            number = delivery.deliver(self._home, alive=SUPERVISOR.alive)
        except (EdgekitError, OSError) as error:
            self._failures += 1
            self._tell(f"not delivered: {error}")
            return pause_s(self._failures, error.after_s if isinstance(error, Undelivered) else 0.0)
        self._failures = 0
        self._tell("delivering", f": {number} windows")
        return pause_s(0)

    def _tell(self, state: str, more: str = "") -> None:
        if state != self._said:
            self._said = state
            self._say(f"{state}{more}")


def run(home: Path) -> NoReturn:
    """Until the process is ended."""
    rounds = Rounds(home, lambda line: print(line, file=sys.stderr, flush=True))
    SUPERVISOR.ready("delivering")
    wait_s = 5 * random.random()
    while True:
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            SUPERVISOR.alive()
            time.sleep(min(TICK_S, max(0.0, until - time.monotonic())))
        wait_s = rounds.turn()
