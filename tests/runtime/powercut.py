"""A disk that fails: the system calls that change files under a folder, up to the n-th; and what a cut then costs.

A process that is killed keeps all that it did. A power cut may cost all that has not been synced: the bytes of a file
until ``fsync`` of it, the names in a folder until ``fsync`` of the folder (POSIX; ext4, XFS and btrfs promise little
more). So after a cut, unsynced names are taken back, unsynced files are torn, or both.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

Loss = Literal["killed", "names lost", "bytes lost", "all lost", "disk full", "read-only", "error"]
CUTS: tuple[Loss, ...] = ("killed", "names lost", "bytes lost", "all lost")
REFUSALS: tuple[Loss, ...] = ("disk full", "read-only", "error")
"""A disk that is full from the n-th call on, one that becomes read-only then, and one that fails at that call only."""
REAL = {
    name: getattr(os, name)
    for name in ("open", "write", "fsync", "mkdir", "rmdir", "replace", "link", "symlink", "unlink")
}
NEED_ROOM = ("open", "write", "mkdir", "link", "symlink")
MAY_NEED_ROOM = (*NEED_ROOM, "fsync", "replace")


class PowerCut(BaseException):
    """Nothing more happens in this process."""


@dataclass
class Name:
    """A change in a folder that is not yet on the disk, and how to take it back."""

    folder: str
    undo: Callable[[], object]


@dataclass
class Disk:
    """``stop``: the number of the call that fails, from 1; None for a disk that never does. ``calls`` counts them."""

    root: Path
    backup: Path
    loss: Loss = "killed"
    stop: int | None = None
    calls: int = 0
    names: list[Name] = field(default_factory=list)
    torn: dict[int, int] = field(default_factory=dict)
    """File number → a handle of a file with bytes that are not yet on the disk."""

    @property
    def failed(self) -> bool:
        return self.stop is not None and self.calls >= self.stop

    def not_synced(self, path: Path) -> None:
        """A file that something else wrote, and did not sync."""
        self._dirty(REAL["open"](path, os.O_RDWR))

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in REAL:
            monkeypatch.setattr(os, name, getattr(self, f"_{name}"))

    def lose(self) -> None:
        """What the cut costs."""
        if self.loss in ("names lost", "all lost"):
            for name in reversed(self.names):
                name.undo()
        for handle in self.torn.values():
            if self.loss in ("bytes lost", "all lost"):
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.close(handle)

    def _step(self, name: str, path: str, half: Callable[[], object] | None = None) -> bool:
        """Whether the call is one of ours. Raises at the n-th of them, and from there on."""
        if not f"{path}/".startswith(f"{self.root}/"):
            return False
        before = self.failed
        self.calls += 1
        if not self.failed:
            return True
        if self.loss in REFUSALS:
            return self._refuse(name, path, before)
        if half and not before:
            half()
        raise PowerCut

    def _refuse(self, name: str, path: str, before: bool) -> bool:
        """Whether the call is done all the same. Raises: OSError."""
        full, once = self.loss == "disk full", self.loss == "error" and before
        if once or (full and name not in (NEED_ROOM if before else MAY_NEED_ROOM)):
            return True
        code = {"disk full": errno.ENOSPC, "read-only": errno.EROFS, "error": errno.EIO}[self.loss]
        raise OSError(code, os.strerror(code), path)

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = _absolute(path, dir_fd)
        new = bool(flags & os.O_CREAT) and not os.path.lexists(place)
        ours = bool(flags & os.O_CREAT) and self._step("open", place)
        handle: int = REAL["open"](path, flags, mode, dir_fd=dir_fd)
        if ours and new:
            self._changed(place, lambda: REAL["unlink"](place))
        return handle

    def _write(self, handle: int, data: Any) -> int:
        place = _path(handle)
        if self._step("write", place, lambda: REAL["write"](handle, bytes(data)[: len(data) // 2])):
            self._dirty(os.dup(handle))
        written: int = REAL["write"](handle, data)
        return written

    def _fsync(self, handle: int) -> None:
        """Only noted: the disk under the tests does not lose power, and waiting for it takes long."""
        place = _path(handle)
        if not self._step("fsync", place):
            REAL["fsync"](handle)
            return
        known = self.torn.pop(os.fstat(handle).st_ino, None)
        if known is not None:
            os.close(known)
        self.names = [name for name in self.names if name.folder != place]

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        place = _absolute(path, dir_fd)
        ours = self._step("mkdir", place)
        REAL["mkdir"](path, mode, dir_fd=dir_fd)
        if ours:
            self._changed(place, lambda: shutil.rmtree(place, ignore_errors=True))

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._step("rmdir", _absolute(path, dir_fd))
        REAL["rmdir"](path, dir_fd=dir_fd)

    def _replace(self, source: Any, target: Any) -> None:
        ours = self._step("replace", _absolute(target))
        one = os.path.lexists(target) and os.path.samestat(os.lstat(source), os.lstat(target))
        restore = self._keep(_absolute(target)) if ours and not one else None
        REAL["replace"](source, target)
        if restore:
            self._changed(_absolute(target), lambda: (REAL["replace"](target, source), restore()))

    def _link(self, source: Any, target: Any, **options: Any) -> None:
        ours = self._step("link", _absolute(target))
        REAL["link"](source, target, **options)
        if ours:
            self._changed(_absolute(target), lambda: REAL["unlink"](target))

    def _symlink(self, source: Any, target: Any, *arguments: Any, **options: Any) -> None:
        ours = self._step("symlink", _absolute(target))
        REAL["symlink"](source, target, *arguments, **options)
        if ours:
            self._changed(_absolute(target), lambda: REAL["unlink"](target))

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        place = _absolute(path, dir_fd)
        ours = self._step("unlink", place)
        restore = self._keep(place) if ours else None
        REAL["unlink"](path, dir_fd=dir_fd)
        if restore:
            self._changed(place, restore)

    def _changed(self, place: str, undo: Callable[[], object]) -> None:
        self.names.append(Name(str(Path(place).parent), undo))

    def _dirty(self, handle: int) -> None:
        old = self.torn.pop(os.fstat(handle).st_ino, None)
        if old is not None:
            os.close(old)
        self.torn[os.fstat(handle).st_ino] = handle

    def _keep(self, place: str) -> Callable[[], object]:
        """How to put back what is under a name now."""
        if not os.path.lexists(place):
            return lambda: None
        kept = self.backup / str(len(list(self.backup.iterdir())))
        REAL["link"](place, kept, follow_symlinks=False)
        return lambda: Path(place).parent.is_dir() and REAL["link"](kept, place, follow_symlinks=False)


def _path(handle: int) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())


def _absolute(path: Any, dir_fd: int | None = None) -> str:
    return str((Path.cwd() if dir_fd is None else Path(_path(dir_fd))) / os.fspath(path))


@contextmanager
def failing(root: Path, backup: Path, loss: Loss, stop: int | None, *not_synced: Path) -> Iterator[Disk]:
    """A disk under ``root`` that fails at the n-th call; afterwards its losses are real."""
    backup.mkdir()
    disk = Disk(root, backup, loss, stop)
    for path in not_synced:
        disk.not_synced(path)
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk.patch(monkeypatch)
            yield disk
    except PowerCut:
        assert disk.failed
    finally:
        disk.lose()
        shutil.rmtree(backup)
