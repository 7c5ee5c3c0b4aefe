"""How a model's numbers were spread: as it is written, and how a call is looked at."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit_watch import calibration
from edgekit_watch.calibration import Bins, Calibration, Spread

KNOWN = Calibration(
    {"x": Spread({"input": Bins((0.0, 1.0), (0.25, 0.5, 0.25))}, -1.0, 2.0)},
    {"y": Spread({"confidence": Bins((0.5,), (0.5, 0.5))}, None, None, 1, True)},
)


def test_it_comes_back() -> None:
    assert calibration.parse(calibration.dump(KNOWN)) == KNOWN


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["bins", "edges", "shares", "low", "high", "axis", "softmax", "x"]), inner)
    ),
    max_leaves=10,
)


@settings(deadline=None, max_examples=50)
@given(JSON, JSON)
def test_of_anything_it_is_read_or_refused(inputs: object, outputs: object) -> None:
    document = {"schema_version": 1, "inputs": inputs, "outputs": outputs}
    with contextlib.suppress(ValueError):
        assert calibration.parse(json.dumps(document).encode()).inputs.keys() == dict(inputs).keys()  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema_version": 2}, "whole number"),
        ({"inputs": []}, "no JSON object"),
        ({"inputs": {"x": {}}}, "bins"),
        ({"inputs": {str(n): {} for n in range(99)}}, "too many tensors"),
        ({"inputs": {"x" * 200: {}}}, "too long a name"),
    ],
)
def test_what_is_none_is_refused(change: dict[str, object], told: str) -> None:
    document = {**json.loads(calibration.dump(KNOWN)), **change}
    with pytest.raises(ValueError, match=told):
        calibration.parse(json.dumps(document).encode())


@pytest.mark.parametrize(
    "bins", [Bins((1.0, 0.0), (0.1, 0.2, 0.7)), Bins((1.0,), (1.0,)), Bins((1.0,), (1.5, -0.5)), Bins((0.0,) * 50, ())]
)
def test_bins_that_are_none_are_refused(bins: Bins) -> None:
    with pytest.raises(ValueError, match="edges"):
        calibration.parse(calibration.dump(Calibration({"x": Spread({"input": bins})}, {})))


def test_it_is_small_or_nothing() -> None:
    bins = Bins(tuple(float(n) for n in range(3000)), (1 / 3000,) * 3001)
    with pytest.raises(ValueError, match="bytes"):
        calibration.dump(Calibration({"x": Spread({"input": bins})}, {}))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_some_values_are_from_all_over(shape: list[int]) -> None:
    """All of few; of many a bounded number; over many calls every one."""
    array = np.arange(np.prod(shape)).reshape(shape)
    found = [calibration.some(array, turn) for turn in range(200)]
    assert all(each.size <= 2 * calibration.PLACES for each in found)
    stride = array.size // calibration.PLACES
    assert stride > 100 or set(np.concatenate(found).tolist()) == set(range(array.size))


def test_neighbours_are_pixels_of_the_same_colour() -> None:
    image = np.zeros((1, 8, 8, 3), np.uint8)
    image[..., 1] = 200
    for turn in range(3):
        found = calibration.looks(image, turn)
        assert set(np.unique(found["input"])) == {0, 200}
        assert not found["detail"].any()
    assert calibration.looks(np.array([[0, 255]], np.uint8), 0)["detail"].tolist() == [255.0]


def test_how_sure_a_model_is() -> None:
    sure, unsure = [100.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]
    found = calibration.certainty(np.array([sure, unsure]), softmax=True)
    assert found["confidence"] == pytest.approx([1.0, 0.25])
    assert found["entropy"] == pytest.approx([0.0, 1.0], abs=1e-6)
    found = calibration.certainty(np.array([[0.5, 0.5, 0.0]]), softmax=False)
    assert (found["confidence"][0], found["entropy"][0]) == pytest.approx((0.5, np.log(2) / np.log(3)))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=4), st.integers(-2, 1), st.integers(0, 50))
def test_answers_lie_across_the_classes(shape: list[int], axis: int, turn: int) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    rows = calibration.answers(array, axis, turn)
    assert rows.shape[1] == shape[axis]
    assert 0 < len(rows) <= calibration.ROWS
    of = np.moveaxis(array, axis, -1).reshape(-1, shape[axis]).tolist()
    assert all(row in of for row in rows.tolist())


@settings(deadline=None, max_examples=30)
@given(arrays.arrays(np.float32, st.integers(1, 50)))
def test_what_is_no_number_is_clipped_and_lies_in_the_last_bin(array: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):
        spread = Spread({}, -1.0, 1.0)
        assert calibration.beyond(array, spread) == sum(not -1 <= value <= 1 for value in array.tolist())
    counts = calibration.counted(array, np.array([-1.0, 1.0]))
    assert counts.sum() == array.size
    assert counts[2] == sum(not value < 1 for value in array.tolist())
