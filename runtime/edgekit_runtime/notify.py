"""Notify: tells the service manager that a model is loaded, and that inferences go on.

The protocol of sd_notify(3) and sd_watchdog_enabled(3): datagrams to the socket that ``$NOTIFY_SOCKET`` names. Where
there is none, nothing happens. The watchdog hears of inferences that were done, not of a timer: a program whose camera
or engine hangs is silent, and is started again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from collections.abc import Mapping


class Supervisor:
    """The service manager that started this program, if one did."""

    def __init__(
        self, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = _address(environment.get("NOTIFY_SOCKET", ""))
        self._every_s = _seconds(environment.get("WATCHDOG_USEC", "")) / 2
        self._clock, self._next = clock, 0.0

    def ready(self, status: str) -> None:
        """A model is loaded. Inferences may be long in coming, so this counts as one."""
        self._tell(f"READY=1\nSTATUS={status}\nWATCHDOG=1")

    def alive(self) -> None:
        """An inference was done; told at most twice within the time that the watchdog waits."""
        if not self._path or not self._every_s:
            return
        now = self._clock()
        if now >= self._next:
            self._next = now + self._every_s
            self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> None:
        if not self._path:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sender:
            sender.sendto(message.encode(), self._path)  # one that does not listen must not stop the inference


def _address(name: str) -> str:
    """An absolute path, or a name in the abstract namespace, which is written with ``@``; "" for others."""
    if name.startswith("@"):
        return f"\0{name[1:]}"
    return name if name.startswith("/") else ""


def _seconds(microseconds: str) -> float:
    return int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0


SUPERVISOR = Supervisor()
