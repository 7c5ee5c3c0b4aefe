"""Pulse: whether the other end of an SSH connection still answers.

paramiko sends keepalives and does not look whether they are answered; the kernel sees only as far as the next proxy.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack

import paramiko

EVERY_S = 15.0
SILENCE_S = 60.0
"""A connection without an answer for so long has failed."""


class Pulse:
    """Asks for an answer again and again, in a thread; closes the connection when none comes. ``silent`` says so."""

    def __init__(self, link: paramiko.Transport, held: ExitStack) -> None:
        self.silent = False
        self._link = link
        self._closed = threading.Event()
        held.callback(self._closed.set)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self._link.is_active() and not self._closed.wait(EVERY_S):
            alarm = threading.Timer(SILENCE_S, self._give_up)
            alarm.daemon = True
            alarm.start()
            try:
                self._link.global_request("keepalive@openssh.com")  # sshd says that it knows no such request
            except (OSError, EOFError, paramiko.SSHException):
                return
            finally:
                alarm.cancel()

    def _give_up(self) -> None:
        if self._link.is_active() and not self._closed.is_set():
            self.silent = True
            self._link.close()
