"""Samples: what a device may learn from, kept on it and nowhere else.

They lie below ``HOME/samples/APP`` in segments, files that are replaced as a whole; at the bound the oldest segment
goes first. A program keeps them one by one; what has not been written yet is lost with the program.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Iterator

from edgekit_runtime import durable
from edgekit_runtime.errors import InvalidInput
from edgekit_runtime.home import app_folder, default_home, held
from edgekit_train import arrays_file, segment
from edgekit_train.segment import Segment

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from edgekit_train.segment import Kept
    from edgekit_train.trainer import Inputs

SEGMENT = 1 << 20
"""Bytes of samples that are written at once: flash bears few writings, and a file for each sample wastes most of it."""
MOST = 64 << 20
BLOCK = 4096
"""The least that a file takes on a disk, and what one has beside its numbers."""
_FILE = re.compile(r"[0-9]{12}\.npz")


class Samples:
    """One thread at a time; several processes may keep samples of one app.

    ``most_bytes``: of all files together. Raises: BundleError for a name that is none of an app.
    """

    def __init__(self, app: str, home: Path | None = None, most_bytes: int = MOST) -> None:
        home = home or default_home()
        app_folder(home, app)
        self._folder, self._most = home / "samples" / app, most_bytes
        self._begin()

    def _begin(self) -> None:
        """A segment that has no file yet."""
        self._segment, self._written, self._name = Segment(), 0, ""

    def keep(self, x: Inputs, y: int) -> None:
        """``x`` as ``predict`` takes it, for one sample; ``y``: its class. Copied; written when a segment is full.

        Raises: InvalidInput for what is no sample, or larger than a quarter of all may be; OSError.
        """
        inputs, label = segment.inputs(x), segment.label(y)
        size = segment.size(inputs)
        if 4 * (size + BLOCK) > self._most:
            raise InvalidInput(f"a sample of {size} bytes, where all may take {self._most}", "allow four times as much")
        if not self._segment.takes(inputs) or self._segment.bytes + size > min(SEGMENT, self._most // 4):
            self._end()
        self._segment.add(inputs, label)

    def flush(self) -> None:
        """Write what has not been written yet, in place of what was written of the same segment.

        Raises: OSError; DigestMismatch when the disk gave back other bytes.
        """
        if self._written == len(self._segment):
            return
        data = arrays_file.dump(self._segment.arrays())
        durable.folder(self._folder.parent, 0o700)  # nobody else looks into it
        durable.folder(self._folder)
        with held(self._folder):
            self._name = self._name or _next(self._folder)
            _make_room(self._folder, self._name, self._most - _blocks(len(data)))
            durable.write(self._folder / self._name, data)
        self._written = len(self._segment)

    def _end(self) -> None:
        try:
            self.flush()
        finally:
            self._begin()  # on a full disk samples are lost, and memory is not filled

    def __enter__(self) -> Samples:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __iter__(self) -> Iterator[Kept]:
        """Oldest first, a segment in memory at a time; those that others write meanwhile may be missed.

        A damaged segment is passed over. Raises: OSError.
        """
        for name in _names(self._folder):
            if name != self._name:
                yield from segment.samples(arrays_file.read(self._folder / name, self._most) or {})
        yield from segment.samples(self._segment.arrays())


def _names(folder: Path) -> list[str]:
    """Of segments, the oldest first."""
    return sorted(path.name for path in folder.glob("*.npz") if _FILE.fullmatch(path.name))


def _next(folder: Path) -> str:
    last = _names(folder)[-1:] or ["0"]
    return f"{int(last[0].partition('.')[0]) + 1:012d}.npz"


def _make_room(folder: Path, name: str, most: int) -> None:
    """Take away the oldest until all but this one have at most so many bytes."""
    others = [folder / each for each in _names(folder) if each != name]
    sizes = [_blocks(path.stat().st_size) for path in others]
    total = sum(sizes)
    for path, size in zip(others, sizes):
        if total <= most:
            return
        durable.remove(path)
        total -= size


def _blocks(size: int) -> int:
    """What a file of that size takes on the disk."""
    return -(-size // BLOCK) * BLOCK
