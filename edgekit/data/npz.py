"""Npz: the arrays of an .npz read row by row, so that a file larger than memory can be walked through.

The format is NumPy's (numpy.lib.format): a zip of .npy files. A row is read from the zip stream as it comes, whether
that is compressed or not, and zip's checksum is verified with the last one. Rows of an array in Fortran order lie
scattered: such an array is first written in C order to a temporary file.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edgekit.errors import DataError

Array = NDArray[Any]

ERRORS = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    OverflowError,
    zipfile.BadZipFile,
    NotImplementedError,  # an unknown compression
    RuntimeError,  # encrypted
    zlib.error,
)
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
BLOCK = 1 << 22
"""Bytes that are turned from Fortran to C order at once."""


@dataclass(frozen=True)
class Header:
    """What an array is, as its .npy says before its first byte."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool = False

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 0

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def headers(path: Path) -> dict[str, Header]:
    """What is in an .npz, by name; no array is read. Raises: DataError."""
    with _told(path), zipfile.ZipFile(path) as file:
        found = {}
        for entry in file.namelist():
            with file.open(entry) as stream:
                found[entry.removesuffix(".npy")] = _header(entry, stream)
        return found


def rows(path: Path) -> Iterator[dict[str, Array]]:
    """The rows of all arrays, together: as many as the shortest has. Only one row of each is in memory.

    Raises: DataError, also on the way: for a file that is cut short, or whose checksum does not fit.
    """
    with _told(path), zipfile.ZipFile(path) as file, ExitStack() as stack:
        walks = {}
        for entry in file.namelist():
            stream = stack.enter_context(file.open(entry))
            header = _header(entry, stream)
            walks[entry.removesuffix(".npy")] = _scattered(header, stream) if header.fortran else _rows(header, stream)
        for row in zip(*walks.values(), strict=False):
            yield dict(zip(walks, row, strict=True))


def _header(entry: str, stream: IO[bytes]) -> Header:
    version = npy.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"{entry} is of .npy version {version[0]}.{version[1]}")
    shape, fortran, dtype = HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")  # they are pickles
    if min(shape, default=0) < 0:
        raise ValueError(f"{entry} has the shape {shape}")
    return Header(dtype, shape, fortran and len(shape) > 1)


def _rows(header: Header, stream: IO[bytes]) -> Iterator[Array]:
    for _ in range(header.rows):
        yield np.ndarray(header.shape[1:], header.dtype, bytearray(_exactly(stream, header.row_bytes)))


def _scattered(header: Header, stream: IO[bytes]) -> Iterator[Array]:
    """The rows of an array in Fortran order, whose file is a sequence of columns: one value of each row.

    They are collected in a temporary file as large as the array.
    """
    values, column = math.prod(header.shape[1:]), header.rows * header.dtype.itemsize
    if not values * column:
        yield from _rows(header, stream)
        return
    if shutil.disk_usage(tempfile.gettempdir()).free < values * column:  # a full disk under a map kills the process
        raise OSError(f"in Fortran order, which needs {values * column >> 20} MiB of disk in {tempfile.gettempdir()}")
    with tempfile.TemporaryFile() as spill:
        table = np.memmap(spill, header.dtype, "w+", shape=(header.rows, values))
        width = max(1, BLOCK // column)
        for start in range(0, values, width):
            count = min(width, values - start)
            block = np.ndarray((count, header.rows), header.dtype, _exactly(stream, count * column))
            table[:, start : start + count] = block.T
        for row in table:
            yield np.array(row).reshape(header.shape[1:], order="F")


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError("it ends before its last row")
    return data


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except ERRORS as error:
        raise DataError(f"{path}: cannot be read as .npz: {error}", "write it with numpy.savez") from error
