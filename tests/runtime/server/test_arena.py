"""The arena: slots that two processes share, and memory that is given back."""

from __future__ import annotations

import mmap
import os

import pytest

from edgekit_runtime.interface import Interface
from edgekit_runtime.tensors import TensorSpec
from edgekit_server.arena import LEAST, MOST, Arena, Slots, capacity, make
from edgekit_server.page import IDLE, RUNNING, SLOTS
from tests.runtime.bundles import INTERFACE


def spec(*shape: int | None) -> TensorSpec:
    return TensorSpec("x", "float32", shape)


@pytest.mark.parametrize(
    ("inputs", "outputs", "least", "most"),
    [
        (INTERFACE.inputs, INTERFACE.outputs, LEAST, LEAST),
        ((spec(1, 3, 96, 96),), (spec(1, 10),), 25 * 3 * 96 * 96, 1 << 20),
        ((spec(1, 10),), (spec(1, 3, 96, 96),), 25 * 3 * 96 * 96, 1 << 20),
        ((spec(None, 3, 96, 96),), (spec(None, 10),), 32 * 25 * 3 * 96 * 96, 24 << 20),
        ((spec(None, None, None, 3),), (spec(None, 10),), MOST, MOST),
        ((spec(),), (spec(0),), LEAST, LEAST),
    ],
)
def test_a_slot_has_room_for_a_request_and_for_an_answer(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], least: int, most: int
) -> None:
    size = capacity(Interface(inputs, outputs))
    assert least <= size <= most
    assert size % mmap.PAGESIZE == 0


def test_two_see_the_same(arena: Arena) -> None:
    other = Arena(os.open(f"/proc/self/fd/{arena.file}", os.O_RDWR), LEAST)  # type: ignore[attr-defined]
    other.view(3)[:2] = b"hi"
    other.page.marks[3] = RUNNING
    assert bytes(arena.view(3)[:3]) == b"hi\0"
    assert (arena.page.marks[3], arena.page.marks[2]) == (RUNNING, IDLE)
    assert (arena.slots, len(arena.view(63))) == (SLOTS, LEAST)


@pytest.fixture
def arena() -> Arena:
    file = make(LEAST)
    kept = os.dup(file)
    made = Arena(file, LEAST)
    made.file = kept  # type: ignore[attr-defined]
    return made


class TestSlots:
    def test_the_lowest_free_one_is_next(self, arena: Arena) -> None:
        slots = Slots(arena)
        assert [slots.take(1) for _ in range(SLOTS)] == [*range(SLOTS)]
        assert slots.take(1) is None
        for slot in (9, 4, 7):
            slots.free(slot)
        assert [slots.take(1), slots.take(1)] == [4, 7]

    def test_bodies_are_bounded_together_but_one_always_may(self, arena: Arena) -> None:
        slots = Slots(arena, 100)
        assert [slots.take(size) for size in (200, 1)] == [0, None]
        slots.free(0)
        assert [slots.take(size) for size in (60, 41, 40)] == [0, None, 1]

    def test_who_is_freed_does_not_run(self, arena: Arena) -> None:
        slots = Slots(arena)
        slots.take(1)
        arena.page.marks[0] = RUNNING
        slots.free(0)
        assert arena.page.marks[0] == IDLE

    def test_memory_that_nobody_uses_is_given_back(self, arena: Arena) -> None:
        slots = Slots(arena)
        for slot in range(4):
            slots.take(1)
            arena.view(slot)[:] = bytes([1]) * LEAST
        for slot in (1, 2, 3):
            slots.free(slot)
        slots.trim()
        assert resident(arena) == 4 * LEAST + mmap.PAGESIZE  # the page of the marks
        slots.take(1)
        slots.free(1)
        slots.trim()
        assert resident(arena) == 2 * LEAST + mmap.PAGESIZE
        slots.trim()
        slots.trim()
        assert resident(arena) == LEAST + mmap.PAGESIZE
        assert bytes(arena.view(0)) == bytes([1]) * LEAST
        assert bytes(arena.view(1)) == bytes(LEAST)


def resident(arena: Arena) -> int:
    return os.fstat(arena.file).st_blocks * 512  # type: ignore[attr-defined]
