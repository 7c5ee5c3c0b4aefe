"""Times of devices: what they come to, how sure that is, and what they say about the next build."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import target as targets
from edgekit.advice.advising import advise
from edgekit.advice.experience import Run, Source, expected, slower, timed
from edgekit.building import learning
from edgekit.building.guard import SLOWER
from edgekit_runtime.histogram import RELATIVE_ERROR, index

PI = "raspberry-pi-4"


def run(
    precision: str, ms: float, *, device: str = "pole", calls: int = 1000, live: bool = True, **more: object
) -> Run:
    buckets = {index(int(ms * 1e6)): calls}
    facts = Run(
        device, PI, f"release-{precision}", "onnx", precision, "onnxruntime", 4, buckets, "same", 1, 1.0, 1.0, live=live
    )
    return replace(facts, **more)  # type: ignore[arg-type]


def kind(precision: str, *ms: float, **more: object) -> list[Run]:
    """A device for each of these medians."""
    return [run(precision, each, device=f"pole-{i}", **more) for i, each in enumerate(ms)]  # type: ignore[arg-type]


class TestTimed:
    def test_of_several_devices_the_median_of_their_medians(self) -> None:
        [one] = timed(kind("int8", 10, 11, 12, 13, 90, throttled=0.2))
        assert one.p50 == pytest.approx(12, rel=0.02)
        assert (one.devices, one.calls, one.name) == (tuple(f"pole-{i}" for i in range(5)), 5000, "onnx-int8")
        assert one.low == pytest.approx(10, rel=0.03)
        assert one.high == pytest.approx(90, rel=0.03)
        assert "5000 calls on 5 devices, 4 threads, throttled for 20% of it, 1 ms on the build's host" in one.told

    @given(st.lists(st.floats(1, 1000), min_size=1, max_size=40))
    def test_the_median_lies_within_its_bounds(self, ms: list[float]) -> None:
        [one] = timed(kind("int8", *ms))
        assert one.low <= one.p50 * (1 + RELATIVE_ERROR)
        assert one.p50 <= one.high * (1 + RELATIVE_ERROR)

    def test_one_that_is_throttled_does_not_widen_the_bounds_of_many(self) -> None:
        [one] = timed(kind("int8", *[10 + i / 100 for i in range(20)], 500))
        assert one.high < 11

    def test_what_was_called_too_seldom_says_nothing(self) -> None:
        assert timed([run("int8", 10, calls=199)]) == []

    def test_the_threads_that_most_devices_run_fastest_with(self) -> None:
        [one] = timed([*kind("int8", 10, 11, threads=2), run("int8", 12, device="other", threads=4)])
        assert (one.threads, one.agree) == (2, 2)


class TestExpected:
    KNOWN = timed([run("int8", 20), run("float32", 10)])

    def of(self, base_ms: float, source: str = "another") -> list[float | None]:
        names = ("onnx-float32", "onnx-int8", "onnx-float16")
        found = [expected(self.KNOWN, name, "onnxruntime", Source(source, base_ms)) for name in names]
        return [each and each.p50 for each in found]

    def test_of_the_same_model_as_measured(self) -> None:
        assert self.of(5.0, "same") == [pytest.approx(10, rel=0.02), pytest.approx(20, rel=0.02), None]

    @pytest.mark.parametrize(("base_ms", "times"), [(5.0, 5), (1.2, 1), (0.1, 0.1), (0.0, 1)])
    def test_of_another_model_as_much_more_as_in_float_on_the_host(self, base_ms: float, times: float) -> None:
        assert self.of(base_ms) == [pytest.approx(times * 10, rel=0.02), pytest.approx(times * 20, rel=0.02), None]

    def test_by_another_engine_where_nothing_else_is_known(self) -> None:
        assert expected(self.KNOWN, "onnx-int8", "other", Source("same")) is not None


class TestModels:
    """The second model is four times as large as the first, and was built in int8."""

    SMALL = run("float32", 10, device="a", live=False, sequence=1, source="small", base_p50_ms=1.0)
    LARGE = run("int8", 20, sequence=2, source="large", base_p50_ms=4.0)

    def test_of_one_kind_only_the_last_model_counts(self) -> None:
        older = replace(self.LARGE, device="a", sequence=1, source="small", base_p50_ms=1.0)
        [one] = timed([older, self.LARGE])
        assert (one.devices, one.source) == (("pole",), "large")

    def test_kinds_are_compared_as_if_for_the_same_model(self) -> None:
        float32, int8 = timed([self.SMALL, self.LARGE])
        assert not slower(int8, float32, SLOWER)
        assert slower(float32, int8, SLOWER)
        assert slower(int8, *timed([replace(self.SMALL, base_p50_ms=4.0)]), SLOWER)


class TestAdvise:
    def lines(self, *runs: Run) -> dict[str, tuple[str, str, str]]:
        return {line.what: (line.before, line.after, line.why) for line in advise(PI, 4, runs, SLOWER)}

    def test_int8_that_is_slower_than_float_is_advised_against_with_the_numbers(self) -> None:
        runs = [*kind("int8", 20, 21, 22), *kind("float32", 10, 11, 12, live=False)]
        before, after, why = self.lines(*runs)["candidate"]
        assert (before, after) == ("onnx-int8 by onnxruntime", "onnx-float32 by onnxruntime")
        assert why.startswith("1.9")
        assert "times as slow as onnx-float32 by onnxruntime: 2" in why
        assert "of 3000 calls on 3 devices" in why

    def test_what_is_as_fast_stays(self) -> None:
        before, after, _ = self.lines(run("int8", 10), run("float32", 9.5, live=False))["candidate"]
        assert before == after

    def test_not_enough_calls_to_say(self) -> None:
        _, after, why = self.lines(run("int8", 20, calls=10), run("float32", 10, live=False))["candidate"]
        assert after == ""
        assert why == "not enough calls to say: 10 of onnx-int8 by onnxruntime on one device, 200 are needed"

    def test_nothing_to_compare_with(self) -> None:
        _, after, why = self.lines(run("int8", 20))["candidate"]
        assert after == ""
        assert "nothing else was measured there" in why

    def test_threads(self) -> None:
        assert self.lines(*kind("int8", 10, 11, 12, threads=2))["threads"][:2] == ("4", "2")
        assert self.lines(run("int8", 10, threads=2), run("int8", 10, device="b"))["threads"][:2] == ("4", "4")

    def test_engines_of_one_format(self) -> None:
        runs = [
            run("int8", ms, format="tflite", engine=engine, device=engine)
            for engine, ms in (("litert", 9), ("tflite", 4))
        ]
        assert self.lines(*runs)["engines"][:2] == ("litert", "tflite")


class TestProfile:
    def test_a_target_as_its_devices_have_shown_it(self) -> None:
        pi = targets.load(PI)
        runs = [
            run("int8", ms, format="tflite", engine=name, device=name, threads=2)
            for name, ms in (("litert", 9), ("tflite", 4))
        ]
        learned = learning.profile(pi, timed(runs))
        assert (learned.target.threads, [each.name for each in learned.target.engines]) == (
            2,
            ["tflite", "onnxruntime", "litert"],
        )
        assert len(learned.notes) == 2

    def test_of_other_classes_nothing_is_learned(self) -> None:
        other = targets.load("raspberry-pi-5")
        assert learning.profile(other, timed([run("int8", 10, threads=2)])) == learning.Learned(other)


@given(st.floats(1, 1000), st.floats(1, 1000))
def test_of_two_at_most_one_is_slower(one: float, other: float) -> None:
    a, b = timed([run("int8", one), run("float32", other)])
    assert not (slower(a, b, SLOWER) and slower(b, a, SLOWER))
