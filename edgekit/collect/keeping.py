"""Keeping: a delivery brought to the store; what a device says of its releases only when it has changed."""

from __future__ import annotations

import json

from edgekit.advice import serving
from edgekit.advice.serving_store import Servings
from edgekit.collect.bodies import Body
from edgekit.store import Clock, Store

MOST_DEVICES = 10_000


class Keeper:
    """Of a store, for several threads."""

    def __init__(self, store: Store) -> None:
        self._store, self._told = store, dict[str, int]()

    def keep(self, device: str, body: Body, clock: Clock | None) -> int:
        """How many windows were new. Raises: EdgekitError when they cannot be stored."""
        new = self._store.add(device, body.windows, clock) if body.windows else 0
        serves = body.head.get("serves")
        told = hash(json.dumps(serves))
        if serves and self._told.get(device) != told:
            Servings(self._store).note(serving.read(device, serves))
            if len(self._told) >= MOST_DEVICES:
                self._told.clear()
            self._told[device] = told
        return new
