"""Taken: the last window of each session that the other side has; in a file that is whole or not there.

A file that is lost or damaged costs some windows a second journey.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from edgekit_runtime import durable, fields
from edgekit_runtime.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from edgekit_runtime.windows import Window

FILE = "taken.json"
MOST = 8 << 20
SCHEMA_VERSION = 1


class Taken:
    """What ``place`` holds of it: ``last`` by session. ``keep`` writes it down."""

    def __init__(self, place: Path) -> None:
        self._path = place / FILE
        self.last = _read(self._path)

    def add(self, windows: Iterable[Window]) -> None:
        for window in windows:
            self.last[window.session] = max(window.seq, self.last.get(window.session, -1))

    def only(self, sessions: Iterable[str]) -> bool:
        """Forget the others, which are in no spool any more; whether there were any."""
        gone = self.last.keys() - set(sessions)
        for session in gone:
            del self.last[session]
        return bool(gone)

    def keep(self) -> None:
        """Raises: OSError, DigestMismatch."""
        document = {"schema_version": SCHEMA_VERSION, "last": self.last}
        durable.write(self._path, json.dumps(document, separators=(",", ":")).encode())


def forget(place: Path) -> None:
    """As for another collector, which has nothing yet."""
    with suppress(FileNotFoundError):
        durable.remove(place / FILE)


def _read(path: Path) -> dict[str, int]:
    """Nothing where the file is missing or damaged."""
    with suppress(OSError, KeyError, ValueError, BundleError):
        last = fields.table(fields.load(durable.read(path, MOST))["last"])
        return {session: fields.count(seq) for session, seq in last.items()}
    return {}
