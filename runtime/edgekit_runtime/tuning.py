"""Tuning: how many threads run a model fastest here, and on which cores.

This machine may serve meanwhile. So two take turns, and what is declared stays, unless the other wins nearly every
round, and by more than a little.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Callable

from edgekit_runtime.setting import Tuned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit_runtime.engines import Array, Engine

    Run = Callable[[], object]

LONGEST_S = 4.0
"""For all of it, and a round more."""
ROUNDS, LEAST_ROUNDS = 9, 3
TURN_S = PAUSE_S = 0.005
"""Of calls; and before, as threads of the one before look for work that long."""
FASTER, EVEN = 0.9, 0.97
"""The most of the other's time that a faster one takes, and from where on there is no use in more rounds."""
WORTH_S = 1e-4
"""What threads cost a call; a shorter one has nothing to win."""
BIG = 0.75
"""Of the largest core at least: of two of a kind, one may have a higher clock."""


def choices(declared: Tuned) -> list[Tuned]:
    """What to try besides, the most promising first."""
    cpus = sorted(os.sched_getaffinity(0))
    cores, big = len(cpus), big_ones(cpus)
    numbers = sorted({1, min(2, cores), max(1, cores // 2), cores} - {declared.threads}, reverse=True)
    found = [replace(declared, threads=len(big), cpus=big)] if big else []
    return [*found, *(replace(declared, threads=number) for number in numbers)]


def big_ones(cpus: Sequence[int], system: Path = Path("/sys/devices/system/cpu")) -> tuple[int, ...]:
    """The big ones of these cores; none where all are alike, or Linux does not tell."""
    for fact in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        with contextlib.suppress(OSError, ValueError):
            sizes = {cpu: int((system / f"cpu{cpu}" / fact).read_text()) for cpu in cpus}
            found = tuple(cpu for cpu in cpus if sizes[cpu] >= BIG * max(sizes.values()))
            return found if len(found) < len(cpus) else ()
    return ()


def is_busy(cores: int) -> bool:
    """Whether more wants to run than there are cores (proc(5)): then nothing is learnt of threads."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]) > cores
    return False


def tune(load: Callable[[Tuned], Engine], feeds: dict[str, Array], declared: Tuned, others: Sequence[Tuned]) -> Tuned:
    """The fastest of them, and what it saves; two are loaded at a time. Raises: EngineError."""
    if is_busy(len(os.sched_getaffinity(0))):
        return declared
    best, left, engine, until = declared, 1.0, load(declared), time.monotonic() + LONGEST_S
    if turn(partial(engine.run, feeds)) < WORTH_S:
        return declared
    for other in others:
        challenger = load(other)
        share = duel(partial(engine.run, feeds), partial(challenger.run, feeds), until)
        if share < 1:
            best, left, engine, challenger = other, left * share, challenger, engine
        challenger.close()
    return replace(best, faster=round(1 - left, 3))


def duel(one: Run, other: Run, until: float) -> float:
    """What the other takes of one's time, where that is clearly less; else 1."""
    shares: list[float] = []
    while len(shares) < ROUNDS and time.monotonic() < until:
        seconds = turn(one)
        shares.append(turn(other) / seconds)
        if len(shares) == LEAST_ROUNDS and median(shares) > EVEN:
            break
    return clear(shares)


def clear(shares: Sequence[float]) -> float:
    """What the rounds come to, 1 where that may be chance; pure."""
    lost = sum(share >= 1 for share in shares)
    sure = len(shares) >= LEAST_ROUNDS and lost <= len(shares) // ROUNDS
    return median(shares) if sure and median(shares) <= FASTER else 1.0


def turn(run: Run) -> float:
    """The median seconds of a few calls."""
    time.sleep(PAUSE_S)
    times: list[float] = []
    while sum(times) < TURN_S:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return median(times)
