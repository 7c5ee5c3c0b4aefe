"""Arrays: numpy arrays by name in an .npz, the form of inputs, outputs and golden vectors; never a pickle."""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    Array = np.ndarray[Any, Any]

MOST_BYTES = 1 << 30
"""What one file may unpack to."""

_FOREIGN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    EOFError,
    OSError,
    RuntimeError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    SyntaxError,
    OverflowError,
    MemoryError,
)
"""What zipfile and numpy raise for bytes that were damaged or made to harm (RuntimeError: an encrypted member)."""


def dump(arrays: Mapping[str, Array]) -> bytes:
    """The same bytes for the same arrays, however they lie in memory. Raises: ValueError for other than numbers."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as place:
                np.lib.format.write_array(place, _plain(array), allow_pickle=False)
    return file.getvalue()


def load(data: bytes) -> dict[str, Array]:
    """Raises: ValueError for what is no .npz of numbers, or unpacks to more than MOST_BYTES."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > MOST_BYTES:
                raise ValueError(f"it unpacks to more than {MOST_BYTES >> 20} MiB")
            return {_name(member): _read(archive, member) for member in members}
    except _FOREIGN as error:
        raise ValueError(f"no .npz of arrays: {type(error).__name__}: {str(error)[:200]}") from error


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename!r} is compressed by an unusual method")
    with archive.open(member) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return _plain(array)


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename[:-4] if member.filename.endswith(".npy") else member.filename


def _plain(array: Array) -> Array:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"an array of {array.dtype} holds no numbers")
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")
