"""Black box: why a device runs what it runs: the last events of an app, in ``blackbox.ndjson`` in its folder.

One line of JSON an event, the oldest dropped first. Whatever it cannot write is not worth failing for.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit_runtime import durable, fields
from edgekit_runtime.errors import BundleError
from edgekit_runtime.home import app_folder, held

if TYPE_CHECKING:
    from pathlib import Path

FILE = "blackbox.ndjson"
MOST_BYTES = 1 << 16
TAIL_LINES, TAIL_BYTES = 20, 4000


@dataclass(frozen=True)
class Event:
    """``what`` happened to a release, by its digest, at ``at`` (seconds since 1970, by the device's clock).

    ``tail``: the last lines that a failed start or proof left, of its traceback or standard error.
    """

    at: int
    what: str
    release: str
    code: str = ""
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    tail: list[str] = field(default_factory=list)


def note(home: Path, app: str, event: Event) -> None:
    """Add an event, durably, unless the disk refuses."""
    folder = app_folder(home, app)
    with contextlib.suppress(OSError, BundleError), held(folder):
        line = json.dumps(asdict(event), separators=(",", ":"), allow_nan=False)
        durable.write(folder / FILE, "".join(f"{each}\n" for each in _last([*_lines(folder), line])).encode())


def event(what: str, release: str, **more: Any) -> Event:
    """An event of now."""
    return Event(int(time.time()), what, release, **more)


def tail(text: str) -> list[str]:
    """The last lines of a text, as many as an event keeps."""
    return text[-TAIL_BYTES:].strip().splitlines()[-TAIL_LINES:]


def read(home: Path, app: str) -> list[Event]:
    """The events that can be read, oldest first."""
    events = []
    for line in _lines(app_folder(home, app)):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            events.append(_event(fields.load(line)))
    return events


def _event(document: dict[str, Any]) -> Event:
    texts = {key: fields.text(document[key]) for key in ("what", "release", "code", "reason")}
    tail = [fields.text(line) for line in fields.items(document["tail"])]
    return Event(
        **{
            **document,
            **texts,
            "at": fields.count(document["at"]),
            "facts": fields.table(document["facts"]),
            "tail": tail,
        }
    )


def _lines(folder: Path) -> list[str]:
    try:
        return (folder / FILE).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _last(lines: list[str]) -> list[str]:
    """As many of the last lines as there is room for."""
    kept: list[str] = []
    room = MOST_BYTES
    for line in reversed(lines):
        room -= len(line.encode()) + 1
        if room < 0:
            break
        kept.append(line)
    return kept[::-1]
