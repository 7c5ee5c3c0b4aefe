from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import waves
from edgekit.errors import ConfigError

NAMES = [f"pole-{number}" for number in range(1000)]


@pytest.mark.parametrize(
    ("text", "number", "sizes"),
    [
        ("1,10%,100%", 50, (1, 4, 45)),
        ("1,10%,100%", 200, (1, 19, 180)),
        ("1, 10% ,100%", 5, (1, 4)),
        ("1,10%", 50, (1, 4, 45)),
        ("1", 3, (1, 2)),
        ("2,5", 4, (2, 2)),
        ("100%", 7, (7,)),
        ("33.3%", 3, (1, 2)),
        ("10", 1, (1,)),
    ],
)
def test_sizes(text: str, number: int, sizes: tuple[int, ...]) -> None:
    assert waves.sizes(text, number) == sizes


@pytest.mark.parametrize("text", ["", "0", "x", "1,,2", "0%", "101%", "-1", "1.5", "10%,5%", "5,2", "²", "%"])
def test_what_is_no_waves(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        waves.sizes(text, 100)
    assert caught.value.hint


@given(st.lists(st.integers(1, 300), min_size=1, max_size=5).map(sorted), st.integers(1, 250))
def test_every_device_is_in_one_wave(ends: list[int], number: int) -> None:
    sizes = waves.sizes(",".join(map(str, ends)), number)
    assert sum(sizes) == number
    assert all(sizes)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("90", 90), ("90s", 90), ("2m", 120), ("1.5h", 5400)])
def test_durations(text: str, seconds: float) -> None:
    assert waves.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1s", "2d", "2 m", "1e3"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="is no duration"):
        waves.duration(text)


@pytest.mark.parametrize("text", ["8761h", "99999999999999999h", "9" * 400])
def test_nobody_waits_for_longer_than_a_year(text: str) -> None:
    """No clock counts that far."""
    with pytest.raises(ConfigError, match="is longer than a year"):
        waves.duration(text)


class TestShare:
    @given(st.sets(st.sampled_from(NAMES), min_size=1), st.sampled_from(NAMES), st.floats(0.01, 1), st.text())
    def test_who_comes_or_goes_moves_nobody_else(self, names: set[str], other: str, part: float, salt: str) -> None:
        chosen, more = (set(waves.within(sorted(some), part, salt)) for some in (names, names | {other}))
        if len(chosen) > 1 and len(more) > 1:  # of few, the first is taken though it lies beyond the share
            assert more - {other} == chosen - {other}

    @given(st.sets(st.sampled_from(NAMES), min_size=1), st.floats(0.01, 1), st.floats(0.01, 1))
    def test_a_larger_share_has_all_of_a_smaller_one(self, names: set[str], one: float, two: float) -> None:
        small, large = (set(waves.within(sorted(names), part, "digits")) for part in sorted((one, two)))
        assert small <= large <= names
        assert small
        assert set(waves.within(sorted(names), 1.0, "digits")) == names

    def test_about_as_many_as_asked_for_and_others_for_another_app(self) -> None:
        digits, words = (set(waves.within(NAMES, 0.2, app)) for app in ("digits", "words"))
        assert 160 < len(digits) < 240
        assert 20 < len(digits & words) < 60

    def test_the_same_ones_as_ever(self) -> None:
        assert waves.within(NAMES[:20], 0.2, "digits") == ("pole-13", "pole-18")
