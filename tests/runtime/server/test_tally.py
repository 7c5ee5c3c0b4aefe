"""Tallies and the page that they stand on: two processes see the same numbers; and rooms, where bodies are aligned."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_server import page, wire
from edgekit_server.counts import BOUNDS
from edgekit_server.page import GUESTS, RUNNING, SLOTS, WAITING, Page
from edgekit_server.rooms import KEPT, Rooms
from edgekit_server.tally import CELLS, EXACT, Tally

SPENT = st.integers(0, 10**11)
ROWS = st.integers(1, 1 << 20)
SAID = st.one_of(
    st.tuples(st.just("answered"), SPENT, ROWS, st.tuples(*[SPENT] * 4)),
    st.tuples(st.just("kept"), SPENT, ROWS, SPENT),
    st.tuples(st.just("failed"), SPENT),
    st.tuples(st.just("ran"), ROWS, st.tuples(*[SPENT] * 4)),
    st.tuples(st.just("took"), st.sampled_from([200, 400, 503, 418]), SPENT),
)


Said = tuple[object, ...]


def say(tally: Tally, said: Said) -> None:
    getattr(tally, str(said[0]))(*said[1:])


@given(st.lists(SAID, max_size=20), st.lists(SAID, max_size=20))
def test_two_tallies_are_the_one_that_has_heard_all(some: list[Said], others: list[Said]) -> None:
    one, two, whole = Tally(), Tally(), Tally()
    for said in some:
        say(one, said)
        say(whole, said)
    for said in others:
        say(two, said)
        say(whole, said)
    one.add(two)
    mine, right = one.counts(), whole.counts()
    assert (mine.times, mine.ns, mine.runs) == (right.times, right.ns, right.runs)
    assert (mine.samples, mine.statuses, mine.buckets) == (right.samples, right.statuses, right.buckets)
    assert sum(mine.statuses.values()) == sum(mine.buckets) == sum(said[0] == "took" for said in some + others)


@pytest.mark.parametrize(
    ("rows", "told"),
    [(1, 1), (32, 32), (33, 32), (63, 32), (64, 64), (1 << 20, 1 << 20), (1 << 40, 1 << 21)],
)
def test_large_runs_are_counted_by_powers_of_two(rows: int, told: int) -> None:
    tally = Tally()
    tally.ran(rows, (0, 1, 2, 3))
    assert list(tally.counts().runs) == [told]
    assert rows > EXACT or rows == told


@pytest.mark.parametrize(("seconds", "place"), [(0.0, 0), (BOUNDS[0], 0), (0.0006, 1), (5.0, 12), (6.0, 13)])
def test_a_bucket_holds_what_took_up_to_its_bound(seconds: float, place: int) -> None:
    tally = Tally()
    tally.took(200, int(seconds * 1e9))
    assert tally.counts().buckets.index(1) == place


def test_a_page_is_one_and_what_one_side_writes_the_other_reads() -> None:
    assert page.SIZE <= 4096 <= mmap.PAGESIZE
    with mmap.mmap(-1, mmap.PAGESIZE) as memory, memoryview(memory) as view:
        mine, theirs = Page(view), Page(view)
        mine.marks[0], mine.marks[SLOTS], mine.marks[SLOTS + GUESTS - 1] = RUNNING, WAITING, RUNNING
        mine.turned(2.5)
        mine.answered(7_000_000_000)
        mine.tally.took(200, 5)
        assert (theirs.waiting, theirs.turned_s, theirs.answered_s) == (2, 2.5, 7.0)
        assert theirs.tally.counts().statuses == {200: 1}
        assert (len(mine.marks), CELLS > 0) == (SLOTS + GUESTS, True)
        for each in (mine, theirs):
            each.tally._cells.release()
            each._cells.release()
            each.marks.release()


@given(st.integers(1, 5000), st.integers(0, 400))
def test_what_follows_the_json_is_aligned_and_rooms_are_used_again(length: int, json: int) -> None:
    rooms = Rooms()
    room = rooms.take(length + json, json)
    assert len(room) == length + json
    address = np.frombuffer(room, np.uint8).ctypes.data + json
    assert address % wire.ALIGNED == 0
    rooms.give(room, json)
    assert rooms.take(length + json, json + wire.ALIGNED) is room


def test_rooms_that_nobody_uses_are_not_kept_without_end() -> None:
    rooms = Rooms()
    taken = [rooms.take(1 << 20, 0) for _ in range(20)]
    for room in taken:
        rooms.give(room, 0)
    assert rooms._bytes <= KEPT
    assert sum(len(room) for free in rooms._free.values() for room in free) == rooms._bytes


def test_packets() -> None:
    question = wire.Question(3, wire.OIP, -1, 70, 1 << 60)
    assert (question.pack()[0], wire.question(question.pack())) == (wire.QUESTION, question)
    each = [wire.Answer(1, 200, 5, 1 << 40), wire.Answer(63, 503)]
    assert wire.answers(wire.pack_answers(each)) == each
    assert wire.place(wire.placed(wire.BACK, 47, b"abc")) == (47, b"abc")
    assert len(wire.placed(wire.PART, 0, bytes(wire.PIECE))) <= wire.PACKET
