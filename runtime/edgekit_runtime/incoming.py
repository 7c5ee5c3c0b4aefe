"""Incoming: what pushes send, each to a place of its own, until it is installed.

A place bears the name of the process that takes the push in. While that lives, no other push removes the place.
Afterwards the next one does, and keeps what had arrived of the blobs that it wants.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_runtime import durable, processes
from edgekit_runtime.errors import BundleError

if TYPE_CHECKING:
    from edgekit_runtime.bundle import Descriptor

PLACE = re.compile(r"([0-9a-f]{8}|noboot)-[0-9]+-[0-9]+-[0-9a-f]{32}")


def make(home: Path) -> Path:
    """A new place for the push that this process takes in."""
    place = home / "incoming" / f"{processes.myself()}-{os.urandom(16).hex()}"
    durable.folder(place)
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
    return not (PLACE.fullmatch(place.name) and processes.runs(place.name.rpartition("-")[0]))
