"""Rows: updates on the disk, one a row, to be read by columns: rules that compare devices need all of them at once.

They are written as they come, whatever they came as (int8, top-k, float16), and the file has no name: it goes with the
process at the latest. Only one row or one block of columns is in memory.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import RoundError
from edgekit.federated.vectors import Vector

BLOCK = 1 << 22
"""Bytes of a block of columns. It is sorted or multiplied at once, which takes as much again, or twice that."""

Block = NDArray[np.float32]


class Rows:
    """A table float32 [devices, size], its rows in the order of the devices' names: who was first is no advantage."""

    def __init__(self, size: int, file: IO[bytes]) -> None:
        self.size, self._file, self._names = size, file, list[str]()

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, row: Vector) -> None:
        """Raises: RoundError when the disk is full."""
        try:
            _write(self._file, np.ascontiguousarray(row, np.float32).view(np.uint8).data)
        except OSError as error:
            raise RoundError(f"updates cannot be kept: {error}", "set TMPDIR to a folder with room for them") from error
        self._names.append(name)

    def blocks(self, chosen: Sequence[int] | None = None) -> Iterator[tuple[slice, Block]]:
        """All rows, or the chosen ones, as blocks of columns float32 [rows, width]; the next takes a block's place."""
        order = sorted(range(len(self)), key=self._names.__getitem__)
        places = order if chosen is None else [order[number] for number in chosen]
        width = max(1, BLOCK // (4 * max(1, len(places))))
        memory = np.empty((len(places), min(width, self.size)), np.float32)
        for start in range(0, self.size, width):
            columns = slice(start, min(start + width, self.size))
            block = memory[:, : columns.stop - start]
            for row, place in zip(block, places, strict=True):
                _read(self._file.fileno(), row, 4 * (place * self.size + start))
            yield columns, block


@contextmanager
def kept(size: int) -> Iterator[Rows]:
    """An empty table, and its file while it is used."""
    with tempfile.TemporaryFile(buffering=0, dir=_folder()) as file:
        yield Rows(size, file)


def _write(file: IO[bytes], data: memoryview) -> None:
    for start in range(0, len(data), BLOCK):
        part = data[start : start + BLOCK]
        if file.write(part) != len(part):  # the next one would say so
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _read(file: int, row: Vector, offset: int) -> None:
    if os.preadv(file, [row.data], offset) != row.nbytes:
        raise RoundError("updates that were kept cannot be read again", "start the aggregation anew")


def _folder() -> Path | None:
    """$TMPDIR, or /var/tmp, which unlike /tmp is nowhere in memory; None for wherever Python finds a place."""
    candidates = (Path(name) for name in (os.environ.get("TMPDIR"), "/var/tmp") if name)
    return next((path for path in candidates if os.access(path, os.W_OK)), None)
