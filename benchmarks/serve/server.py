"""A server on a core of its own: started, asked until it answers, watched, stopped with all that came of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serve import watch
from benchmarks.serve.connection import Question
from benchmarks.serve.entries import Command
from benchmarks.serve.load import put
from benchmarks.serve.wire import Dialect
from edgekit.errors import EdgekitError

READY_S, PAUSE_S, STOP_S = 60.0, 0.005, 20.0
PORTS, FIRST, LAST = 3, 20_000, 32_000
"""So many in a row, where Linux takes none for connections (``ip_local_port_range``)."""


@dataclass(frozen=True)
class Running:
    """``ready_s``: from its start to its first right answer."""

    pid: int
    ready_s: float


@contextmanager
def running(command: Command, core: int, asking: tuple[int, Dialect, Question], log: Path) -> Iterator[Running]:
    """``asking``: port, dialect and what it is asked. Raises: EdgekitError when there is no answer."""
    started = time.perf_counter()
    with log.open("wb") as out, on_core(core):
        process = subprocess.Popen(
            command.words, env=command.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=log.parent
        )
    try:
        _wait(process, asking, log)
        yield Running(process.pid, time.perf_counter() - started)
    finally:
        _stop(process)


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started meanwhile may only run there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _wait(process: subprocess.Popen[bytes], asking: tuple[int, Dialect, Question], log: Path) -> None:
    port, dialect, question = asking
    deadline, trouble = time.monotonic() + READY_S, "no answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise EdgekitError(f"it ended with {process.returncode}: {last_words(log)}")
        try:
            put(port, dialect, [question], (1, 0.0))
        except (OSError, EdgekitError) as error:
            trouble = str(error)
            time.sleep(PAUSE_S)
        else:
            return
    raise EdgekitError(f"not ready in {READY_S:.0f} s: {trouble}; {last_words(log)}")


def last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line] or lines
    return telling[-1][:300] if telling else "it said nothing"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As by Ctrl-C, after which they clean up; then by force, with whatever it left behind."""
    all_of_it = {pid: watch.started(pid) for pid in watch.tree(process.pid)}
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    for pid, started in all_of_it.items():
        if started and watch.started(pid) == started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def free_ports() -> int:
    """The first of some that are free, one after the other."""
    return next(port for port in range(FIRST, LAST, PORTS) if all(map(_free, range(port, port + PORTS))))


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
