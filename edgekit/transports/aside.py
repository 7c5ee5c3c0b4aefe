"""Work beside the main thread, which is the one that Ctrl-C interrupts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def aside(work: Callable[[], T]) -> T:
    """What ``work`` gives or raises, done in a thread of its own.

    An interruption ends the wait and not the work. Within a packet it would break an SSH connection for good: the
    device waits for the rest, and whoever cleans up waits for the device.
    """
    return begun(work).result()


def begun(work: Callable[[], T]) -> Future[T]:
    """The same, not waited for."""
    done: Future[T] = Future()

    def go() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=go, daemon=True).start()
    return done
