"""Arrays in a file, which is replaced as a whole: what a device has learned survives a power cut, old or new."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit_runtime import durable
from edgekit_runtime.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    Array = np.ndarray[Any, Any]


def write(path: Path, arrays: dict[str, Array]) -> None:
    """Raises: OSError, DigestMismatch when the disk gave back other bytes."""
    durable.folder(path.parent)
    durable.write(path, dump(arrays))


def dump(arrays: dict[str, Array]) -> bytes:
    data = io.BytesIO()
    np.savez(data, **arrays)  # type: ignore[arg-type]  # no array is named allow_pickle, or file
    return data.getvalue()


def read(path: Path, most_bytes: int) -> dict[str, Array] | None:
    """None where there is no such file, or one that is damaged or larger. Raises: OSError."""
    try:
        data = durable.read(path, most_bytes + 1)
        if len(data) > most_bytes:
            return None
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(each.file_size for each in archive.infolist()) > most_bytes:
                return None
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (FileNotFoundError, BundleError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
