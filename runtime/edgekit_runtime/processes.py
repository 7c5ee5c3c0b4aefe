"""Processes: names for them that no other process ever has, by which to tell later whether they still run (proc(5))."""

from __future__ import annotations

import os
import signal
from pathlib import Path

UNKNOWN = "unknown"


def myself() -> str:
    """The name of this process: the boot, its number, and when it was started."""
    pid = os.getpid()
    ticks = started(pid)
    return f"{_boot()}-{pid}-{ticks}" if ticks else UNKNOWN


def runs(name: str) -> bool:
    """Whether a process still runs; one that cannot be told is believed to."""
    boot, _, rest = name.partition("-")
    pid, _, ticks = rest.partition("-")
    if not (pid.isdigit() and ticks):
        return True
    return boot == _boot() and started(int(pid)) == ticks


def _boot() -> str:
    """Eight characters that are others after the next boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return "noboot"


def started(pid: int) -> str:
    """When a process was started, in ticks since boot: no other one has had its number then. "" for none."""
    found = facts(pid)
    return found[19] if found else ""


def facts(pid: int) -> list[str]:
    """What ``stat`` tells of a process, from its state on; nothing of one that has ended or is hidden."""
    try:
        found = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
    except OSError:
        return []
    return [] if found[0] in ("Z", "X") else found


def ending(status: int) -> str:
    """How a process has ended, by its status as ``subprocess`` gives it."""
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"status {status}"
