"""What the rules find, and that nothing worse ever silences them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.advice.serving import Served
from edgekit.rules.judging import DAY_S, Evidence, Rule, judge
from edgekit.rules.metrics import METRICS
from edgekit.rules.rulebook import DEFAULTS
from edgekit.store import Alert, Seen, Slice
from edgekit_runtime.histogram import index

NOW, HOUR = 1_800_000_000.0, 3600.0
A, B = ("sha256:" + letter * 64 for letter in "ab")
SEEN = Seen("pi", "digits", B, NOW - 2 * HOUR, NOW - 60, 1000, 0, {})
SERVED = Served("pi", "digits", B, "raspberry-pi-4", "onnx", "int8", "onnxruntime", 4, max_p95_ms=30.0)


def told(ms: dict[float, int], release: str = B, *, ago_h: float = 1, **more: object) -> Slice:
    """An hour of calls, so many of each latency."""
    buckets: dict[int, int] = {}
    for each, number in ms.items():
        buckets[index(int(each * 1e6))] = buckets.get(index(int(each * 1e6)), 0) + number
    start = NOW - NOW % HOUR - ago_h * HOUR
    return Slice(start, HOUR, "pi", "digits", release, "call", buckets, **more)  # type: ignore[arg-type]


def found(*slices: Slice, before: tuple[Slice, ...] = (), seen: Seen = SEEN, now_s: float = NOW) -> dict[str, Alert]:
    """By rule; with the rules that come with edgekit."""
    return {alert.rule: alert for alert in judge(DEFAULTS, Evidence(slices, before, [seen], [SERVED]), now_s)}


WELL = told({10: 1000})
BEFORE = (told({10: 5000}, A, ago_h=30),)


class TestDefaults:
    def test_a_release_that_does_as_the_one_before_is_well(self) -> None:
        assert found(WELL, before=BEFORE) == {}

    def test_slower_than_the_release_before(self) -> None:
        alert = found(told({10: 800, 21: 200}), before=BEFORE)["slower"]
        assert (alert.device, alert.app, alert.release, alert.level) == ("pi", "digits", B, "warning")
        assert alert.value == pytest.approx(2.1, rel=0.03)
        assert alert.told == "p95 is 2.1 times that of the release before (above 1.25, of 1000 calls)"

    def test_the_release_before_is_the_last_one_before_it_on_this_device(self) -> None:
        older = told({30: 5000}, "sha256:" + "c" * 64, ago_h=200)
        assert "slower" in found(told({20: 1000}), before=(older, *BEFORE))
        elsewhere = replace(BEFORE[0], device="other")
        assert "slower" not in found(told({20: 1000}), before=(elsewhere,))

    def test_after_a_rollback_the_release_that_was_left_is_no_measure(self) -> None:
        back = replace(SEEN, release=A, first_s=NOW - 100 * DAY_S)
        assert found(told({20: 1000}, A), before=(told({5: 1000}, ago_h=30),), seen=back) == {}

    def test_the_budget_of_its_bundle(self) -> None:
        assert found(told({40: 1000}))["over-budget"].level == "critical"
        assert "over-budget" not in found(told({29: 1000}))

    @pytest.mark.parametrize(("good", "bad", "alarmed"), [(9, 1, False), (99, 1, False), (960, 40, True)])
    def test_errors_beyond_chance(self, good: int, bad: int, alarmed: bool) -> None:
        assert ("errors" in found(told({10: good}, errors={"internal": bad}))) is alarmed

    def test_ten_calls_alarm_nobody(self) -> None:
        assert found(told({500: 10}, errors={"internal": 9}), before=BEFORE) == {}

    def test_an_emulators_times_are_no_latencies(self) -> None:
        assert found(replace(told({500: 1000}), emulated=True), before=BEFORE) == {}

    @pytest.mark.parametrize(
        ("rule", "conditions"),
        [("hot", {"temperature_c": (70.0, 82.0, 90.0)}), ("throttled", {"throttled": (0.0, 0.38, 1.0)})],
    )
    def test_conditions(self, rule: str, conditions: dict[str, tuple[float, float, float]]) -> None:
        assert list(found(replace(WELL, conditions=conditions))) == [rule]

    def test_silence(self) -> None:
        assert list(found(WELL, now_s=NOW + 25 * HOUR)) == ["silent"]

    @pytest.mark.parametrize(("counts", "alarmed"), [((13000, 13000), False), ((24000, 2000), True), ((90, 10), False)])
    def test_drift(self, counts: tuple[int, int], alarmed: bool) -> None:
        drift = {"input:x": counts, "expected:input:x": (5000, 5000)}
        assert ("drift" in found(replace(WELL, drift=drift))) is alarmed

    def test_values_that_the_model_cannot_hold(self) -> None:
        counters = {"inputs_checked": 64000, "inputs_clipped": 6400, "outputs_checked": 64000}
        assert found(replace(WELL, counters=counters))["clipped"].value == pytest.approx(0.1)

    @pytest.mark.parametrize(("runs", "agreed", "alarmed"), [(200, 150, True), (200, 188, False), (10, 1, False)])
    def test_agreement_with_the_float_twin(self, runs: int, agreed: int, alarmed: bool) -> None:
        counters = {"shadow_runs": runs, "shadow_agreed": agreed}
        assert ("disagrees" in found(WELL, before=(replace(WELL, seconds=DAY_S, counters=counters),))) is alarmed

    def test_what_was_told_longer_ago_is_not_looked_at(self) -> None:
        assert "slower" not in found(told({50: 1000}, ago_h=12), told({10: 1000}), before=BEFORE)

    def test_an_app_and_devices_that_a_rule_is_about(self) -> None:
        rule = Rule("mine", "p50_ms", above=1.0)
        evidence = Evidence([WELL], [], [SEEN])
        assert judge([rule], evidence, NOW)
        assert not judge([replace(rule, app="cats")], evidence, NOW)
        assert not judge([replace(rule, devices=frozenset({"other"}))], evidence, NOW)


LATENCIES = st.dictionaries(st.sampled_from([5, 10, 15, 20, 30, 40, 80]), st.integers(1, 2000), min_size=1)


class TestMonotone:
    @given(LATENCIES, st.integers(0, 300), st.data())
    def test_slower_calls_and_more_errors_end_no_alert(
        self, ms: dict[float, int], bad: int, data: st.DataObject
    ) -> None:
        had = found(told(ms, errors={"internal": bad}), before=BEFORE)
        some = data.draw(st.sampled_from(sorted(ms)))
        moved = {**ms, some: ms[some] - data.draw(st.integers(0, ms[some]))}
        moved[100] = ms[some] - moved[some]
        worse = found(told(moved, errors={"internal": bad + data.draw(st.integers(0, 50))}), before=BEFORE)
        assert had.keys() <= worse.keys()

    @given(LATENCIES, st.integers(1, 500))
    def test_further_slow_calls_end_none(self, ms: dict[float, int], more: int) -> None:
        rules = [rule for rule in DEFAULTS if rule.name in ("slower", "over-budget")]
        evidence = Evidence([told(ms)], BEFORE, [SEEN], [SERVED])
        worse = replace(evidence, slices=[told({**ms, 100: more})])
        assert {a.rule for a in judge(rules, evidence, NOW)} <= {a.rule for a in judge(rules, worse, NOW)}

    @given(st.floats(0, 120), st.floats(0, 50), st.floats(0, 1), st.floats(0, 1))
    def test_hotter_and_more_throttled_ends_none(self, hot: float, more: float, share: float, rise: float) -> None:
        def of(temperature: float, throttled: float) -> dict[str, Alert]:
            told_so = {"temperature_c": (0.0, temperature, 200.0), "throttled": (0.0, min(1.0, throttled), 1.0)}
            return found(replace(WELL, conditions=told_so))

        assert of(hot, share).keys() <= of(hot + more, share + rise).keys()

    @given(st.sampled_from(DEFAULTS), st.floats(0, 1e6), st.floats(0, 1e6))
    def test_a_threshold_is_passed_in_one_direction(self, rule: Rule, one: float, other: float) -> None:
        from edgekit.rules.metrics import Reading

        low, high = sorted((one, other))
        better, worse = (low, high) if rule.above is not None else (high, low)
        held, holds = (rule.broken(Reading(each, each, each, 10**6)) for each in (better, worse))
        assert holds or not held


def test_every_rule_is_about_a_metric_that_there_is() -> None:
    assert {rule.metric for rule in DEFAULTS} <= METRICS.keys()
