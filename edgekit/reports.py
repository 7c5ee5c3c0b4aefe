"""Reports: what a device measured, brought to the store part by part, each of which is kept before the next is asked
for: a way that is cut loses nothing and repeats nothing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit import device as devices
from edgekit.advice import serving
from edgekit.errors import DeviceError
from edgekit.transports import Transport
from edgekit_runtime.home import NAME
from edgekit_runtime.windows import LATEST_S, Window, parse

if TYPE_CHECKING:
    from edgekit.store import Clock, Store  # a push to one device needs no database

MOST_PARTS = 100
"""Of 2 MiB: what a spool holds, several times. Who says that there is more for ever is heard no further for now."""

_RELEASE, _SESSION = re.compile(r"sha256:[0-9a-f]{64}"), re.compile(r"[A-Za-z0-9_.-]{1,64}")


def pull(transport: Transport, device: str, store: Store) -> int:
    """How many windows were new. Raises: DeviceError, TransportError, EdgekitError when they cannot be stored."""
    from edgekit.advice.serving_store import Servings

    new = 0
    for part in _parts(transport, store.have(device)):
        new += store.add(device, part.windows, part.clock)
        if part.serves is not None:
            Servings(store).note(serving.read(device, part.serves))
    return new


def windows(transport: Transport, app: str) -> Iterator[Window]:
    """What a device's spool holds of an app. Raises: DeviceError, TransportError."""
    for part in _parts(transport, {}, app=app):
        yield from (window for window in part.windows if window.app == app)


@dataclass(frozen=True)
class _Part:
    windows: list[Window]
    clock: Clock
    serves: list[Any] | None


def _parts(transport: Transport, have: dict[str, int], **asked: str) -> Iterator[_Part]:
    """What comes after ``have``, the last seq by session. The next part is asked for when the one before is done with.

    Raises: as ``windows``.
    """
    for _ in range(MOST_PARTS):
        answer = devices.call(transport, "report", stdin={**asked, "have": have})
        part = list(windows_of(answer))
        later = have | {window.session: window.seq for window in sorted(part, key=lambda window: window.seq)}
        told = answer.get("serves")
        yield _Part(part, clock(answer), told if isinstance(told, list) else None)
        if later == have or answer.get("more") is not True:
            return
        have = later


def windows_of(answer: Mapping[str, Any]) -> Iterator[Window]:
    """The windows of a part. What no runtime wrote is skipped: a device may say anything. Raises: DeviceError."""
    documents = answer.get("windows")
    if not isinstance(documents, list):
        raise DeviceError("the device's report has no windows", "'edgekit device setup' brings its runtime up to date")
    return _windows(documents)


def clock(answer: Mapping[str, Any]) -> Clock:
    """The host's clock beside the one of the device that answers now."""
    from edgekit.store import Clock

    told = answer.get("now_s")
    known = isinstance(told, (int, float)) and not isinstance(told, bool) and 0 <= told <= LATEST_S
    return Clock(time.time(), float(told) if known and told is not None else None)


def _windows(documents: list[Any]) -> Iterator[Window]:
    for document in documents:
        try:
            window = parse(json.dumps(document))
        except ValueError:
            continue
        if plausible(window):
            yield window


def plausible(window: Window) -> bool:
    """Whether its names are such as they can be; at the rest of what it says ``parse`` has looked."""
    named = (NAME, window.app), (_RELEASE, window.release), (_SESSION, window.session)
    return all(pattern.fullmatch(name) for pattern, name in named)
