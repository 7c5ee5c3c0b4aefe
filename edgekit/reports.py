"""Reports: a device's windows of latencies, brought to the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from edgekit import device as devices
from edgekit.store import Store
from edgekit.transports import Transport
from edgekit_runtime.report import Window, parse


def pull(transport: Transport, device: str, store: Store) -> int:
    """How many windows were new. Raises: DeviceError, TransportError, EdgekitError when they cannot be stored."""
    return store.add(device, _windows(devices.call(transport, "report")["windows"]))


def _windows(documents: list[Any]) -> Iterator[Window]:
    """What is no window is skipped: a device may say anything."""
    for document in documents:
        try:
            yield parse(json.dumps(document))
        except ValueError:
            continue
