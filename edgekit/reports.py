"""Reports: a device's windows of latencies, brought to the store."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgekit import device as devices
from edgekit.errors import DeviceError
from edgekit.transports import Transport
from edgekit_runtime.home import NAME
from edgekit_runtime.report import Window, parse

if TYPE_CHECKING:
    from edgekit.store import Store  # a push to one device needs no database

MOST_BUCKET = 2500
"""γ^2500 nanoseconds are more than 10,000 years."""
MOST_CALLS = 1 << 40
MOST_CODES = 100
MOST_SEQ = (1 << 31) - 1
LATEST_S = 1e11

_RELEASE = re.compile(r"sha256:[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def pull(transport: Transport, device: str, store: Store) -> int:
    """How many windows were new. Raises: DeviceError, TransportError, EdgekitError when they cannot be stored."""
    return store.add(device, windows(transport))


def windows(transport: Transport) -> Iterator[Window]:
    """What a device's spools hold. Raises: DeviceError, TransportError."""
    documents = devices.call(transport, "report").get("windows")
    if not isinstance(documents, list):
        raise DeviceError("the device's report has no windows", "'edgekit device setup' brings its runtime up to date")
    return _windows(documents)


def _windows(documents: list[Any]) -> Iterator[Window]:
    """What no runtime wrote is skipped: a device may say anything."""
    for document in documents:
        try:
            window = parse(json.dumps(document))
        except ValueError:
            continue
        if _plausible(window):
            yield window


def _plausible(window: Window) -> bool:
    """Whether a device can have measured this, which every database can hold and every page can show."""
    counts = (*window.buckets.values(), *window.errors.values())
    return (
        NAME.fullmatch(window.app) is not None
        and _RELEASE.fullmatch(window.release) is not None
        and all(_WORD.fullmatch(word) for word in (window.session, *window.errors))
        and all(0 <= index <= MOST_BUCKET for index in window.buckets)
        and all(0 <= count <= MOST_CALLS for count in counts)
        and all(0 <= moment <= LATEST_S for moment in (window.start_s, window.end_s))
        and len(window.errors) <= MOST_CODES
        and window.seq <= MOST_SEQ
    )
