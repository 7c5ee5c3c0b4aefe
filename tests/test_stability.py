from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.data.stability import ALLOWED, Halves, Ranges, Stability, difference, of_halves
from tests.lab.models import DIGITS, shared

ENDS = st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).map(lambda pair: (min(pair), max(pair)))


@given(ENDS, ENDS)
def test_the_difference_of_two_ranges_is_a_share_of_their_span(one: Any, other: Any) -> None:
    assert difference(one, one) == 0
    assert 0 <= difference(one, other) == difference(other, one) <= 2
    assert difference((0, 0), (0, 0)) == 0
    assert difference((0, 1), (0, 0.75)) == 0.25
    assert difference((-1, 1), (-0.5, 0.5)) == 0.5


def test_what_is_told() -> None:
    one, other = {"a": (0.0, 1.0), "b": (-1.0, 1.0)}, {"a": (0.0, 0.86), "b": (-0.86, 0.86)}
    have = of_halves(one, other, 5)
    assert (have.worst, round(have.difference, 2), have.needed) == ("a", 0.14, 26)
    assert have.line == (
        "calibration data: ranges differ by 14% between two halves of 5 samples, most in 'a': "
        "about 16 more samples needed"
    )
    assert of_halves(one, other, 13).line is None
    assert of_halves(one, one, 2) == Stability(2, 0.0, "a", 0)
    assert of_halves({}, {}, 2).line is None


def test_a_tensor_that_only_one_half_knows_is_left_out() -> None:
    assert of_halves({"a": (0, 1), "b": (0, 1)}, {"a": (0, 1), "c": (0, 1)}, 9).difference == 0


class TestHalves:
    def test_samples_go_by_and_leave_their_ranges(self) -> None:
        x, halves = np.random.default_rng(0).normal(size=(21, 2, 50)), Halves()
        samples = [{"a": a, "b": 2 * b} for a, b in x]
        assert [id(each) for each in halves.watch(samples)] == [id(each) for each in samples]
        one, other = (
            {name: ((i + 1) * y[:, i].min(), (i + 1) * y[:, i].max()) for i, name in enumerate("ab")}
            for y in (x[::2], x[1::2])
        )
        assert halves.stability == of_halves(one, other, 10)

    def test_what_is_no_number_is_left_out(self) -> None:
        halves, good = Halves(), {"a": np.array([0.0, 1.0])}
        bad = {"a": np.array([np.nan, 9.0]), "b": np.zeros(0)}
        list(halves.watch([good, good, bad, good]))
        assert halves.stability == Stability(2, 0.0, "a", 0)
        assert Halves().stability.line is None

    def test_a_single_sample_tells_nothing(self) -> None:
        halves = Halves()
        list(halves.watch([{"a": np.array([0.0, 1.0])}]))
        assert halves.stability.line is None


@cache
def extremes(model: Path, data: Path, normalize: bool) -> tuple[Any, Any]:
    """The least and the largest value of all tensors of an ONNX model, by sample: [samples, tensors] each."""
    document = onnx.shape_inference.infer_shapes(onnx.load(model))
    kept = {value.name for value in document.graph.output}
    kinds = {v.name: v for v in document.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    constants = {name for node in document.graph.node if node.op_type == "Constant" for name in node.output}
    document.graph.output.extend(v for name, v in kinds.items() if name not in kept | constants)
    session = onnxruntime.InferenceSession(document.SerializeToString())
    with np.load(data) as file:
        x = np.concatenate([file["calib_x"], file["test_x"][:300]]) if normalize else file["x"]
    if normalize:
        x = np.moveaxis((x / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225), -1, 1).astype(np.float32)
    rows = [session.run(None, {session.get_inputs()[0].name: each[np.newaxis]}) for each in x]
    return np.array([[a.min() for a in row] for row in rows]), np.array([[a.max() for a in row] for row in rows])


def beyond(lows: Any, highs: Any, count: int) -> float:
    """By how much of the ranges of ``count`` samples the others go beyond them, truly."""
    total = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(lows))
        few, rest = order[:count], order[count:]
        low, high = lows[few].min(0), highs[few].max(0)
        excess = np.maximum(highs[rest] - high, 0) + np.maximum(low - lows[rest], 0)
        total.append((excess.mean(0) / (high - low)).mean())
    return float(np.mean(total))


@pytest.mark.parametrize("half", [3, 8, 25, 80])
@pytest.mark.parametrize("model", ["digits", pytest.param("resnet20", marks=pytest.mark.slow)])
def test_so_many_samples_are_needed_in_truth(model: str, half: int) -> None:
    """From any number of samples, on average, about as many as bring the next one within the allowed share."""
    if model == "digits":
        lows, highs = extremes(DIGITS / "digits.onnx", DIGITS / "evaluation.npz", False)
    else:
        lows, highs = extremes(shared("resnet20_cifar10/resnet20_cifar10.onnx"), shared("data/cifar10.npz"), True)

    def ranges(numbers: Any) -> Ranges:
        return {str(i): (lows[numbers, i].min(), highs[numbers, i].max()) for i in range(lows.shape[1])}

    needed, silent = [], []
    for seed in range(30):
        order = np.random.default_rng(seed).permutation(len(lows))
        have = of_halves(ranges(order[:half]), ranges(order[half : 2 * half]), half)
        needed.append(have.needed)
        silent.append(have.line is None)
    count = round(float(np.mean(needed)))
    assert 0.6 * ALLOWED < beyond(lows, highs, count) < 1.8 * ALLOWED
    assert all(silent) if half >= 25 else not any(silent) if half == 3 else True
