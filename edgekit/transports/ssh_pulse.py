"""Pulse: whether the other end of an SSH connection still answers.

paramiko sends keepalives and does not look whether they are answered; the kernel sees only as far as the next proxy.
"""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from time import monotonic
from typing import Any

import paramiko

EVERY_S = 15.0
SILENCE_S = 60.0
"""A connection that owes an answer, and on which nothing moves for so long, has failed."""


class Wire:
    """What an SSH connection lies on, and when it moved last: something came, or room became free for more to go.

    Little fits into it (``ssh_open.UNSENT``), so a dead one soon takes nothing any more.
    """

    def __init__(self, inner: socket.socket | paramiko.Channel) -> None:
        self.moved_s = monotonic()
        self._inner = inner

    def recv(self, size: int) -> bytes:
        data = self._inner.recv(size)
        self.moved_s = monotonic()
        return data

    def send(self, data: bytes) -> int:
        size = self._inner.send(data)
        self.moved_s = monotonic()
        return size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Pulse:
    """Asks for an answer again and again, in a thread; closes the connection when it is dead. ``silent`` says so.

    Over a slow link an answer is long in coming, behind all else that goes over: whatever moves is a sign of life.
    """

    def __init__(self, link: paramiko.Transport, wire: Wire, held: ExitStack) -> None:
        self.silent = False
        self._link = link
        self._wire = wire
        self._closed = threading.Event()
        held.callback(self._closed.set)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self._link.is_active() and not self._closed.wait(EVERY_S):
            answered = threading.Event()
            threading.Thread(target=self._listen, args=(monotonic(), answered), daemon=True).start()
            try:
                self._link.global_request("keepalive@openssh.com")  # sshd says that it knows no such request
            except (OSError, EOFError, paramiko.SSHException):
                return
            finally:
                answered.set()

    def _listen(self, asked_s: float, answered: threading.Event) -> None:
        while (left_s := max(asked_s, self._wire.moved_s) + SILENCE_S - monotonic()) > 0:
            if answered.wait(left_s):
                return
        if self._link.is_active() and not self._closed.is_set():
            self.silent = True
            self._link.close()
