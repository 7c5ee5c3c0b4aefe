"""When something happened, by the clocks of devices that are wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.store.clock import OFF_S, Clock, ends
from edgekit_runtime.windows import LATEST_S, Window

NOW = 1_790_000_000.0
WINDOW = Window("digits", "sha256:" + "a" * 64, "s1", 0, NOW - 60, NOW)


def window(end_s: float, seq: int = 0, session: str = "s1") -> Window:
    return replace(WINDOW, session=session, seq=seq, start_s=max(end_s - 60, 0.0), end_s=end_s)


class TestARightClock:
    @pytest.mark.parametrize("off", [0.0, 20.0, -500.0])
    def test_its_times_are_taken_as_they_are(self, off: float) -> None:
        assert ends([window(NOW - 5000), window(NOW - 90 * 86400)], Clock(NOW, NOW + off)) == [
            NOW - 5000,
            NOW - 90 * 86400,
        ]

    def test_nothing_ended_after_it_came(self) -> None:
        assert ends([window(NOW + 30)], Clock(NOW)) == [NOW]


class TestAWrongClock:
    @pytest.mark.parametrize("device_now", [3600.0, NOW - 86400, NOW + 86400, NOW + 20 * 365 * 86400])
    def test_all_is_moved_by_what_it_is_off(self, device_now: float) -> None:
        told = [window(device_now - 1000), window(device_now - 10, 1)]
        assert ends(told, Clock(NOW, device_now)) == pytest.approx([NOW - 1000, NOW - 10])

    def test_what_was_before_it_was_put_right_came_before_what_was_after(self) -> None:
        """A board without a battery: two windows at 1970, then the network told it the time."""
        told = [window(120.0, 1), window(NOW - 600, 2), window(60.0, 0)]
        assert ends(told, Clock(NOW, NOW)) == [NOW - 660, NOW - 600, NOW - 720]

    def test_what_nothing_is_known_of_has_just_come(self) -> None:
        assert ends([window(120.0), window(NOW * 3, session="s2")], Clock(NOW)) == [NOW, NOW]

    def test_what_was_right_before_it_went_wrong_stays(self) -> None:
        assert ends([window(NOW - 86400), window(500.0, 1)], Clock(NOW, 560.0)) == [NOW - 86400, NOW - 60]


@given(
    st.lists(st.tuples(st.floats(0, LATEST_S), st.floats(0, LATEST_S), st.sampled_from("ab"), st.integers(0, 9))),
    st.none() | st.floats(0, LATEST_S),
)
def test_whatever_a_device_says_nothing_ends_after_now_or_long_ago(
    told: list[tuple[float, float, str, int]], device_now: float | None
) -> None:
    windows = [replace(WINDOW, session=s, seq=n, start_s=min(a, b), end_s=max(a, b)) for a, b, s, n in told]
    clock = Clock(NOW, device_now)
    assert all(1_500_000_000 < end <= NOW for end in ends(windows, clock))
    assert clock.offset_s == 0 or abs(clock.offset_s) > OFF_S
