"""Spool files: how a spool's files are named, listed and read. Others in the folder are not looked at.

A name is ORDER.SESSION-SEQ.ndjson: a number that rises with each new file, whatever the clock says; whose windows are
in it; the first of them. With .gz it is packed, and complete. Runtimes of before windows had stages wrote no ORDER.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

from edgekit_runtime.windows import MOST_BYTES, parse

if TYPE_CHECKING:
    from edgekit_runtime.windows import Window

PACKED = ".gz"
MOST_READ = 1 << 25
"""What a file may hold, unpacked; no more of it is read."""
BLOCK = 4096
"""Bytes by which a file system gives room."""
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NAME = re.compile(r"(?:([0-9]{8,})\.)?(.{1,200})-([0-9]{9,10})\.ndjson(\.gz)?")


@dataclass(frozen=True, order=True)
class SpoolFile:
    """One file; they sort by age, and by the first window that is in them. ``size`` on the disk, in bytes."""

    order: int
    session: str
    seq: int
    packed: bool
    path: Path
    size: int

    @property
    def room(self) -> int:
        """Bytes that it takes from others."""
        return -(-self.size // BLOCK) * BLOCK


def fresh(folder: Path, order: int, session: str, seq: int) -> SpoolFile:
    """One that is yet to be written."""
    return SpoolFile(order, session, seq, False, folder / f"{order:08d}.{session}-{seq:09d}.ndjson", 0)


def listed(folder: Path) -> list[SpoolFile]:
    """The oldest first; another process may remove one at any moment. What is no plain file is not ours."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if match and stat.S_ISREG(status.st_mode):
                    order, session, seq, packed = match.groups()
                    path = Path(folder, entry.name)
                    found.append(SpoolFile(int(order or 0), session, int(seq), bool(packed), path, status.st_size))
    return sorted(found)


def read(path: Path) -> Iterator[Window]:
    """A file's whole windows; damaged lines are skipped, and a file that cannot be read has none."""
    for line in lines(path):
        with contextlib.suppress(ValueError):
            yield parse(line.decode(errors="replace"))


def lines(path: Path) -> Iterator[bytes]:
    """Without their ends; as far as the file can be read."""
    with contextlib.suppress(OSError, EOFError, zlib.error), os.fdopen(os.open(path, _FLAGS), "rb") as file:
        unpacked = gzip.GzipFile(fileobj=file) if path.name.endswith(PACKED) else file
        left = MOST_READ
        while left > 0:
            line = unpacked.readline(min(left, MOST_BYTES))
            if not line:
                return
            left -= len(line)
            yield line.rstrip(b"\n")
