from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.page import climate, faults, plot, render, shifts, sparkline, stages, told, words
from edgekit.page.axis import MOST_POINTS, Axis, axis, resolution
from edgekit.page.gather import Found
from edgekit.page.latency import bounded, lines, milliseconds, percentiles
from edgekit.page.rows import newest_first, rows, slowest_first
from edgekit.page.views import MOST_APPS, MOST_DEVICES, views
from edgekit.store import Alert, Seen, Slice, Summary
from edgekit_runtime.histogram import index
from tests.lab.demo_store import HOSTILE
from tests.lab.markup import Tags

HOUR = 3600.0
OLD, NEW = ("sha256:" + digit * 64 for digit in "ab")
ONE = Slice(0.0, HOUR, "desk", "digits", OLD, "call", {})


def took(ms: float, calls: int = 10) -> dict[int, int]:
    return {index(int(ms * 1e6)): calls}


def call(hour: int, ms: float, **facts: object) -> Slice:
    return replace(ONE, start_s=hour * HOUR, buckets=took(ms), **facts)  # type: ignore[arg-type]


class TestAxis:
    @given(st.floats(0, 4e9), st.lists(st.integers(0, 60 * 24 * 365), min_size=1, max_size=20))
    def test_holds_every_slice_in_few_steps(self, start_s: float, minutes: list[int]) -> None:
        first = start_s // 300 * 300
        slices = [replace(ONE, start_s=first + minute // 5 * 300, seconds=300) for minute in minutes]
        made = axis(slices)
        assert 1 <= made.number <= MOST_POINTS + 1
        for each in slices:
            at = made.times[made.index(each.start_s)]
            assert at <= each.start_s < at + made.step_s

    def test_no_step_is_shorter_than_a_slice(self) -> None:
        assert axis([replace(ONE, seconds=86400.0)]).step_s == 86400
        assert axis([]).number == 1

    def test_the_store_is_asked_for_no_more_the_more_devices_there_are(self) -> None:
        assert [resolution(30 * 86400, n, 24000) for n in (1, 2, 33, 34, 500)] == [300, 300, 3600, 86400, 86400]
        assert resolution(86400, 0, 24000) == 300


class TestPercentiles:
    def test_over_time_of_each_release(self) -> None:
        slices = [call(0, 10), call(2, 20), call(2, 5, release=NEW)]
        known = lines(slices, Axis(0, 3600, 3), lambda each: each.release)
        series = percentiles(bounded(known, [NEW, OLD], "{} older"))["p95"]
        assert [each.name for each in series] == [NEW, OLD]
        assert series[0].values == (None, None, pytest.approx(5, rel=0.02))
        assert series[1].values == (pytest.approx(10, rel=0.02), None, pytest.approx(20, rel=0.02))

    def test_what_is_too_many_to_tell_apart_is_drawn_as_one(self) -> None:
        known = lines([call(0, 1 + i, device=f"d{i}") for i in range(9)], Axis(0, 3600, 1), lambda each: each.device)
        shown = bounded(known, [f"d{i}" for i in (8, 7, 6, 5, 4, 3, 2)], "the other {}")
        assert [line.name for line in shown] == ["d8", "d7", "d6", "d5", "d4", "the other 4"]
        assert sum(shown[-1].whole.values()) == 40

    def test_of_no_call_there_is_none(self) -> None:
        assert milliseconds({}, 0.5) is None
        assert milliseconds({700: 0}, 0.5) is None


class TestStages:
    def test_are_parts_of_a_mean_call(self) -> None:
        parts = [replace(call(0, 3), stage="queue"), replace(call(0, 9), stage="infer"), call(0, 12)]
        series = stages.means(parts, Axis(0, 3600, 1))
        assert [each.name for each in series] == ["queue", "infer"]
        assert series[1].values[0] == pytest.approx(9, rel=0.02)
        assert told.stages(series).startswith("Of a mean call's 12 ms: queue 25")

    def test_an_emulator_s_are_not_among_them(self) -> None:
        assert stages.means([replace(call(0, 3), stage="infer", emulated=True)], Axis(0, 3600, 1)) == ()


class TestClimate:
    def test_is_least_mean_and_most_of_all_devices(self) -> None:
        slices = [
            call(0, 1, conditions={"temperature_c": (40, 50, 60)}),
            call(0, 1, device="hall", conditions={"temperature_c": (30, 40, 80)}),
            call(1, 1),
        ]
        coolest, mean, hottest = climate.temperature(slices, Axis(0, 3600, 2))
        assert (coolest.values, mean.values, hottest.values) == ((30, None), (45, None), (80, None))
        assert told.temperature((coolest, mean, hottest), Axis(0, 3600, 2)).startswith(
            "The hottest device reached 80 °C"
        )

    def test_who_was_never_held_back_is_told_so(self) -> None:
        calm = climate.limits(
            [call(0, 1, conditions={"throttled": (0, 0, 0), "under_voltage": (0, 0, 0)})], Axis(0, 1, 1)
        )
        assert [series.name for series in calm] == ["throttled"]
        assert told.limits(calm, Axis(0, 1, 1)) == "No device was held back."

    def test_a_share_of_the_windows(self) -> None:
        held = climate.limits([call(0, 1, conditions={"throttled": (0, 0.38, 1)})], Axis(0, 1, 1))
        assert held[0].values == (38.0,)
        assert told.limits(held, Axis(0, 1, 1)).startswith("Throttled 38 % of the time, at worst 38 % (1 Jan, 00:00)")


class TestFaults:
    def test_by_code_the_most_frequent_first_and_the_rest_together(self) -> None:
        codes = {f"code{i}": i + 1 for i in range(9)}
        series = faults.errors([call(0, 1, errors=codes)], Axis(0, 3600, 1))
        assert (series[0].name, series[0].values) == ("code8", (9,))
        assert (series[-1].name, series[-1].values) == (faults.OTHERS, (6,))
        assert told.errors(series, 955, Axis(0, 3600, 1)).startswith("45 calls failed, 4.5 %: code8 9, code7 8")

    def test_shares_of_what_was_looked_at(self) -> None:
        counters = {"inputs_checked": 200, "inputs_clipped": 3, "cache_hits": 1, "cache_misses": 3}
        series = faults.shares([call(0, 1, counters=counters), call(1, 1)], Axis(0, 3600, 2))
        assert [(each.name, each.values) for each in series] == [
            ("clipped inputs", (1.5, None)),
            ("cache hits", (25.0, None)),
        ]

    def test_drift_is_told_of_what_moved_most(self) -> None:
        drift = {"input:x": (9000, 1000, 0), "expected:input:x": (1000, 4000, 5000)}
        series = shifts.shifts([call(0, 1, drift=drift)], Axis(0, 3600, 1))
        assert series[0].name == "input x"
        assert "Input x moved most" in told.shifts(series, Axis(0, 3600, 1))
        assert shifts.shifts([call(0, 1)], Axis(0, 3600, 1)) == ()


class TestRows:
    def test_each_release_has_its_figures(self) -> None:
        slices = [call(0, 10, errors={"timeout": 10}), call(1, 30, device="hall"), call(5, 8, release=NEW)]
        newest, old = newest_first(rows(slices, Axis(0, 3600, 6), lambda each: each.release))
        assert (newest.name, newest.count, newest.failed, newest.first_s) == (NEW, 10, 0.0, 5 * HOUR)
        assert (old.count, old.failed, old.devices) == (20, pytest.approx(1 / 3), 2)
        assert old.p95 == pytest.approx(30, rel=0.02)
        assert told.releases([newest, old]).startswith("bbbbbbbbbbbb, the newest release, has a p95 of")
        assert "73 % less than aaaaaaaaaaaa before it" in told.releases([newest, old])

    def test_an_emulator_s_times_are_no_latencies(self) -> None:
        [row] = rows([call(0, 10, emulated=True)], Axis(0, 3600, 1), lambda each: each.device)
        assert (row.count, row.p50) == (10, None)
        assert told.devices(slowest_first([row])) == "No call was timed."


class TestWords:
    @pytest.mark.parametrize(
        ("value", "text"),
        [(0, "0 %"), (1e-6, "< 0.01 %"), (0.00308, "0.308 %"), (0.5, "50 %"), (1, "100 %"), (None, "–")],
    )
    def test_a_share(self, value: float | None, text: str) -> None:
        assert words.share(value) == text

    @pytest.mark.parametrize(
        ("value", "text"), [(7, "7"), (1234, "1,234"), (12345, "12.3 k"), (2_500_000, "2.5 M"), (3e13, "30 T")]
    )
    def test_a_number(self, value: float, text: str) -> None:
        assert words.number(value) == text

    @pytest.mark.parametrize(("value", "text"), [(0.0042, "0.0042 ms"), (12.34, "12.3 ms"), (1234.5, "1,234 ms")])
    def test_milliseconds(self, value: float, text: str) -> None:
        assert words.ms(value) == text

    @given(st.floats(0, 1e30))
    def test_no_number_is_a_power_of_ten(self, value: float) -> None:
        assert re.fullmatch(r"[0-9,.]+ ms", words.ms(value))

    @given(st.floats(allow_nan=False))
    def test_every_moment_can_be_told(self, when_s: float) -> None:
        assert words.iso(when_s).endswith("Z")
        assert words.moment(when_s)


class TestDocument:
    @settings(max_examples=40)
    @given(st.lists(st.none() | st.floats(), min_size=1, max_size=9))
    def test_is_json_that_every_browser_reads(self, values: list[float | None]) -> None:
        times = tuple(range(0, 300 * len(values), 300))
        drawn = plot.Plot("k", "t", "", "ms", plot.LINES, times, {"": (plot.Series("s", tuple(values)),)})
        read = json.loads(json.dumps(drawn.document(), allow_nan=False))
        for had, has in zip(values, read["variants"][""][0], strict=True):
            assert (has is None) == (had is None or not math.isfinite(float(f"{had:.4g}")))
            assert has is None or has == pytest.approx(had, rel=1e-3)

    @settings(max_examples=40)
    @given(st.lists(st.none() | st.floats(0, 1e9), max_size=99))
    def test_a_sparkline_stays_in_its_frame(self, values: list[float | None]) -> None:
        drawn = re.findall(r"[ML]([-0-9]+) ([-0-9]+)", sparkline.points(values))
        assert len(drawn) <= sparkline.MOST_POINTS
        assert all(0 <= int(x) <= sparkline.WIDTH and 0 <= int(y) <= sparkline.HEIGHT for x, y in drawn)


def found_of(names: list[str], app: str = "digits") -> Found:
    slices = tuple(call(hour, 10 + hour, device=name, app=app, errors={name: 1}) for hour in range(3) for name in names)
    fleet = tuple(Seen(name, app, OLD, 0.0, 3 * HOUR, 30, 3, {}) for name in names)
    alerts = tuple(Alert(HOUR, name, app, name, "p95_ms", "critical", 2.0, 1.0, f"{name} is slow") for name in names)
    summaries = tuple(Summary(name, app, OLD, 30, 1, 1, 1, {}, 0.0, 3 * HOUR) for name in names)
    parts = tuple(replace(each, stage="infer", errors={}) for each in slices)
    return Found(0.0, 3 * HOUR, slices, parts, slices, fleet, alerts, summaries)


class TestPage:
    def test_names_that_mean_harm_are_text(self) -> None:
        html = render.report(found_of([*HOSTILE], app=HOSTILE[0]), HOSTILE[0], 4 * HOUR)
        tags = Tags.of(html)
        assert tags.kinds.isdisjoint({"img", "b", "iframe"})
        assert not [name for name in tags.attributes if name.startswith("on") or name == "style"]
        assert tags.texts[tags.texts.index("h1") + 1] == HOSTILE[0]
        assert html.count("<script") == 3

    def test_its_data_ends_no_element_and_is_whole(self) -> None:
        html = render.report(found_of([*HOSTILE]), "Latency", 4 * HOUR)
        [text] = re.findall(r'(?s)<script type="application/json" id="data">(.*?)</script>', html)
        names = json.loads(text)["plots"]["app0-errors"]["names"]
        assert {words.cut(name) for name in HOSTILE} >= {words.cut(name) for name in names}

    def test_only_our_texts_may_run(self) -> None:
        html = render.report(found_of(["desk"]), "Latency", 4 * HOUR)
        [told_] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
        scripts = re.findall(r"(?s)<script>(.*?)</script>", html)
        styles = re.findall(r"(?s)<style>(.*?)</style>", html)
        assert told_.replace("&#39;", "'") == render.policy(styles, scripts)
        assert "default-src 'none'" in told_.replace("&#39;", "'")
        assert "unsafe" not in told_

    def test_it_asks_for_nothing(self) -> None:
        html = render.report(found_of(["desk"]), "Latency", 4 * HOUR)
        assert not re.search(r"""(src|href|action|data)=["']?(?!#|data:,)[^"'>]*[:/]""", html.partition("<script")[0])
        assert not re.search(r"@import|url\(", "".join(map(render.asset, render.STYLES)))

    def test_of_nothing_it_says_so(self) -> None:
        html = render.report(Found(0.0, 1.0), "Latency", 1.0)
        assert "Nothing was reported in this time." in html

    def test_many_devices_and_apps_make_it_no_longer(self) -> None:
        [view] = views(found_of([f"d{i:03}" for i in range(70)]))
        assert (len(view.devices), view.more_devices) == (MOST_DEVICES, 20)
        assert max(len(each) for one in view.plots for each in one.variants.values()) <= 7
        one = found_of(["desk"])
        each, summaries = (
            tuple(replace(value, app=f"app{i}") for i in range(9) for value in values)
            for values in (one.each, one.summaries)
        )
        assert len(views(replace(one, whole=each, each=each, summaries=summaries))) == MOST_APPS

    def test_every_plot_says_what_is_on_it(self) -> None:
        [view] = views(found_of(["desk", "hall"]))
        assert [each.key for each in view.plots] == ["app0-releases", "app0-devices", "app0-stages", "app0-errors"]
        assert all(each.told.endswith(".") for each in view.plots)

    def test_nothing_is_plotted_of_what_nobody_measured(self) -> None:
        [view] = views(Found(0.0, HOUR, (ONE,), (), (ONE,), summaries=found_of(["desk"]).summaries))
        assert view.plots == ()
