"""How latency went lately, from slices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import trend
from edgekit.store import Slice
from edgekit.trend import BARS, SLOTS, Span, sparkline

NOON = 1_780_000_200.0 - 1_780_000_200 % 86400
KEY = ("desk", "digits", "sha256:" + "a" * 64, False)


def of(start_s: float, stage: str = "call", **told: object) -> Slice:
    return Slice(start_s, 300, *KEY[:3], stage, {690: 3}, **told)  # type: ignore[arg-type]


class TestSpan:
    @pytest.mark.parametrize(
        ("lasted", "seconds"), [(0, 300), (600, 300), (7200, 3600), (80000, 3600), (86400, 86400), (9e6, 86400)]
    )
    def test_the_finest_that_reaches_back(self, lasted: float, seconds: int) -> None:
        assert trend.spans(NOON, NOON + lasted)[0].seconds == seconds

    @given(st.floats(0, 2e9), st.floats(0, 1e7))
    def test_the_last_moment_is_in_the_last_slot(self, first: float, lasted: float) -> None:
        over = trend.spans(first, first + lasted)[0]
        assert over.end_s - over.seconds <= first + lasted < over.end_s
        assert over.start_s <= first or over.seconds == 86400


class TestTrend:
    def test_a_value_a_slot(self) -> None:
        hot, cool = {"temperature_c": (60.0, 70.0, 80.0)}, {"temperature_c": (40.0, 50.0, 60.0)}
        slices = [of(NOON, conditions=cool), of(NOON, "infer"), of(NOON + 23 * 300, conditions=hot)]
        told = trend.trends(slices, Span(NOON, 300))[KEY]
        p95 = pytest.approx(0.975, rel=0.01)
        assert (told.p95_ms[0], told.p95_ms[1], told.p95_ms[23], len(told.p95_ms)) == (p95, None, p95, SLOTS)
        assert told.stages_ms == {"infer": p95}
        assert told.conditions == {"temperature_c": (40.0, 60.0, 80.0)}

    def test_nothing(self) -> None:
        assert trend.trends([], Span(NOON, 300)) == {}


class TestSparkline:
    @pytest.mark.parametrize(
        ("values", "shown"),
        [
            ([], ""),
            ([None, None], ""),
            ([5.0], "▁"),
            ([5.0, 5.0], "▁▁"),
            ([1.0, None, 8.0], "▁ █"),
            ([100.0, 102.0, 100.0], "▁▂▁"),
            ([1, 2, 3, 4, 5, 6, 7, 8], BARS),
        ],
    )
    def test_it(self, values: list[float | None], shown: str) -> None:
        assert sparkline(values) == shown

    @given(st.lists(st.none() | st.floats(0, 1e9), min_size=1))
    def test_a_character_a_value(self, values: list[float | None]) -> None:
        assert len(sparkline(values)) == (len(values) if any(v is not None for v in values) else 0)
