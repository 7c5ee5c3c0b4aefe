"""Report: latencies in windows, from ``predict`` to a bounded spool on the disk.

A window holds a mergeable histogram whose percentiles are within 1 % of the true ones (DDSketch: Masson, Rim, Lee,
VLDB 2019), so a call costs one logarithm and one counter, and a window is one line of JSON a minute. A line is
appended by a single write; a line cut short by a crash is skipped when read.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import math
import os
import re
import sys
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, TypeVar

from edgekit_runtime import fields, probe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from edgekit_runtime.probation import Probation

Key = TypeVar("Key", int, str)

SCHEMA_VERSION = 1
RELATIVE_ERROR = 0.01
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = math.log(GAMMA)

WINDOW_S = 60.0
MOST_TIMES = 100
EMULATED = "emulated-"
"""Begins the name of a session whose times are an emulator's: they are no latencies of anything."""
SPOOL_BYTES = 1 << 20
FILE_BYTES = 1 << 17


@dataclass(frozen=True)
class Window:
    """What one session did between two points in time (seconds since 1970, by the device's clock).

    ``buckets`` maps the index i to the calls that took between γ^(i-1) and γ^i nanoseconds, γ = 1.01/0.99.
    ``session`` and ``seq`` together name a window once and for all.
    """

    app: str
    release: str
    session: str
    seq: int
    start_s: float
    end_s: float
    buckets: dict[int, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(self.buckets.values())

    @property
    def emulated(self) -> bool:
        return self.session.startswith(EMULATED)


def dump(window: Window) -> str:
    """One line of JSON."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(window)}, separators=(",", ":"))


def parse(line: str) -> Window:
    """Raises: ValueError for a line that is no window. ``parse(dump(w)) == w``."""
    document = fields.load(line)
    try:
        if document.pop("schema_version") != SCHEMA_VERSION:
            raise ValueError("another schema version")
        buckets = {_index(index): fields.count(n) for index, n in fields.table(document.pop("buckets")).items()}
        errors = {_short(code): fields.count(n) for code, n in fields.table(document.pop("errors")).items()}
        texts = {key: _short(document[key]) for key in ("app", "release", "session")}
        times = {key: fields.number(document[key]) for key in ("start_s", "end_s")}
        return Window(
            **{**document, **texts, **times, "seq": fields.count(document["seq"])}, buckets=buckets, errors=errors
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no window: {error}") from error


def _index(key: str) -> int:
    if not re.fullmatch("0|[1-9][0-9]{0,3}", key):
        raise ValueError(f"no bucket: {key[:80]!r}")
    return int(key)


def _short(value: object) -> str:
    text = fields.text(value)
    if not 0 < len(text) < 200 or not text.isprintable():
        raise ValueError(f"no short text: {text[:80]!r}")
    return text


def merge(windows: Iterable[Window]) -> dict[int, int]:
    """The buckets of all of them together."""
    return summed(window.buckets for window in windows)


def summed(tables: Iterable[dict[Key, int]]) -> dict[Key, int]:
    """What several tables of counts come to, by key."""
    total: dict[Key, int] = {}
    for table in tables:
        for key, number in table.items():
            total[key] = total.get(key, 0) + number
    return total


def percentile(buckets: dict[int, int], share: float) -> float:
    """The latency in nanoseconds below which ``share`` (0..1) of the calls lie; NaN when there are none."""
    rank = share * (sum(buckets.values()) - 1)
    below = 0
    for index in sorted(buckets):
        below += buckets[index]
        if below > rank:
            return 2 * GAMMA**index / (GAMMA + 1)
    return math.nan


class Spool:
    """A folder of windows, files of about FILE_BYTES, at most SPOOL_BYTES altogether: the oldest file goes first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, window: Window) -> None:
        """Raises: OSError, as when the disk is full; then the window is not in the spool."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = f"{dump(window)}\n".encode()
        self._make_room(len(line) + 1)
        path = self._file_for(window)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and not _ends_line(path):
                line = b"\n" + line
            if os.write(handle, line) < len(line):
                os.ftruncate(handle, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        finally:
            os.close(handle)

    def _file_for(self, window: Window) -> Path:
        """The session's newest file while it is small; else a new one, the names of which sort by age."""
        mine = max(self.folder.glob(f"{window.session}-*.ndjson"), default=None)
        if mine and mine.stat().st_size < FILE_BYTES:
            return mine
        return self.folder / f"{window.session}-{window.seq:09d}.ndjson"

    def _make_room(self, need: int) -> None:
        files = self._files()
        total = need + sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= SPOOL_BYTES:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        """Time of the last line, size and path, oldest first; another process may remove one at any moment."""
        files = []
        for path in self.folder.glob("*.ndjson"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        return sorted(files)

    def windows(self) -> Iterator[Window]:
        """All whole windows, oldest file first; damaged lines and files that cannot be read are skipped."""
        for _, _, path in self._files():
            with contextlib.suppress(OSError):
                for line in path.read_text("utf-8", errors="replace").splitlines():
                    with contextlib.suppress(ValueError):
                        yield parse(line)


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class Recorder:
    """Counts calls of one session and hands a window to the spool every WINDOW_S seconds, and at the end.

    So it does to the probation of a release on trial, also where nothing was called.
    """

    def __init__(
        self, spool: Spool, app: str, release: str, window_s: float = WINDOW_S, *, probation: Probation | None = None
    ) -> None:
        self._spool, self._app, self._release = spool, app, release
        self._session, self._seq = (EMULATED if probe.emulated() else "") + os.urandom(16).hex(), 0
        self._probation = probation
        self._lock, self._done = threading.Lock(), threading.Event()
        self._times: deque[int] = deque()
        self._reset()
        self._thread = threading.Thread(target=self._run, args=(window_s,), name="edgekit-report", daemon=True)
        self._thread.start()
        atexit.register(self._exit)

    def record(self, latency_ns: int) -> None:
        """A call that took so long. It is counted later, with many others: that costs each a tenth of it."""
        self._times.append(latency_ns)
        if len(self._times) >= MOST_TIMES:
            with self._lock:
                self._count()

    def failed(self, code: str) -> None:
        """A call that ended in an error."""
        with self._lock:
            self._errors[code] = self._errors.get(code, 0) + 1

    def flush(self) -> None:
        """Write the window so far, if it holds anything; a disk that refuses must not stop the inference."""
        window = self._take()
        if window.buckets or window.errors:
            try:
                self._spool.append(window)
            except OSError:
                self._put_back(window)
                return
        if self._probation:
            self._probation.window(window)

    def close(self, error: BaseException | None = None) -> None:
        """Write the last window, after one that is being written; ``error`` is what the session ends with."""
        self._done.set()
        self._thread.join()
        self.flush()
        if self._probation:
            if error is not None:
                self._probation.blame(error)
            self._probation.closed()
        atexit.unregister(self._exit)

    def _exit(self) -> None:
        """The program ends, perhaps with an error that nobody caught."""
        self.close(None if hasattr(sys, "ps1") else getattr(sys, "last_value", None))

    def _count(self) -> None:
        """Into the buckets, while others add to what is to be counted."""
        with contextlib.suppress(IndexError):
            while True:
                index = math.ceil(math.log(self._times.popleft() or 1) / _LOG_GAMMA)
                self._buckets[index] = self._buckets.get(index, 0) + 1

    def _take(self) -> Window:
        with self._lock:
            self._count()
            named = (self._app, self._release, self._session, self._seq, self._start, time.time())
            window = Window(*named, self._buckets, self._errors)
            if window.buckets or window.errors:
                self._seq += 1
                self._reset()
            return window

    def _reset(self) -> None:
        self._start = time.time()
        self._buckets: dict[int, int] = {}
        self._errors: dict[str, int] = {}

    def _put_back(self, window: Window) -> None:
        with self._lock:
            self._buckets = summed([self._buckets, window.buckets])
            self._errors = summed([self._errors, window.errors])
            self._start = window.start_s

    def _run(self, window_s: float) -> None:
        while not self._done.wait(window_s):
            self.flush()


__all__ = ["Recorder", "Spool", "Window", "dump", "merge", "parse", "percentile", "summed"]
