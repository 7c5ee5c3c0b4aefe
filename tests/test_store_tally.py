"""What was counted, added up and packed."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.store import tally
from edgekit.store.tally import MOST_COUNT, MOST_NAMES, Tally
from edgekit_runtime import windows as limits
from edgekit_runtime.windows import LARGEST, MOST_BUCKET, Window

NAMES = st.text("abc:_", min_size=1, max_size=4)
COUNTS = st.integers(0, limits.MOST_COUNT)
BUCKETS = st.dictionaries(st.integers(0, MOST_BUCKET), COUNTS, max_size=5)
WINDOWS = st.builds(
    Window,
    *(st.just(word) for word in ("digits", "sha256:" + "a" * 64, "s1", 0, 0.0, 60.0)),
    buckets=BUCKETS,
    errors=st.dictionaries(NAMES, COUNTS, max_size=3),
    stages=st.dictionaries(NAMES, BUCKETS, max_size=3),
    counters=st.dictionaries(NAMES, COUNTS, max_size=3),
    conditions=st.dictionaries(NAMES, st.floats(-LARGEST, LARGEST), max_size=3),
    drift=st.dictionaries(NAMES, st.lists(COUNTS, min_size=3, max_size=3).map(tuple), max_size=3),
)


@given(WINDOWS)
def test_a_window_that_is_packed_comes_out_as_it_was(window: Window) -> None:
    told, stages, conditions = tally.unpack_window(tally.pack_window(window))
    assert replace(window, buckets=told.buckets, errors=told.errors, counters=told.counters) == window
    assert (stages, conditions, told.drift) == (window.stages, window.conditions, window.drift)


@settings(max_examples=50)
@given(st.lists(WINDOWS, max_size=6))
def test_it_is_the_sum_of_its_windows_whatever_is_packed_on_the_way(windows: list[Window]) -> None:
    total, packed = Tally(), tally.pack(Tally())
    for window in windows:
        total.take(tally.of(window))
        kept = tally.unpack(packed)
        kept.take(tally.of(window))
        packed = tally.pack(kept)
    assert tally.unpack(packed) == total
    assert sum(total.buckets.values()) == sum(window.count for window in windows)
    for name, (least, added, most, number) in total.conditions.items():
        told = [window.conditions[name] for window in windows if name in window.conditions]
        assert (least, most, number) == (min(told), max(told), len(told))
        assert abs(added - sum(told)) <= 1e-9 * sum(map(abs, told))


def test_numbers_and_names_stay_bounded() -> None:
    total: dict[str, int] = {}
    for i in range(300):
        tally.count(total, {f"name{i}": MOST_COUNT, "first": MOST_COUNT})
    assert len(total) == MOST_NAMES
    assert set(total.values()) == {MOST_COUNT}


def test_what_is_taken_is_not_changed() -> None:
    window = Window("digits", "r", "s", 0, 0, 60, {1: 1}, {}, {"infer": {1: 1}}, {}, {"c": 1.0}, {"input:x": (1, 2)})
    total, stages = Tally(), dict[str, dict[int, int]]()
    for _ in range(3):
        total.take(tally.of(window))
        tally.count_stages(stages, window.stages)
    assert (window.buckets, window.stages, window.drift) == ({1: 1}, {"infer": {1: 1}}, {"input:x": (1, 2)})
    assert (total.buckets, stages, total.drift) == ({1: 3}, {"infer": {1: 3}}, {"input:x": (3, 6)})
