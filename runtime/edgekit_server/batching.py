"""Batching: calls that go through the model in one run, where their rows prove to be strangers to each other.

A first axis of any size need not be a batch: it may be time, and a model may look at all rows to scale one. So this is
no matter of what the interface declares, but of what the model answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict

import numpy as np

from edgekit_runtime.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from edgekit_runtime.interface import Interface

    Array = np.ndarray[Any, Any]

Arrays = Dict[str, "Array"]
Predict = Callable[[Arrays], Arrays]

CLOSE = 1e-4
"""Of the largest number in an answer: kernels add in another order for more rows; rows that mix differ by far more."""


def kind_of(inputs: Arrays, interface: Interface) -> tuple[Hashable | None, int]:
    """What calls must have in common to share a run (None: it has to run alone), and the rows along the first axis."""
    accepts = interface.accepts
    if len(inputs) == 1:  # mostly there is one, and of one shape
        ((name, array),) = inputs.items()
        if name in accepts and accepts[name].shape == array.shape:
            return (name, array.dtype.str, array.shape[1:]), max(1, array.shape[0]) if array.shape else 1
    rows = {array.shape[:1] for array in inputs.values()}
    whole = all(name in accepts and array.ndim == len(accepts[name].shape) for name, array in inputs.items())
    if len(rows) != 1 or () in rows or not whole:
        return None, 1
    kind = tuple(sorted((name, array.dtype.str, array.shape[1:]) for name, array in inputs.items()))
    return kind, max(1, _rows(inputs))


def rows_are_strangers(predict: Predict, samples: Sequence[Arrays]) -> bool:
    """Whether samples together give what they give alone, to each its own; not known by samples that are all the same.

    ``samples``: inputs of one kind, as those of golden vectors.
    """
    try:
        alone = [predict(sample) for sample in samples]
        together = split(predict(stack(samples)), [_rows(sample) for sample in samples])
    except (EngineError, ValueError, LookupError):
        return False
    differ = any(not np.array_equal(sample[name], samples[0][name]) for sample in samples for name in sample)
    return differ and all(_same(want[name], have[name]) for want, have in zip(alone, together) for name in want)


def answers(predict: Predict, calls: Sequence[Arrays]) -> list[Arrays | EngineError]:
    """The outputs of each call, of one run where that goes well; an error is only that of the call that causes it."""
    if len(calls) > 1:
        try:
            return [*split(predict(stack(calls)), [_rows(call) for call in calls])]
        except (EngineError, ValueError):
            pass  # which of them holds what the model cannot take, only running them alone tells
    return [_alone(predict, call) for call in calls]


def _alone(predict: Predict, call: Arrays) -> Arrays | EngineError:
    try:
        return predict(call)
    except EngineError as error:
        return error


def stack(calls: Sequence[Arrays]) -> Arrays:
    """The inputs of calls of one kind, below each other. Raises: ValueError, LookupError for other calls."""
    return {name: np.concatenate([call[name] for call in calls]) for name in calls[0]}


def split(outputs: Arrays, rows: Sequence[int]) -> list[Arrays]:
    """To each call its rows of the outputs, as views. Raises: ValueError where there are not as many."""
    ends = [sum(rows[: place + 1]) for place in range(len(rows))]
    odd = [name for name, array in outputs.items() if array.shape[:1] != (ends[-1],)]
    if odd:
        raise ValueError(f"output {odd[0]!r} has not {ends[-1]} rows")
    return [{name: array[end - count : end] for name, array in outputs.items()} for end, count in zip(ends, rows)]


def _rows(call: Arrays) -> int:
    return int(next(iter(call.values())).shape[0])


def _same(want: Array, have: Array) -> bool:
    if want.shape != have.shape or want.dtype.kind != "f":
        return np.array_equal(want, have)
    largest = float(np.max(np.abs(want[np.isfinite(want)]), initial=0.0))
    return np.allclose(want, have, CLOSE, CLOSE * largest, equal_nan=True)
