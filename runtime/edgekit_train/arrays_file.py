"""Arrays in a file, which is replaced as a whole: what a device has learned survives a power cut, old or new."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit_runtime import arrays, durable
from edgekit_runtime.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    Array = np.ndarray[Any, Any]

_DAMAGED = (zipfile.BadZipFile, struct.error, RuntimeError, EOFError, OverflowError, ValueError)
"""What zipfile raises for bytes that nobody wrote so; RuntimeError where they seem encrypted, or of a later one."""


def write(path: Path, named: dict[str, Array]) -> None:
    """Raises: OSError, DigestMismatch when the disk gave back other bytes."""
    durable.folder(path.parent)
    durable.write(path, dump(named))


def dump(named: dict[str, Array]) -> bytes:
    data = io.BytesIO()
    np.savez(data, **named)  # type: ignore[arg-type]  # no array is named allow_pickle, or file
    return data.getvalue()


def read(path: Path, most_bytes: int) -> dict[str, Array] | None:
    """None where there is no such file, or one that is damaged or larger. Raises: OSError."""
    try:
        data = durable.read(path, most_bytes + 1)
    except (FileNotFoundError, BundleError):
        return None
    try:
        return _whole(data) if len(data) <= most_bytes else None
    except _DAMAGED:
        return None


def _whole(data: bytes) -> dict[str, Array] | None:
    """By the sums first: a damaged shape may be smaller, and what is then read ends before a sum is looked at."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()) or archive.testzip():
            return None
    return arrays.load(data)
