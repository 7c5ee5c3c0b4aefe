"""Recorder: what a session's calls took and came to, in windows for the spool: one line of JSON a minute.

All but the times of calls is asked for when a window ends, by a thread of its own: what the machine works under, and
what others have counted.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Callable

from edgekit_runtime import probe, watched
from edgekit_runtime.tallies import UNKNOWN, Tallies
from edgekit_runtime.windows import EMULATED, LATEST_S, Window, joined

if TYPE_CHECKING:
    from edgekit_runtime.probation import Probation
    from edgekit_runtime.spool import Spool
    from edgekit_watch.quality import Quality

WINDOW_S = 60.0


class Recorder:
    """Counts calls of one session and hands a window to the spool every WINDOW_S seconds, and at the end.

    So it does to the probation of a release on trial, also where nothing was called. ``quality``, where there is one,
    is asked for what it has seen, and ``ask`` for what else was counted: since the last time, without what is 0.
    """

    def __init__(
        self, spool: Spool, app: str, release: str, window_s: float = WINDOW_S, *, probation: Probation | None = None
    ) -> None:
        self.quality: Quality | None = None
        self.ask: Callable[[], dict[str, int]] = dict
        self._spool, self._probation = spool, probation
        session = (EMULATED if probe.emulated() else "") + os.urandom(16).hex()
        self._next = Window(app, release, session, 0, 0.0, 0.0)
        self._waiting: Window | None = None
        self._windows = 0
        self._tallies, self._conditions = Tallies(), watched.conditions()
        self._errors: dict[str, int] = {}
        self._lock, self._writing, self._done = threading.Lock(), threading.Lock(), threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(window_s,), name="edgekit-report", daemon=True)
        self._thread.start()
        atexit.register(self._exit)

    def record(self, preprocess_ns: int, infer_ns: int, postprocess_ns: int, queue_ns: int = UNKNOWN) -> None:
        """A call, whose latency is what it took without what it waited in a queue."""
        whole_ns = preprocess_ns + infer_ns + postprocess_ns
        self._tallies.add((whole_ns, queue_ns, preprocess_ns, infer_ns, postprocess_ns))

    def waited(self, queue_ns: int) -> None:
        """A call, which is recorded by itself, was so long in a queue."""
        self._tallies.add((UNKNOWN, queue_ns, UNKNOWN, UNKNOWN, UNKNOWN))

    def failed(self, code: str) -> None:
        """A call that ended in an error."""
        with self._lock:
            self._errors[code] = self._errors.get(code, 0) + 1

    def flush(self, least: int = 1) -> None:
        """Write what there is, if it is anything; a disk that refuses must not stop the inference.

        ``least``: how many windows' time it has to hold, or it waits.
        """
        with self._writing:
            window = self._window()
            if self._waiting or window.holds_anything:
                self._waiting = joined(self._waiting, window) if self._waiting else window
                self._windows += 1
            if self._waiting and self._windows >= least:
                self._write(self._waiting)
        if self._probation:
            self._probation.window(window)

    def close(self, error: BaseException | None = None) -> None:
        """Write the last window, after one that is being written; ``error`` is what the session ends with."""
        self._done.set()
        self._thread.join()
        if self.quality:
            self.quality.close()
        self.flush()
        if self._probation:
            if error is not None:
                self._probation.blame(error)
            self._probation.closed()
        atexit.unregister(self._exit)

    def _exit(self) -> None:
        """The program ends, perhaps with an error that nobody caught."""
        self.close(None if hasattr(sys, "ps1") else getattr(sys, "last_value", None))

    def _write(self, waiting: Window) -> None:
        """Where it cannot be written it goes with the next."""
        with contextlib.suppress(OSError):
            self._spool.append(waiting)
            self._next = replace(self._next, seq=waiting.seq + 1)
            self._waiting, self._windows = None, 0

    def _window(self) -> Window:
        """What there is since the last one."""
        with self._lock:
            errors, self._errors = self._errors, {}
        buckets, stages = self._tallies.take()
        counters, drift = self.quality.take() if self.quality else ({}, {})
        counters.update(self.ask())
        start, end = self._interval()
        window = replace(self._next, start_s=start, end_s=end, buckets=buckets, errors=errors)
        window = replace(window, stages=stages, counters=counters, drift=drift)
        return replace(window, conditions=self._conditions()) if window.holds_anything else window

    def _interval(self) -> tuple[float, float]:
        """Of the window that ends now. The clock may have been set since it began, so its length is not by that."""
        now = time.monotonic()
        seconds, self._began = now - self._began, now
        end = min(max(time.time(), seconds), LATEST_S)
        return end - seconds, end

    def _run(self, window_s: float) -> None:
        while not self._done.wait(window_s):
            self.flush(self._spool.patience)


__all__ = ["Recorder"]
