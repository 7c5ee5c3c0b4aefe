"""The one seam through which everything that must survive a power cut is written.

A file is written beside its place, synced, read back and compared, renamed, and its folder synced; so its name
always stands for the old bytes or the new ones. (Rename without the syncs leaves empty or zeroed files on ext4.)
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

from edgekit_runtime.errors import BundleError, BundleTooLarge, DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 1 << 20


def sync(path: Path) -> None:
    """Flush a folder, the names in it, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it, each name on the disk before the next."""
    if path.is_dir():
        return
    folder(path.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
    sync(path.parent)


def read(path: Path, limit: int) -> bytes:
    """The first ``limit`` bytes of a plain file. Raises: OSError, BundleError for a link or a device."""
    with _open(path) as file:
        return file.read(min(limit, os.fstat(file.fileno()).st_size))


def check_bytes(data: bytes, digest: str, size: int) -> None:
    """Raises: BundleTooLarge, DigestMismatch when bytes are not what their descriptor says."""
    _compare(len(data), hashlib.sha256(data).hexdigest(), digest, size)


def check_file(path: Path, digest: str, size: int) -> None:
    """The same for a plain file, read in chunks and no further than the declared size. Raises: OSError, BundleError."""
    hashed = hashlib.sha256()
    with _open(path) as file:
        actual = os.fstat(file.fileno()).st_size
        if actual <= size:
            actual = _hash(file, hashed, size + 1)  # it may grow while it is read
    _compare(actual, hashed.hexdigest(), digest, size)


def _hash(file: BinaryIO, hashed: hashlib._Hash, limit: int) -> int:
    """Hash what a file holds, up to so many bytes; how many these were."""
    left = limit
    while left:
        chunk = file.read(min(CHUNK, left))
        if not chunk:
            break
        hashed.update(chunk)
        left -= len(chunk)
    return limit - left


def _compare(actual: int, hexdigest: str, digest: str, size: int) -> None:
    if actual > size:
        raise BundleTooLarge(f"{digest[:19]}: more bytes than the {size} that were declared", "push the bundle again")
    if actual != size or f"sha256:{hexdigest}" != digest:
        raise DigestMismatch(f"{digest[:19]}: the bytes are not the ones that were signed", "push the bundle again")


def write(path: Path, data: bytes) -> None:
    """Put bytes under a name, wholly or not at all. Raises: DigestMismatch when the disk gave back other bytes."""
    with _beside(path) as temporary:
        _fill(temporary, data)
        check_file(temporary, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
        os.replace(temporary, path)
    sync(path.parent)


def append(path: Path, line: bytes) -> None:
    """Add a line to a file; one that a cut has torn before is ended first."""
    new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        size = os.fstat(handle).st_size
        torn = size and os.pread(handle, 1, size - 1) != b"\n"
        _write_all(handle, b"\n" * bool(torn) + line + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    if new:
        sync(path.parent)


def adopt(source: Path, destination: Path, digest: str, size: int) -> None:
    """Move a file that came from outside to its place, once its bytes on the disk are the right ones."""
    with _open(source) as file:
        os.fsync(file.fileno())
    check_file(source, digest, size)
    os.replace(source, destination)
    sync(destination.parent)


def link(source: Path, destination: Path) -> None:
    """Give a file a second name in another folder (which the caller syncs), in place of what has that name."""
    with _beside(destination) as temporary:
        os.link(source, temporary)
        os.replace(temporary, destination)  # leaves both names when both are this file already (rename(2))


def point(pointer: Path, target: str) -> None:
    """Let a symbolic link point to ``target``, by rename."""
    with _beside(pointer) as temporary:
        os.symlink(target, temporary)
        os.replace(temporary, pointer)
    sync(pointer.parent)


def remove(path: Path) -> None:
    """Take a name away."""
    os.unlink(path)
    sync(path.parent)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name in the same folder, free before; what is left under it is removed, at the latest by the next attempt."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _fill(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _write_all(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _open(path: Path) -> BinaryIO:
    """A plain file by its own name: no link is followed, and nothing is waited for or read without end."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise BundleError(f"{path}: a symbolic link where bytes belong") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BundleError(f"{path}: no plain file")
    return os.fdopen(handle, "rb")
