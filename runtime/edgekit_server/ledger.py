"""Ledger: what was counted of every release that was served, whichever process counted it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterable

from edgekit_server.tally import Tally

if TYPE_CHECKING:
    from edgekit_server.counts import Counts
    from edgekit_server.workers import Worker


class Ledger:
    """``workers``: those that count at present, each in its share."""

    def __init__(self, workers: Callable[[], Iterable[Worker]]) -> None:
        self._workers = workers
        self._tallies: dict[tuple[str, str], Tally] = {}

    def of(self, app: str, version: str) -> Tally:
        """Where the front counts what concerns this release."""
        return self._tallies.setdefault((app, version), Tally())

    def counts(self, app: str, version: str) -> Counts:
        """All of a release, at this moment."""
        whole, tally = Tally(), self._tallies.get((app, version), Tally())
        whole.add(tally)
        for worker in self._workers():
            if worker.tally is tally:
                whole.add(worker.share)
        return whole.counts()

    def all(self) -> dict[tuple[str, str], Counts]:
        """By app and version."""
        return {key: self.counts(*key) for key in self._tallies}
