"""A window as a line of JSON: exactly that comes back, and nothing odd gets through."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from edgekit_runtime.histogram import percentile
from edgekit_runtime.windows import MOST_BYTES, Window, dump, joined, parse
from tests.runtime.values import GARBAGE, WINDOWS, almost

WINDOW = Window(
    "app",
    "sha256:00",
    "s",
    7,
    1.5,
    2.5,
    {3: 2, 700: 1},
    {"invalid_input": 4},
    {"infer": {3: 2}},
    {"cache_hits": 3},
    {"temperature_c": 61.5},
    {"input:x:0": (0, 1, 2)},
)
PLAIN = Window("app", "sha256:00", "s", 7, 1.5, 2.5, {3: 2, 700: 1}, {"invalid_input": 4})


@given(WINDOWS)
def test_parse_gives_what_was_dumped(window: Window) -> None:
    line = dump(window)
    assert parse(line) == window
    assert line.isascii()
    assert "\n" not in line


@settings(deadline=None)
@given(almost(json.loads(dump(WINDOW))))
def test_almost_a_window_is_read_exactly_or_refused(line: str) -> None:
    try:
        found = parse(line)
    except ValueError:
        return
    assert parse(dump(found)) == found
    assert not percentile(found.buckets, 0.5) <= 0


@pytest.mark.parametrize("data", GARBAGE, ids=lambda data: repr(data[:12]))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse(data.decode(errors="replace"))


@pytest.mark.parametrize(
    "change",
    [
        {"buckets": {"10000": 1}},
        {"buckets": {"-1": 1}},
        {"buckets": {"1e3": 1}},
        {"buckets": {"7": -1}},
        {"buckets": {"7": 1.0}},
        {"buckets": {"7": 2**63}},
        {"errors": {"": 1}},
        {"errors": {"a\nb": 1}},
        {"errors": {"x" * 200: 1}},
        {"start_s": 10**400},
        {"start_s": True},
        {"end_s": "now"},
        {"seq": -1},
        {"seq": 2**63},
        {"app": ""},
        {"app": "\ud800"},
        {"release": "a\0b"},
        {"session": 5},
        {"schema_version": 3},
        {"schema_version": True},
        {"device": "gate"},
        {"seq": 2**31},
        {"start_s": -1},
        {"end_s": 1e12},
        {"buckets": {"2501": 1}},
        {"errors": {f"code{number}": 1 for number in range(101)}},
        {"stages": {"infer": {"2501": 1}}},
        {"stages": {"a stage": {}}},
        {"stages": [1]},
        {"counters": {"x": 1.5}},
        {"counters": {"<b>": 1}},
        {"conditions": {"temperature_c": 1e13}},
        {"conditions": {"temperature_c": "hot"}},
        {"conditions": {"throttled": True}},
        {"drift": {"input:x": 5}},
        {"drift": {"input:x": [-1]}},
        {"drift": {"input:x": [0] * 257}},
        {"drift": {"input:\n": [0]}},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_device_s_odd_window_never_reaches_the_store(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        parse(json.dumps({**json.loads(dump(WINDOW)), **change}))


def test_a_line_without_end_is_refused_unread() -> None:
    with pytest.raises(ValueError, match="too long"):
        parse(dump(WINDOW)[:-1] + " " * MOST_BYTES + "}")


def test_a_line_of_version_1_is_read() -> None:
    document = {**json.loads(dump(PLAIN)), "schema_version": 1}
    assert parse(json.dumps(document)) == PLAIN
    set_back = parse(json.dumps({**document, "start_s": 100.0, "end_s": 40.0}))
    assert (set_back.start_s, set_back.end_s) == (100.0, 100.0)


def test_what_is_empty_is_not_said() -> None:
    assert dump(Window("app", "r", "s", 0, 1.0, 2.0)) == (
        '{"schema_version":2,"app":"app","release":"r","session":"s","seq":0,"start_s":1.0,"end_s":2.0,"buckets":{},"errors":{}}'
    )


def test_drift_by_a_name_that_cannot_be_said_does_not_cost_the_window() -> None:
    odd = replace(WINDOW, drift={"input:a\nb": (1,), "input:" + "x" * 300: (1,), "input:x": (1, 2)})
    assert parse(dump(odd)) == replace(WINDOW, drift={"input:x": (1, 2)})


class TestJoined:
    def test_all_that_is_counted_is_added(self) -> None:
        then = replace(
            WINDOW, seq=8, start_s=2.5, end_s=4.0, buckets={700: 1, 9: 1}, errors={},
            stages={"infer": {3: 1}, "queue": {5: 1}},
            counters={"cache_hits": 1, "cache_misses": 2}, drift={"input:x:0": (1, 0, 0), "entropy:y": (5,)},
        )  # fmt: skip
        both = joined(WINDOW, then)
        assert (both.seq, both.start_s, both.end_s) == (7, 1.5, 4.0)
        assert (both.buckets, both.errors) == ({3: 2, 700: 2, 9: 1}, {"invalid_input": 4})
        assert both.stages == {"infer": {3: 3}, "queue": {5: 1}}
        assert both.counters == {"cache_hits": 4, "cache_misses": 2}
        assert both.drift == {"input:x:0": (1, 1, 2), "entropy:y": (5,)}

    def test_conditions_are_the_last_but_what_has_been_so_has_been_so(self) -> None:
        first = replace(WINDOW, conditions={"temperature_c": 80.0, "throttled": 1.0, "under_voltage": 0.0})
        then = replace(WINDOW, conditions={"temperature_c": 70.0, "throttled": 0.0, "under_voltage": 1.0})
        assert joined(first, then).conditions == {"temperature_c": 70.0, "throttled": 1.0, "under_voltage": 1.0}

    @pytest.mark.parametrize("moment", [0.0, 60.0, 1.8e9])
    def test_a_clock_that_is_set_in_between_makes_them_no_longer(self, moment: float) -> None:
        both = joined(replace(WINDOW, start_s=4e9, end_s=4e9 + 60), replace(WINDOW, start_s=moment, end_s=moment + 60))
        assert both.end_s == moment + 60
        assert both.end_s - both.start_s == min(120, moment + 60)
