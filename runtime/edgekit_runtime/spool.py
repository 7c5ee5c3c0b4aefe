"""Spool: the windows of an app's sessions on the device's disk, bounded in bytes, until a host has fetched them.

A line is appended by a single write, and a line that a crash cut short is skipped when read. A file that is full is
packed: what is packed is on the disk before the lines go, so that after a cut at any moment some windows may be there
twice, by the same session and seq, and none is missing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit_runtime import durable, spool_files
from edgekit_runtime.errors import BundleError
from edgekit_runtime.spool_files import PACKED, listed, read
from edgekit_runtime.windows import dump

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgekit_runtime.spool_files import SpoolFile
    from edgekit_runtime.windows import Window

SPOOL_BYTES = 4 << 20
"""At most this, but for what other processes have added since the last look: a file each."""
FILE_BYTES = 1 << 17
LEFT_BYTES = 1 << 14
"""From this size on a file that some other session left is packed, too."""
TRIES, TRY_S = 40, 0.05
LOOK_EVERY = 60
"""Windows between two looks at what others do in the folder."""
TOLD = "told"
PATIENCE = ((0.6, 30), (0.35, 15), (0.15, 5), (0.0, 1))
"""While nobody fetches them, windows are put together by so many, from such a share of SPOOL_BYTES on: weeks fit in."""


class Spool:
    """A folder of windows, in files of about FILE_BYTES before they are packed: the oldest file goes first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, SpoolFile] = {}
        self._appended = 0

    def append(self, window: Window) -> None:
        """Raises: OSError, as when the disk is full; then the window is not in the spool, and all that was still is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._appended += 1
        if self._appended % LOOK_EVERY == 0:
            self._look(window.session)
        file = self._written(window, f"{dump(window)}\n".encode())
        self._files[file.path] = file
        if file.size >= FILE_BYTES:
            self._pack(file)
        self._trim(file.path)

    def windows(self) -> Iterator[Window]:
        """All whole windows, each once, those of the oldest file first."""
        seen = set()
        for file in listed(self.folder):
            for window in read(file.path):
                if (window.session, window.seq) not in seen:
                    seen.add((window.session, window.seq))
                    yield window

    def told(self) -> None:
        """Somebody has fetched all that there is."""
        with contextlib.suppress(OSError):
            (self.folder / TOLD).write_text(str(max((file.order for file in listed(self.folder)), default=0)))

    @property
    def patience(self) -> int:
        """How many windows are to be put together before they are written: more, when nobody has come for long."""
        try:
            last = int((self.folder / TOLD).read_text()[:20])
        except (OSError, ValueError):
            last = -1
        waiting = sum(file.room for file in self._files.values() if file.order > last) / SPOOL_BYTES
        return next(number for share, number in PATIENCE if waiting >= share)

    def _look(self, session: str) -> None:
        self._files = {file.path: file for file in listed(self.folder)}
        for file in [*self._files.values()]:
            if not file.packed and file.size >= (FILE_BYTES if file.session == session else LEFT_BYTES):
                self._pack(file)

    def _written(self, window: Window, line: bytes) -> SpoolFile:
        """The file that has the line now: the session's newest while it is small, else a new one."""
        newest = max((file for file in self._files.values() if file.session == window.session), default=None)
        if newest and not newest.packed and newest.size < FILE_BYTES:
            with contextlib.suppress(FileNotFoundError):  # another process has packed or removed it
                return replace(newest, size=_append(newest.path, line, 0))
        self._look(window.session)
        order = 1 + max((file.order for file in self._files.values()), default=0)
        new = spool_files.fresh(self.folder, order, window.session, window.seq)
        return replace(new, size=_append(new.path, line, os.O_CREAT))

    def _pack(self, file: SpoolFile) -> None:
        """Where the disk refuses it stays as it is. What an interrupted attempt has packed stays in, if it was more."""
        packed = file.path.with_name(file.path.name + PACKED)
        with contextlib.suppress(OSError, BundleError), _locked(file.path, os.O_RDONLY):
            lines = dict.fromkeys([*spool_files.lines(packed), *spool_files.lines(file.path)])
            data = gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)
            durable.write(packed, data)
            os.unlink(file.path)
            del self._files[file.path]
            self._files[packed] = replace(file, packed=True, path=packed, size=len(data))

    def _trim(self, keep: Path) -> None:
        """Room for what comes next, from the oldest."""
        total = sum(file.room for file in self._files.values())
        for file in sorted(self._files.values()):
            if total <= SPOOL_BYTES - FILE_BYTES:
                return
            if file.path != keep:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.path)
                del self._files[file.path]
                total -= file.room


def _append(path: Path, line: bytes, flags: int) -> int:
    """The size then. Raises: FileNotFoundError, OSError; then nothing was added."""
    with _locked(path, os.O_RDWR | os.O_APPEND | flags) as handle:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(handle, line) < len(line):
            os.ftruncate(handle, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return size + len(line)


@contextlib.contextmanager
def _locked(path: Path, flags: int) -> Iterator[int]:
    """A file that nobody else writes to or packs meanwhile.

    Raises: FileNotFoundError for one that was just packed, OSError for one that somebody keeps for long.
    """
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        _lock(handle)
        if not os.fstat(handle).st_nlink:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        yield handle
        fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    """Raises: BlockingIOError when it stays another's: a process that was stopped must not stop this one."""
    for _ in range(TRIES):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(TRY_S)
    return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


__all__ = ["Spool"]
