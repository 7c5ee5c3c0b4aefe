"""A device's first process: known by a pid file, and by a mark in its command line that no other process has."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Process:
    """What ``pid_file`` names, if that runs: by now the number may belong to somebody else."""

    pid_file: Path
    mark: str

    @property
    def pid(self) -> int | None:
        try:
            pid = int(read(self.pid_file))
        except ValueError:
            return None
        return pid if self.mark in _command_of(pid) else None

    def end(self, *ways: signal.Signals) -> None:
        """One way after another, as long as it runs; returns when it has gone."""
        for way in ways:
            pid = self.pid
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, way)
                wait(lambda: self.pid is None, STOP_TIMEOUT_S)


def _command_of(pid: int) -> str:
    if Path("/proc/self/cmdline").exists():
        return read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")
    return subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True).stdout


def read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in that time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
