"""Busy: what others take of this machine's processor while one program measures itself (proc(5))."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from edgekit_runtime import processes

NOTABLE, MOST = 0.02, 3
"""The share of all cores that a program has to take to be named, and how many are."""
PROC = Path("/proc")


class Others:
    """All but this process, from when this is made on."""

    def __init__(self) -> None:
        self._first = self._last = _ticks()
        self._spent = _spent()

    def share(self) -> float:
        """Of all cores, since the last time."""
        (busy, total), self._last = self._last, _ticks()
        return round(max(0.0, self._last[0] - busy) / max(1.0, self._last[1] - total), 3)

    def programs(self) -> dict[str, float]:
        """By name, the share of those that take the most; the kernel's two counts are not of the same moment."""
        shares: dict[str, float] = {}
        total = max(1.0, _ticks()[1] - self._first[1])
        for pid, ticks in _spent().items():
            with contextlib.suppress(OSError):
                name = (PROC / str(pid) / "comm").read_text().strip()
                shares[name] = shares.get(name, 0.0) + (ticks - self._spent.get(pid, 0)) / total
        most = sorted(shares, key=lambda name: -shares[name])[:MOST]
        return {name: min(1.0, round(shares[name], 3)) for name in most if shares[name] >= NOTABLE}


def _ticks() -> tuple[float, float]:
    """Of all cores since the start: what others took, and altogether; nothing where that is hidden."""
    with contextlib.suppress(OSError, ValueError):
        user, nice, system, idle, waiting, *more = map(int, (PROC / "stat").read_text().split(None, 9)[1:9])
        busy = user + nice + system + sum(more)
        return busy - time.process_time() * os.sysconf("SC_CLK_TCK"), float(busy + idle + waiting)
    return 0.0, 0.0


def _spent() -> dict[int, int]:
    """By process, this one left out, the ticks that it has run."""
    found = {pid: processes.facts(pid) for pid in map(int, filter(str.isdigit, os.listdir(PROC)))}
    return {pid: int(facts[11]) + int(facts[12]) for pid, facts in found.items() if facts and pid != os.getpid()}
