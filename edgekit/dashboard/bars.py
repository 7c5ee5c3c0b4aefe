"""Bars: what has become of devices, as pieces of a bar of 100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """Devices of one state: from where to where."""

    state: str
    devices: int
    start: float
    width: float


def pieces(states: Sequence[str], words: Mapping[str, str]) -> tuple[Piece, ...]:
    """That make up the whole bar: the states of ``words``, in its order and called so, then what else there is."""
    ranks = {state: rank for rank, state in enumerate(words)}
    found, start = list[Piece](), 0.0
    for state in sorted(set(states), key=lambda state: (ranks.get(state, len(ranks)), state)):
        number = states.count(state)
        width = 100 * number / len(states)
        found.append(Piece(words.get(state, state), number, start, width))
        start += width
    return tuple(found)
