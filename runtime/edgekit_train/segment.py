"""Segment: samples of one kind, as the arrays of one file: a column for each input, and one of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Tuple

import numpy as np

from edgekit_runtime.errors import InvalidInput
from edgekit_train.trainer import whole

if TYPE_CHECKING:
    from edgekit_train.trainer import Inputs

    Array = np.ndarray[Any, Any]
    Arrays = dict[str, Array]
    Kept = Tuple[Inputs, int]

_ONLY, _NAMED, _LABELS = "x", "x:", "y"


class Segment:
    """What has been added; ``bytes`` of numbers."""

    def __init__(self) -> None:
        self.bytes = 0
        self._columns: dict[str, list[Array]] = {}
        self._labels: list[int] = []

    def __len__(self) -> int:
        return len(self._labels)

    def takes(self, inputs: Arrays) -> bool:
        """Whether they have the names, dtypes and shapes of those that are here."""
        kind = {name: (column[0].dtype, column[0].shape) for name, column in self._columns.items()}
        return not kind or kind == {name: (array.dtype, array.shape) for name, array in inputs.items()}

    def add(self, inputs: Arrays, label: int) -> None:
        """A copy of them."""
        for name, array in inputs.items():
            self._columns.setdefault(name, []).append(np.array(array, order="C"))
        self._labels.append(label)
        self.bytes += size(inputs)

    def arrays(self) -> Arrays:
        stacked = {name: np.stack(column) for name, column in self._columns.items()}
        return {**stacked, _LABELS: np.array(self._labels, np.int64)}


def inputs(x: Inputs) -> Arrays:
    """By the names that they have in a file. Raises: InvalidInput for what is no sample."""
    named = {_NAMED + name: array for name, array in x.items()} if isinstance(x, dict) else {_ONLY: x}
    if not named or not all(isinstance(array, np.ndarray) and array.dtype.kind in "biuf" for array in named.values()):
        raise InvalidInput("a sample is a numpy array of numbers, or several by the names of inputs")
    if not all(np.isfinite(array).all() for array in named.values()):
        raise InvalidInput("a sample with a number that is not finite", "leave out what a broken sensor gave")
    return named


def label(y: int) -> int:
    """Raises: InvalidInput for what is no class."""
    number = whole(y)
    if not 0 <= number < 1 << 31:
        raise InvalidInput(f"a sample of class {number}", "classes count from 0")
    return number


def size(inputs: Arrays) -> int:
    """Bytes of a sample, its class among them."""
    return 8 + sum(array.nbytes for array in inputs.values())


def samples(arrays: Arrays) -> Iterator[Kept]:
    """As they were added; none where these are the arrays of no segment."""
    columns = dict(arrays)
    labels = columns.pop(_LABELS, np.zeros(0))
    if not columns or any(len(column) != len(labels) for column in columns.values()):
        return
    for place, label in enumerate(labels.tolist()):
        if _ONLY in columns:
            yield columns[_ONLY][place], label
        else:
            yield {name[len(_NAMED) :]: column[place] for name, column in columns.items()}, label
