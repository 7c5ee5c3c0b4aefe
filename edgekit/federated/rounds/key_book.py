"""The store's book of the keys that devices sign updates with: the first that is seen of a device is its own."""

from __future__ import annotations

import time

from sqlalchemy import select

from edgekit.federated.rounds.tables import KEYS
from edgekit.store import Store
from edgekit.store.engine import insert_new, upsert

UNKEPT, UNREAD = "the device's key cannot be kept", "the device's key cannot be read"


class KeyBook:
    """Keys as ``KIND BLOB``, of a project's devices. Every method raises EdgekitError when the store refuses it."""

    def __init__(self, store: Store, project: str) -> None:
        self._store, self._project = store, project

    def known(self, device: str) -> str | None:
        own = (KEYS.c.project == self._project) & (KEYS.c.device == device)
        with self._store.transaction(UNREAD) as connection:
            return connection.execute(select(KEYS.c.public).where(own)).scalar()

    def pin(self, device: str, public: str) -> None:
        """From now on, where none was known."""
        with self._store.transaction(UNKEPT) as connection:
            insert_new(connection, KEYS, [self._row(device, public)])

    def trust(self, device: str, public: str) -> None:
        """From now on, whatever was known."""
        with self._store.transaction(UNKEPT) as connection:
            upsert(connection, KEYS, [self._row(device, public)])

    def _row(self, device: str, public: str) -> dict[str, str | float]:
        return {"project": self._project, "device": device, "public": public, "seen_s": time.time()}
