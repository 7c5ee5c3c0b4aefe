"""Framing: a blob's way to devices as frames, made once for all that are sent to at a time and have the same.

What was made lies in memory until others displace it: no more than ``HELD`` frames of all blobs together.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from edgekit import delta
from edgekit.delta import Base, Bytes, Piece

AT_WORK, AHEAD = 2, 4
HELD = 512
"""Of 64 KiB at most: a model of up to 32 MiB is deflated once, however many devices it goes to."""
_POOL = ThreadPoolExecutor(AT_WORK, "edgekit-framing")
_SEARCHING = threading.Lock()


@dataclass(frozen=True)
class Framing:
    """The file of a blob from a byte on, for a device that has these bases."""

    path: Path
    start: int
    bases: tuple[Base, ...] = ()

    @property
    def data(self) -> Bytes:
        return contents(self.path)

    def frames(self, as_it_is: Callable[[], bool]) -> Iterator[tuple[int, bytes]]:
        """How many bytes each gives, and the frame; a few are begun before they are due.

        ``as_it_is``: whether to a device that has nothing alike the bytes themselves may go by now.
        """
        with _SEARCHING:
            found = _pieces(self)
        jobs = ((piece.length, self._job(number, piece, as_it_is)) for number, piece in enumerate(found))
        begun = deque(islice(jobs, AHEAD))
        while begun:
            length, job = begun.popleft()
            yield length, job.result()
            begun.extend(islice(jobs, 1))

    def _job(self, number: int, piece: Piece, as_it_is: Callable[[], bool]) -> Future[bytes]:
        if not self.bases and as_it_is():
            return _POOL.submit(delta.plain, self.data, piece)
        return _made(self, number)


@lru_cache(maxsize=16)
def contents(path: Path) -> Bytes:
    """The bytes of a blob's file, which never changes: mapped once, not once for every device."""
    return np.memmap(path, np.uint8, "r").view(np.ndarray) if path.stat().st_size else np.zeros(0, np.uint8)


@lru_cache(maxsize=16)
def _pieces(framing: Framing) -> tuple[Piece, ...]:
    return tuple(delta.pieces(framing.data, framing.start, framing.bases))


@lru_cache(maxsize=HELD)
def _made(framing: Framing, number: int) -> Future[bytes]:
    return _POOL.submit(delta.frame, framing.data, _pieces(framing)[number], framing.bases)
