"""Incoming: what pushes send, each to a place of its own, until ``install`` has taken it in.

A place belongs to the process that holds the push's connection, and bears its name: the sshd of this connection, or
the host's own process for a folder as device. While that process lives, no other push removes the place. Afterwards
the next one does, and keeps what had arrived of the blobs that it wants. Where the process cannot be told, a day
decides.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_runtime import durable, processes
from edgekit_runtime.errors import BundleError, DeviceError

if TYPE_CHECKING:
    from edgekit_runtime.bundle import Descriptor

PLACE = re.compile(r"([0-9]+)-([0-9]+)-[0-9a-f]{32}")
UNKNOWN = "0-0"
QUIET_S = 24 * 3600
"""A way to the device that the owner does not tell of (a container's, an adb's) may have died without a trace."""


def make(home: Path) -> Path:
    """A new place for the push that asks for it. Raises: DeviceError when its session has ended by now."""
    place = home / "incoming" / f"{_owner()}-{os.urandom(16).hex()}"
    durable.folder(place)
    return place


def named(home: Path, path: str) -> Path:
    """The place that a host names. Raises: DeviceError for what was never made as one."""
    place = Path(path)
    if place.parent != home / "incoming" or not PLACE.fullmatch(place.name):
        raise DeviceError(f"{path!r} is no place for what comes in", "push the bundle again")
    return place


def take_over(place: Path, blob: Descriptor) -> bool:
    """Whether another push has sent a blob whole; then it has a second name in this place, too."""
    mine = arrived(place, blob)
    for other in place.parent.glob(f"*/{mine.name}"):
        try:
            if other.stat().st_size != blob.size:
                continue
            os.link(other, mine, follow_symlinks=False)
            durable.check_file(mine, blob.digest, blob.size)
        except (OSError, BundleError):  # the other push may take it away at any moment
            mine.unlink(missing_ok=True)
        else:
            return True
    return False


def take_up(place: Path, blob: Descriptor) -> int:
    """Take what another push has of a blob, the most that there is; its bytes, which nobody has compared with anything.

    A push that lives goes on writing to its own file.
    """
    mine, begun = arrived(place, blob), []
    with contextlib.suppress(OSError):  # the other push may take it away at any moment
        for other in place.parent.glob(f"*/{mine.name}"):
            facts = other.lstat()
            if stat.S_ISREG(facts.st_mode) and 0 < facts.st_size <= blob.size:
                begun.append((facts.st_size, other))
        for _, other in sorted(begun)[-1:]:
            if _abandoned(other.parent):
                os.replace(other, mine)
            else:
                shutil.copyfile(other, mine)
    return mine.stat().st_size if mine.exists() else 0


def arrived(place: Path, blob: Descriptor) -> Path:
    """Where a blob lies in a place, or would."""
    return place / blob.digest.partition(":")[2]


def clear(home: Path) -> None:
    """Remove the places of pushes that have died."""
    for place in (home / "incoming").glob("*"):
        if _abandoned(place):
            shutil.rmtree(place, ignore_errors=True)


def _abandoned(place: Path) -> bool:
    found = PLACE.fullmatch(place.name)
    if found and "-".join(found.groups()) != UNKNOWN and processes.started(int(found[1])) != found[2]:
        return True
    try:
        touched = max(path.stat().st_mtime for path in (place, *place.iterdir()))
    except OSError:  # it is being removed, or written to
        return False
    return time.time() - touched > QUIET_S


def _owner() -> str:
    """The parent of this command's session: sshd and the local transport give every command a session of its own."""
    session = os.getsid(0)
    leader = processes.facts(session)
    if session and not leader:
        raise DeviceError("the host that asked has gone", "push again")
    pid = int(leader[1]) if leader else 0  # a session from outside this container
    started = processes.started(pid)
    return f"{pid}-{started}" if started else UNKNOWN
