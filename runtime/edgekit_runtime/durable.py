"""The one seam through which everything that must survive a power cut is written.

A file is written beside its place, synced, read back and compared, renamed, and its folder synced; so its name
always stands for the old bytes or the new ones. (Rename without the syncs leaves empty or zeroed files on ext4.)
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from edgekit_runtime.errors import BundleTooLarge, DigestMismatch

CHUNK = 1 << 20


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_bytes(data: bytes, digest: str, size: int) -> None:
    """Raises: BundleTooLarge, DigestMismatch when bytes are not what their descriptor says."""
    _compare(len(data), hashlib.sha256(data).hexdigest(), digest, size)


def check_file(path: Path, digest: str, size: int) -> None:
    """The same for a file, read in chunks and no further than the declared size."""
    actual = path.stat().st_size
    hashed = hashlib.sha256()
    if actual <= size:
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(CHUNK), b""):
                hashed.update(chunk)
    _compare(actual, hashed.hexdigest(), digest, size)


def _compare(actual: int, hexdigest: str, digest: str, size: int) -> None:
    if actual > size:
        raise BundleTooLarge(f"{digest[:19]}: more bytes than the {size} that were declared")
    if actual != size or f"sha256:{hexdigest}" != digest:
        raise DigestMismatch(f"{digest[:19]}: the bytes are not the ones that were signed", "push the bundle again")


def write(path: Path, data: bytes) -> None:
    """Put bytes under a name, wholly or not at all. Raises: DigestMismatch when the disk gave back other bytes."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        check_file(temporary, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def adopt(source: Path, destination: Path, digest: str, size: int) -> None:
    """Move a file that came from outside to its place, once its bytes on the disk are the right ones."""
    sync(source)
    check_file(source, digest, size)
    os.replace(source, destination)
    sync(destination.parent)


def link(source: Path, destination: Path) -> None:
    """Give a file a second name in another folder (which the caller syncs); a name that stands already stays."""
    try:
        os.link(source, destination)
    except FileExistsError:
        return


def point(pointer: Path, target: str) -> None:
    """Let a symbolic link point to ``target``, by rename."""
    temporary = pointer.with_name(f".{pointer.name}.tmp")
    temporary.unlink(missing_ok=True)
    os.symlink(target, temporary)
    os.replace(temporary, pointer)
    sync(pointer.parent)
