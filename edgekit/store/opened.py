"""An open store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Self

from sqlalchemy import Connection

from edgekit.store import alerting, intake, migration, reading, retention
from edgekit.store.clock import Clock
from edgekit.store.engine import default_url, engine, reporting
from edgekit.store.facts import ALL, CALL, Alert, Seen, Slice, Summary
from edgekit.store.reading import Question
from edgekit.store.retention import Keep
from edgekit.store.rollup import LENGTHS
from edgekit_runtime.windows import Window

UNKEPT, AGAIN = "the report cannot be stored", "nothing is lost: run it again"
UNREAD, LOOK = "the store cannot be read", "look at EDGEKIT_STORE"


class Store:
    """An open database; threads may share it."""

    def __init__(self, url: str | None = None) -> None:
        """Raises: ConfigError for a URL that names no database, EdgekitError when it cannot be opened."""
        self._engine = engine(url or default_url())
        self._turn = threading.Lock() if self._engine.dialect.name == "sqlite" else None
        try:
            with reporting("the store cannot be opened", LOOK):
                migration.bring_up(self._engine)
        except BaseException:
            self.close()
            raise

    def add(self, device: str, windows: Iterable[Window], clock: Clock | None = None) -> int:
        """Keep and count the windows of a device that are not kept yet; how many were new. Raises: EdgekitError.

        ``clock``: as it was when the windows came; without it, they came now from a device that did not tell its time.
        """
        came, at = list(windows), clock or Clock(time.time())
        if not came:
            return 0
        with self._writing(UNKEPT, AGAIN) as connection:
            new = intake.store(connection, device, came, at)
            if new and retention.due(connection, at.now_s):
                retention.prune(connection, at.now_s, Keep())
        return new

    def have(self, device: str) -> dict[str, int]:
        """The last window that has come of each of a device's last sessions. Raises: EdgekitError."""
        with self._reading() as connection:
            return reading.have(connection, device)

    def slices(
        self,
        start_s: float,
        end_s: float,
        *,
        seconds: int = 3600,
        app: str | None = None,
        devices: Iterable[str] | None = None,
        releases: Iterable[str] | None = None,
        stages: Iterable[str] = (CALL,),
        together: bool = False,
    ) -> list[Slice]:
        """What was counted between two moments, in slices of 300, 3600 or 86400 seconds, by start, then device.

        ``together``: of all devices as one, whose name is ALL; emulated calls are not in it. Raises: EdgekitError.
        """
        if seconds not in LENGTHS:
            raise ValueError(f"{seconds} is none of {LENGTHS}")
        of = (ALL,) if together else _listed(devices)
        asked = Question(start_s, end_s, seconds, app, of, _listed(releases), tuple(stages))
        with self._reading() as connection:
            return reading.slices(connection, asked)

    def summaries(self, devices: Iterable[str] | None = None) -> list[Summary]:
        """One a device, app and release, in the order of their first windows. Raises: EdgekitError."""
        with self._reading() as connection:
            return reading.summaries(connection, devices)

    def fleet(self) -> list[Seen]:
        """Each device's newest release of each app, in the order of their names. Raises: EdgekitError."""
        with self._reading() as connection:
            return reading.fleet(connection)

    def alerts(self, open_only: bool = True) -> list[Alert]:
        """Newest first. Raises: EdgekitError."""
        with self._reading() as connection:
            return alerting.alerts(connection, open_only)

    def raise_alerts(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Those that were not open already, of their device, app, release and rule. Raises: EdgekitError."""
        with self._writing("the alerts cannot be stored", LOOK) as connection:
            return alerting.opened(connection, alerts)

    def close_alerts(self, alerts: Iterable[Alert], now_s: float) -> int:
        """How many of them were open. Raises: EdgekitError."""
        with self._writing("the alerts cannot be stored", LOOK) as connection:
            return alerting.closed(connection, alerts, now_s)

    def prune(self, now_s: float, keep: Keep = Keep()) -> None:
        """Forget what is older than ``keep`` says; ``add`` does so once a day. Raises: EdgekitError."""
        with self._writing("the store cannot be pruned", LOOK) as connection:
            retention.prune(connection, now_s, keep)

    @contextmanager
    def transaction(self, what: str) -> Iterator[Connection]:
        """All of it or nothing; ``what`` is told when it fails. Raises: EdgekitError."""
        with reporting(what, LOOK), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self, what: str, hint: str) -> Iterator[Connection]:
        """SQLite has one writer at a time and no queue for them: among threads, there is one here."""
        with self._turn or nullcontext(), reporting(what, hint), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with reporting(UNREAD, LOOK), self._engine.connect() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listed(names: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
