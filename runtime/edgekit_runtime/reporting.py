"""Reporting: what the spools of a device hold, told to a host part by part: only what it does not have yet.

A host says which window of each session it had last. Of a session it gets the next ones in their order, so that a way
that is cut leaves no gap: who asks again goes on where it broke off.
"""

from __future__ import annotations

import json
import time
from itertools import chain
from typing import TYPE_CHECKING, Any

from edgekit_runtime import fields, serves, spool_files
from edgekit_runtime.spool import Spool
from edgekit_runtime.windows import dump

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from edgekit_runtime.windows import Window

PART_BYTES = 2 << 20


def report(home: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The next part for a host that has ``asked["have"]``: the last seq by session; of one app where it names one.

    ``now_s``: this device's clock, from which a host learns how wrong it is. ``more``: whether there is another part;
    in the last one of all apps ``serves`` says what runs here.

    Raises: ValueError.
    """
    have = {session: fields.count(seq) for session, seq in fields.table(asked.get("have", {})).items()}
    folders = [each for each in sorted((home / "reports").glob("*")) if asked.get("app") in (None, each.name)]
    windows, size = [], 0
    for window in chain.from_iterable(newer(folder, have) for folder in folders):
        line = dump(window)
        size += len(line)
        if size > PART_BYTES:
            break
        windows.append(json.loads(line))
    part = {"now_s": time.time(), "windows": windows, "more": size > PART_BYTES}
    if part["more"] or "app" in asked:
        return part
    for folder in folders:
        Spool(folder).told()
    return {**part, "serves": serves.told(home)}


def newer(folder: Path, have: Mapping[str, int]) -> Iterator[Window]:
    """An app's windows that come after those, session by session, each window once and in its place.

    A line of another session than its file's is not told: nobody could say what comes after it.
    """
    for session, files in sorted(_files(folder).items()):
        last = have.get(session, -1)
        for (_, paths), following in zip(files, [*(seq for seq, _ in files[1:]), None]):
            if following is not None and following <= last + 1:
                continue  # all of it is had
            found = chain.from_iterable(map(spool_files.read, paths))
            own = {w.seq: w for w in found if w.session == session and w.seq > last}
            for seq in sorted(own):
                yield own[seq]
            last = max([last, *own])


def _files(folder: Path) -> dict[str, list[tuple[int, list[Path]]]]:
    """Of each session, by the first window that they hold; two, where packing one was interrupted."""
    sessions: dict[str, dict[int, list[Path]]] = {}
    for file in spool_files.listed(folder):
        sessions.setdefault(file.session, {}).setdefault(file.seq, []).append(file.path)
    return {session: sorted(files.items()) for session, files in sessions.items()}
