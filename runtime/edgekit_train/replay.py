"""Replay: some of the past, to be learned again with each new sample, so that it is not forgotten.

Class-balancing reservoir sampling (Chrysakis and Moens 2020, "Online Continual Learning from Imbalanced Data"): rare
classes keep all they have, and of the others each sample is held with the same probability. The buffer stays on the
device, features and classes alone, in a file that is replaced as a whole.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np

from edgekit_train import arrays_file
from edgekit_train.trainer import checked

if TYPE_CHECKING:
    from pathlib import Path

    Array = np.ndarray[Any, Any]

FRAME = 1 << 13
"""Bytes of a file beside what it holds."""


@dataclass(frozen=True)
class Bounds:
    """``size`` features a sample, ``classes`` that it may be of, and the most bytes that all may take: one sample at
    least, and what is counted of each class. Raises: ValueError where they do not.
    """

    size: int
    classes: int
    most_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        if min(self.size, self.classes) < 1 or self.capacity < 1:
            one = 9 * self.classes + 4 * self.size + 4
            raise ValueError(f"{self.most_bytes} bytes, where one sample and {self.classes} classes take {one}")

    @property
    def capacity(self) -> int:
        """Samples: each takes its features and its class."""
        return (self.most_bytes - 9 * self.classes) // (4 * self.size + 4)


class Replay:
    """One thread at a time. What is drawn depends on the ``seed`` and the number of samples seen, restarts or not."""

    def __init__(self, bounds: Bounds, seed: int = 0) -> None:
        self.bounds, self._seed = bounds, seed
        self._rows = np.zeros((bounds.capacity, bounds.size), np.float32)
        self._labels = np.zeros(bounds.capacity, np.int32)
        self._seen, self._full = np.zeros(bounds.classes, np.int64), np.zeros(bounds.classes, bool)
        self._held = 0
        self._replaced: dict[int, tuple[Array, int]] | None = None  # while a block may have to be undone

    def __len__(self) -> int:
        return self._held

    @property
    def held(self) -> Array:
        """How many of each class."""
        counts: Array = np.bincount(self._labels[: self._held], minlength=self.bounds.classes)
        return counts

    def add(self, x: Array, y: int) -> None:
        """Raises: InvalidInput for a sample that fits not."""
        row, label = checked(x, y, self.bounds.size, self.bounds.classes)
        self._seen[label] += 1
        place = self._place(label, self._draw(0))
        if place is None:
            return
        if self._replaced is not None:
            self._replaced.setdefault(place, (self._rows[place].copy(), int(self._labels[place])))
        self._rows[place], self._labels[place] = row, label

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """What is added in the block is all added, or nothing of it where the block raises."""
        held, seen, full, self._replaced = self._held, self._seen.copy(), self._full.copy(), {}
        try:
            yield
        except BaseException:
            for place, (row, label) in self._replaced.items():
                self._rows[place], self._labels[place] = row, label
            self._held, self._seen[:], self._full[:] = held, seen, full
            raise
        finally:
            self._replaced = None

    def some(self, count: int) -> tuple[Array, Array]:
        """Rows and classes of at most so many, each another."""
        most = min(count, self._held)
        places = self._draw(1).choice(max(1, self._held), most, replace=False)
        return self._rows[places], self._labels[places]

    def _draw(self, use: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, int(self._seen.sum()), use))

    def _place(self, y: int, rng: np.random.Generator) -> int | None:
        """Where the new sample goes: a free place, or that of another; None for nowhere."""
        if self._held < self.bounds.capacity:
            self._held += 1
            return self._held - 1
        counts = self.held
        largest = counts == counts.max()
        self._full |= largest
        if not self._full[y]:
            gives = int(rng.choice(np.flatnonzero(largest)))
        elif rng.random() * self._seen[y] <= counts[y]:
            gives = y
        else:
            return None
        return int(rng.choice(np.flatnonzero(self._labels[: self._held] == gives)))

    def save(self, path: Path) -> None:
        """Raises: OSError, DigestMismatch."""
        held = slice(0, self._held)
        state: dict[str, Array] = {
            "rows": self._rows[held],
            "labels": self._labels[held],
            "seen": self._seen,
            "full": self._full,
        }
        arrays_file.write(path, state)

    def restore(self, path: Path) -> bool:
        """Whether there was a buffer of these bounds; this one stays as it is where not. Raises: OSError."""
        state = arrays_file.read(path, self.bounds.most_bytes + FRAME)
        if state is None or not self._fits(state):
            return False
        self._held = len(state["labels"])
        self._rows[: self._held], self._labels[: self._held] = state["rows"], state["labels"]
        self._seen[:], self._full[:] = state["seen"], state["full"]
        return True

    def _fits(self, state: dict[str, Array]) -> bool:
        own: dict[str, Array] = {"rows": self._rows, "labels": self._labels, "seen": self._seen, "full": self._full}
        if state.keys() != own.keys() or any(state[name].dtype != array.dtype for name, array in own.items()):
            return False
        rows, labels, classes = state["rows"], state["labels"], self.bounds.classes
        shapes = rows.shape[1:] == (self.bounds.size,) and labels.shape == rows.shape[:1]
        same = (
            shapes and len(labels) <= self.bounds.capacity and state["seen"].shape == state["full"].shape == (classes,)
        )
        return bool(same and np.isfinite(rows).all() and ((labels >= 0) & (labels < classes)).all())
