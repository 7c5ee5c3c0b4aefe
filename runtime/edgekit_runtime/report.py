"""Report: latencies in windows, from ``predict`` to a bounded spool on the disk.

A window holds a mergeable histogram whose percentiles are within 1 % of the true ones (DDSketch: Masson, Rim, Lee,
VLDB 2019), so a call costs one logarithm and one counter, and a window is one line of JSON a minute. A line is
appended by a single write; a line cut short by a crash is skipped when read.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import threading
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SCHEMA_VERSION = 1
RELATIVE_ERROR = 0.01
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = math.log(GAMMA)

WINDOW_S = 60.0
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


def dump(window: Window) -> str:
    """One line of JSON."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(window)}, separators=(",", ":"))


def parse(line: str) -> Window:
    """Raises: ValueError for a line that is no window. ``parse(dump(w)) == w``."""
    try:
        document = json.loads(line)
        if document.pop("schema_version") != SCHEMA_VERSION:
            raise ValueError("another schema version")
        buckets = {int(index): _count(number) for index, number in document.pop("buckets").items()}
        errors = {str(code): _count(number) for code, number in document.pop("errors").items()}
        window = Window(buckets=buckets, errors=errors, **document)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no window: {error}") from error
    _check(window)
    return window


def _count(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"no count: {number!r}")
    return number


def _check(window: Window) -> None:
    texts = (window.app, window.release, window.session)
    if not all(isinstance(text, str) and 0 < len(text) < 200 for text in texts):
        raise ValueError("app, release or session is no short text")
    times = (window.start_s, window.end_s)
    if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in times):
        raise ValueError("start or end is no time")
    _count(window.seq)


def merge(windows: Iterable[Window]) -> dict[int, int]:
    """The buckets of all of them together."""
    total: dict[int, int] = {}
    for window in windows:
        for index, number in window.buckets.items():
            total[index] = total.get(index, 0) + number
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
    """A folder of windows, one file a session, at most SPOOL_BYTES altogether: the oldest file goes first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, window: Window) -> None:
        """Raises: OSError, as when the disk is full."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = f"{dump(window)}\n".encode()
        self._make_room(len(line))
        path = self.folder / f"{window.session}-{window.seq // 256:06d}.ndjson"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if os.fstat(handle).st_size > 0 and not _ends_line(path):
                line = b"\n" + line
            os.write(handle, line)
        finally:
            os.close(handle)

    def _make_room(self, need: int) -> None:
        files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.glob("*.ndjson"))
        total = need + sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= SPOOL_BYTES:
                return
            path.unlink(missing_ok=True)
            total -= size

    def windows(self) -> Iterator[Window]:
        """All whole windows, oldest file first; damaged lines are skipped."""
        for path in sorted(self.folder.glob("*.ndjson"), key=lambda path: path.stat().st_mtime):
            for line in path.read_text(errors="replace").splitlines():
                try:
                    yield parse(line)
                except ValueError:
                    continue


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class Recorder:
    """Counts calls of one session and hands a window to the spool every WINDOW_S seconds, and at the end."""

    def __init__(self, spool: Spool, app: str, release: str, window_s: float = WINDOW_S) -> None:
        self._spool, self._app, self._release = spool, app, release
        self._session, self._seq = uuid.uuid4().hex, 0
        self._lock, self._done = threading.Lock(), threading.Event()
        self._reset()
        threading.Thread(target=self._run, args=(window_s,), name="edgekit-report", daemon=True).start()
        atexit.register(self.close)

    def record(self, latency_ns: int) -> None:
        """A call that took so long."""
        index = math.ceil(math.log(latency_ns or 1) / _LOG_GAMMA)
        with self._lock:
            self._buckets[index] = self._buckets.get(index, 0) + 1

    def failed(self, code: str) -> None:
        """A call that ended in an error."""
        with self._lock:
            self._errors[code] = self._errors.get(code, 0) + 1

    def flush(self) -> None:
        """Write the window so far, if it holds anything; a disk that refuses must not stop the inference."""
        with self._lock:
            if not self._buckets and not self._errors:
                return
            window = Window(
                self._app,
                self._release,
                self._session,
                self._seq,
                self._start,
                time.time(),
                self._buckets,
                self._errors,
            )
            self._seq += 1
            self._reset()
        try:
            self._spool.append(window)
        except OSError:
            self._put_back(window)

    def close(self) -> None:
        self._done.set()
        self.flush()
        atexit.unregister(self.close)

    def _reset(self) -> None:
        self._start = time.time()
        self._buckets: dict[int, int] = {}
        self._errors: dict[str, int] = {}

    def _put_back(self, window: Window) -> None:
        with self._lock:
            for index, number in window.buckets.items():
                self._buckets[index] = self._buckets.get(index, 0) + number
            for code, number in window.errors.items():
                self._errors[code] = self._errors.get(code, 0) + number
            self._start = window.start_s

    def _run(self, window_s: float) -> None:
        while not self._done.wait(window_s):
            self.flush()


__all__ = ["Recorder", "Spool", "Window", "dump", "merge", "parse", "percentile"]
