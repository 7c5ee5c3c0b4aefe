from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.typing import NDArray

from edgekit.precision import Calibrator
from edgekit.quantization.calibration import HALF, KEPT, Histogram, Range, observe, ranges, sqnr_db

Values = NDArray[np.float32]

every_calibrator = pytest.mark.parametrize("calibrator", Calibrator)
magnitudes = st.floats(np.float32(1e-12), np.float32(1e12), width=32)
numbers = st.just(0.0) | magnitudes | magnitudes.map(lambda value: -value)
streams = st.lists(nps.arrays(np.float32, st.integers(1, 20), elements=numbers), min_size=1, max_size=5)


def seen(*samples: Values) -> Histogram:
    found = Histogram()
    for sample in samples:
        found.add(sample)
    return found


def ranged(values: Values, calibrator: Calibrator) -> Range:
    return ranges({"x": seen(values)}, calibrator)["x"]


def squared_error(values: Values, to: Range) -> float:
    """What 8 bits in a range do to values."""
    step = (to[1] - to[0]) / 255
    zero = round(-to[0] / step)
    levels = np.clip(np.rint(values.astype(np.float64) / step) + zero, 0, 255)
    return float(np.mean(((levels - zero) * step - values.astype(np.float64)) ** 2))


class TestHistogram:
    @given(streams)
    def test_it_is_numpys_of_all_samples_together(self, stream: list[Values]) -> None:
        found, together = seen(*stream), np.concatenate(stream).astype(np.float64)
        edges = np.linspace(-found.reach, found.reach, 2 * HALF + 1)
        assert np.array_equal(found.counts, np.histogram(together, edges)[0])
        assert (found.low, found.high) == (together.min(), together.max())

    @given(streams, st.randoms())
    def test_the_order_of_samples_does_not_matter(self, stream: list[Values], random: Any) -> None:
        other = random.sample(stream, len(stream))
        one, two = seen(*stream), seen(*other)
        assert (one.reach, one.low, one.high) == (two.reach, two.low, two.high)
        assert np.array_equal(one.counts, two.counts)

    @given(streams)
    def test_it_grows_no_further_than_it_must_and_keeps_all_counts(self, stream: list[Values]) -> None:
        found, together = seen(*stream), np.concatenate(stream)
        assert found.counts.sum() == together.size
        assert np.abs(together).max() <= found.reach
        assert found.reach <= max(2 * np.abs(together).max(), Histogram().reach)

    @given(streams)
    def test_what_is_no_number_is_left_out(self, stream: list[Values]) -> None:
        odd = [np.concatenate([sample, np.float32([np.nan, np.inf, -np.inf])]) for sample in stream]
        assert np.array_equal(seen(*odd).counts, seen(*stream).counts)
        assert seen(*odd).full == seen(*stream).full

    def test_of_nothing(self) -> None:
        for empty in (seen(), seen(np.zeros(0, np.float32)), seen(np.full(9, np.nan, np.float32))):
            assert (empty.full, empty.counts.sum()) == ((0.0, 0.0), 0)

    def test_it_is_as_large_whatever_it_has_seen(self) -> None:
        found = seen(*(np.float32([10.0**power]) for power in range(-37, 38)))
        assert found.counts.shape == found.centres.shape == (2 * HALF,)


def test_tensors_are_observed_by_name_whatever_their_shapes() -> None:
    samples = [{"a": np.ones((1, 3), np.float32)}, {"a": -np.ones((2, 2), np.float32), "b": np.ones(1, np.float32)}]
    found = observe(samples)
    assert {name: (each.full, each.counts.sum()) for name, each in found.items()} == {
        "a": ((-1.0, 1.0), 7),
        "b": ((0.0, 1.0), 1),
    }


SHAPES: dict[str, Callable[[np.random.Generator], Any]] = {
    "normal": lambda rng: rng.normal(size=40_000),
    "after a ReLU": lambda rng: np.maximum(rng.normal(size=40_000), 0),
    "of a long tail": lambda rng: rng.laplace(size=40_000) ** 3,
    "uniform": lambda rng: rng.uniform(-1, 1, 40_000),
    "negative": lambda rng: -rng.lognormal(size=40_000),
    "tiny": lambda rng: rng.normal(size=40_000) * 1e-12,
    "huge": lambda rng: rng.normal(size=40_000) * 1e20,
    "of few": lambda rng: rng.normal(size=3),
    "of one": lambda rng: np.array([0.7]),
    "constant": lambda rng: np.full(1000, -2.5),
    "zero": lambda rng: np.zeros(1000),
    "zero or one": lambda rng: rng.integers(0, 2, 1000),
    "denormal": lambda rng: np.full(9, 1e-42),
}
every_shape = pytest.mark.parametrize("name", SHAPES)


def drawn(name: str) -> Values:
    return np.asarray(SHAPES[name](np.random.default_rng(0)), np.float32)


class TestRanges:
    @every_calibrator
    @every_shape
    def test_they_lie_within_what_was_seen_and_hold_zero(self, name: str, calibrator: Calibrator) -> None:
        values = drawn(name)
        low, high = ranged(values, calibrator)
        assert min(float(values.min()), 0.0) <= low <= 0.0 <= high <= max(float(values.max()), 0.0)

    @every_calibrator
    @given(stream=streams)
    def test_so_they_do_for_any_values(self, calibrator: Calibrator, stream: list[Values]) -> None:
        low, high = ranges({"x": seen(*stream)}, calibrator)["x"]
        together = np.concatenate(stream)
        assert min(float(together.min()), 0.0) <= low <= 0.0 <= high <= max(float(together.max()), 0.0)
        if together.any():
            assert high > low

    @every_calibrator
    def test_of_what_was_never_seen(self, calibrator: Calibrator) -> None:
        assert ranged(np.zeros(0, np.float32), calibrator) == (0.0, 0.0)
        assert ranged(np.full(3, np.nan, np.float32), calibrator) == (0.0, 0.0)

    @every_calibrator
    def test_of_a_constant_hold_it(self, calibrator: Calibrator) -> None:
        for value in (1.0, 0.7, 3e-5, 1e6):
            assert ranged(np.full(100, value, np.float32), calibrator) == (0.0, np.float32(value))
            assert ranged(np.full(100, -value, np.float32), calibrator) == (-np.float32(value), 0.0)

    def test_minmax_is_all_that_was_seen(self) -> None:
        assert ranged(np.float32([-1, 5, 2]), Calibrator.MINMAX) == (-1.0, 5.0)
        assert ranged(np.float32([3, 5]), Calibrator.MINMAX) == (0.0, 5.0)

    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize("calibrator", [Calibrator.PERCENTILE, Calibrator.ENTROPY])
    def test_an_outlier_is_left_out(self, calibrator: Calibrator, sign: int) -> None:
        values = np.append(np.abs(drawn("normal")), 30) * np.float32(sign)
        assert max(map(abs, ranged(values, calibrator))) < 15
        assert max(map(abs, ranged(values, Calibrator.MINMAX))) == 30

    def test_the_percentile_leaves_out_its_share(self) -> None:
        values = drawn("of a long tail")
        low, high = ranged(values, Calibrator.PERCENTILE)
        assert np.mean((values >= low) & (values <= high)) == pytest.approx(KEPT, abs=1e-4)
        assert np.mean(values < low) == pytest.approx(np.mean(values > high), abs=1e-4)

    @every_shape
    def test_mse_is_the_least_squared_error(self, name: str) -> None:
        values = drawn(name)
        found = {each: ranged(values, each) for each in Calibrator}
        if found[Calibrator.MINMAX][1] - found[Calibrator.MINMAX][0] < 1e-30:
            return
        errors = {each: squared_error(values, to) for each, to in found.items()}
        assert errors[Calibrator.MSE] <= 1.02 * min(errors.values())

    def test_mse_is_worth_it_where_the_tail_is_long(self) -> None:
        values = np.append(np.random.default_rng(0).normal(size=10**6), [20, -20]).astype(np.float32)
        assert squared_error(values, ranged(values, Calibrator.MSE)) < squared_error(values, (-20, 20)) / 2

    def test_entropy_keeps_what_is_uniform_and_cuts_a_thin_tail(self) -> None:
        assert ranged(drawn("uniform"), Calibrator.ENTROPY) == pytest.approx((-1, 1), abs=0.02)
        values = np.append(drawn("uniform"), [4, -4]).astype(np.float32)
        assert ranged(values, Calibrator.ENTROPY)[1] < 2

    def test_entropy_is_not_led_by_the_zeros_of_a_relu(self) -> None:
        values = drawn("after a ReLU")
        more = np.append(values, np.zeros(10 * values.size, np.float32))
        assert ranged(more, Calibrator.ENTROPY) == ranged(values, Calibrator.ENTROPY)


class TestSqnr:
    def test_a_bit_is_worth_six_decibels(self) -> None:
        uniform = seen(drawn("uniform"))
        found = [sqnr_db(uniform, uniform.full, levels) for levels in (16, 32, 64, 128, 256)]
        assert np.diff(found) == pytest.approx([20 * math.log10(2)] * 4, abs=0.6)
        assert found[-1] == pytest.approx(20 * math.log10(256), abs=0.1)

    @pytest.mark.parametrize("name", ["normal", "after a ReLU", "of a long tail", "negative", "tiny", "huge"])
    @every_calibrator
    def test_it_is_that_of_the_values_themselves_or_somewhat_less(self, name: str, calibrator: Calibrator) -> None:
        values = drawn(name)
        to = ranged(values, calibrator)
        want = 10 * math.log10(float(np.mean(values.astype(np.float64) ** 2)) / squared_error(values, to))
        assert want - 1.5 < sqnr_db(seen(values), to) < want + 0.1

    @pytest.mark.parametrize("name", ["zero"])
    def test_of_nothing_but_zero_nothing_is_lost(self, name: str) -> None:
        assert sqnr_db(seen(drawn(name)), (0.0, 0.0)) == math.inf
        assert sqnr_db(seen(), (0.0, 0.0)) == math.inf

    def test_a_constant_is_told_well(self) -> None:
        found = seen(drawn("constant"))
        assert sqnr_db(found, found.full) > 40
