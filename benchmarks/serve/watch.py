"""What a server costs: CPU and memory of a process and all that came of it, from ``/proc``."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True)
class Memory:
    """MiB of a tree of processes. A page that n processes share counts as an nth in ``pss``, and n times in ``rss``."""

    pss: float
    rss: float


def tree(pid: int) -> list[int]:
    """The process, its children, theirs, and so on."""
    found = [pid]
    for each in found:
        with suppress(OSError):
            for task in (PROC / str(each) / "task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def started(pid: int) -> str:
    """When, in the system's ticks; "" when it has gone. Of two processes with the same number it is another."""
    told = _stat(pid)
    return told[19] if told else ""


def cpu_s(pid: int) -> float:
    """Seconds on a core, of the tree and of those children that have ended and were waited for."""
    return sum(map(_cpu_s, tree(pid)))


def _cpu_s(pid: int) -> float:
    return sum(map(int, _stat(pid)[11:15])) / TICKS  # utime, stime, cutime, cstime


def _stat(pid: int) -> list[str]:
    """The third field of proc(5) and all after it; empty when it has gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def memory(pid: int) -> Memory:
    each = [_rollup(one) for one in tree(pid)]
    return Memory(*(sum(one.get(name, 0) for one in each) / 1024 for name in ("Pss", "Rss")))


def own(pid: int) -> float:
    """MiB of one process without those of files, which others map, too: the PSS of anonymous and of shared memory."""
    each = _rollup(pid)
    return (each.get("Pss_Anon", 0) + each.get("Pss_Shmem", 0)) / 1024


def _rollup(pid: int) -> dict[str, int]:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
