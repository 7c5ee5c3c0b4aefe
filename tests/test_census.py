from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit.data import census
from edgekit.data.census import Census, Column
from edgekit.data.dataset import Sample, open_dataset
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec
from tests.lab.models import DIGITS, SHARED, shared

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(40, 1, 20)).astype(np.float32)


def taken(values: Any, name: str = "data.npz", preprocess: dict[str, Preprocess] | None = None) -> Census:
    return census.of_samples(name, "calibration", [Sample({"x": x}) for x in values], preprocess or {})


def column(values: Any, **more: Any) -> Column:
    return taken(values, **more).columns["x"]


class TestNumbers:
    @given(
        st.sampled_from(["f4", "f2", "u1", "i1", "i8", "?"]).flatmap(
            lambda dtype: arrays.arrays(
                dtype,
                st.tuples(st.integers(1, 6), st.just(1), st.integers(1, 9)),
                elements={"min_value": -1000, "max_value": 1000} if dtype[0] == "f" or dtype == "i8" else None,
            )
        )
    )
    def test_are_those_of_all_values_together(self, values: Any) -> None:
        have, whole = column(values), values.astype(np.float64)
        assert (have.low, have.high) == (whole.min(), whole.max())
        size = max(1.0, float(abs(whole).max()))
        assert have.mean == pytest.approx(whole.mean(), abs=1e-6 * size)
        assert have.std == pytest.approx(whole.std(), abs=1e-3 * size)
        assert have.rms == pytest.approx(math.sqrt((whole**2).mean()), abs=1e-3 * size)
        assert have.negative == pytest.approx((whole < 0).mean())
        assert have.dtype == values.dtype.name

    def test_constant_samples_are_counted_where_there_are_values_enough(self) -> None:
        assert column([np.zeros((1, 16)), np.ones((1, 16)), VECTORS[0]]).constant == 2
        assert column([np.zeros((1, 15)), np.ones((1, 1))]).constant == 0

    def test_colours_that_never_change(self) -> None:
        images = RNG.random((5, 1, 9, 9, 3), np.float32)
        images[..., 1] = 0.5
        assert (column(images).colors, column(images).dead) == (3, (1,))
        assert column(np.moveaxis(images, -1, 2)).dead == (1,)
        images[3, 0, 2, 2, 1] = 0.6
        assert column(images).dead == ()
        assert column(VECTORS).colors == 0


class TestDigests:
    @given(st.lists(st.integers(0, 5), max_size=12))
    def test_repeated_samples_are_counted_once(self, numbers: list[int]) -> None:
        have = taken(VECTORS[numbers])
        assert (have.samples, have.telling, len(have.seen)) == (len(numbers), len(numbers), len(set(numbers)))
        assert [numbers[first] for first in have.seen.values()] == list(dict.fromkeys(numbers))

    def test_are_of_names_dtypes_shapes_and_bytes_and_not_of_labels_or_memory(self) -> None:
        x = VECTORS[0]

        def digest(array: Any, name: str = "x", label: int | None = None) -> bytes:
            return census.digest_of_sample(Sample({name: array}, label))

        assert (
            digest(x) == digest(x.copy(), label=3) == digest(np.asfortranarray(x)) == digest(np.repeat(x, 2, 1)[:, ::2])
        )
        others = [digest(x, "y"), digest(x.view(np.int32)), digest(x[0]), digest(x.reshape(2, 10)), digest(x + 1)]
        assert len({digest(x), *others}) == 6

    def test_inputs_are_told_apart_and_their_order_is_nothing(self) -> None:
        a, b = VECTORS[:2]
        one = census.digest_of_sample(Sample({"a": a, "b": b}))
        assert one == census.digest_of_sample(Sample({"b": b, "a": a}))
        assert one != census.digest_of_sample(Sample({"a": b, "b": a}))

    def test_the_whole_has_one_too_that_tells_the_order(self) -> None:
        assert taken(VECTORS).digest == taken(VECTORS, name="other.npz").digest
        assert taken(VECTORS).digest != taken(VECTORS[::-1]).digest
        assert taken(VECTORS).digest.startswith("sha256:")

    def test_samples_that_may_be_equal_by_chance_are_not_seen(self) -> None:
        few, blank = VECTORS[0, :, :15], np.zeros((1, 20), np.float32)
        assert (taken([few, few, blank, blank]).telling, taken([few, few, blank, blank]).seen) == (0, {})
        two = [Sample({"flag": np.zeros((1, 1)), "x": VECTORS[i]}) for i in (0, 0, 1)]
        assert len(census.of_samples("d", "evaluation", two, {}).seen) == 2


class TestManifest:
    def test_is_json_with_no_folder_of_the_person_in_it(self) -> None:
        data = open_dataset(str(DIGITS / "evaluation.npz"), "evaluation", interface("image", (None, 1, 8, 8)), DIGITS)
        manifest = census.take(data).manifest()
        assert json.loads(json.dumps(manifest)) == manifest
        assert manifest == {
            "role": "evaluation",
            "source": "evaluation.npz",
            "samples": 400,
            "repeated": 0,
            "labelled": 400,
            "digest": manifest["digest"],
            "inputs": {"image": [0.0, 1.0]},
        }
        assert manifest == census.take(data).manifest()
        assert taken(VECTORS, "own.module:function").manifest()["source"] == "own.module:function"


@pytest.mark.parametrize(
    ("shape", "last", "axis"),
    [
        ((1, 3, 32, 32), False, 1),
        ((1, 32, 32, 3), False, 3),
        ((1, 32, 32, 3), True, 3),
        ((None, 3, None, None), False, 1),
        ((None, None, None, 1), False, 3),
        ((1, 3, 32, 32), True, None),
        ((1, 1, 8, 8), False, 1),
        ((1, 1, 7, 8), False, None),
        ((1, 49, 10, 1), False, 3),
        ((1, 16, 16, 16), False, None),
        ((1, 3, 3, 3), False, None),
        ((1, 32, 32), False, None),
        ((1, 2, 3, 8, 8), False, None),
    ],
)
def test_which_axis_of_an_image_holds_its_colours(shape: tuple[int | None, ...], last: bool, axis: int | None) -> None:
    assert census.color_axis(shape, last) == axis


class TestNoise:
    @pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3), (32, 32, 3), (49, 10, 1), (300, 280, 3)])
    @pytest.mark.parametrize("kind", ["uniform", "normal", "bytes", "by colour"])
    def test_random_values_are_noise(self, shape: tuple[int, ...], kind: str) -> None:
        made: dict[str, Callable[[], Any]] = {
            "uniform": lambda: RNG.random((30, 1, *shape), np.float32),
            "normal": lambda: RNG.normal(3, 0.1, (30, 1, *shape)),
            "bytes": lambda: RNG.integers(0, 256, (30, 1, *shape), np.uint8),
            "by colour": lambda: RNG.random((30, 1, *shape)) + 5 * np.arange(shape[-1]),
        }
        assert column(made[kind]()).noise >= 27

    def test_of_one_value_is_none(self) -> None:
        assert math.isnan(census.relation(np.ones((9, 9, 3))))
        assert column(np.ones((3, 1, 9, 9, 3))).noise == 0

    def test_what_is_no_image_is_not_asked(self) -> None:
        assert column(VECTORS).noise == column(RNG.random((9, 1, 16, 16, 16))).noise == 0

    def test_a_smooth_image_with_some_noise_is_none(self) -> None:
        ramp = np.linspace(0, 1, 32)[:, None, None] * np.ones((32, 32, 3))
        assert column(np.array([[ramp + RNG.normal(0, 0.1, ramp.shape)] for _ in range(9)])).noise == 0

    @pytest.mark.parametrize("role", ["calibration", "evaluation"])
    def test_digits_are_none(self, role: str) -> None:
        data = open_dataset(f"{role}.npz", role, interface("image", (None, 1, 8, 8)), DIGITS)
        assert clean(census.take(data))

    @pytest.mark.parametrize(
        ("file", "key"),
        [
            ("cifar10", "x"),
            ("textline_orientation", "x"),
            ("speech_commands_mfcc", "x"),
            ("speech_commands_mfcc", "x_int8"),
        ],
    )
    def test_real_arrays_are_none(self, file: str, key: str) -> None:
        with np.load(shared(f"data/{file}.npz")) as data:
            for split in ("calib", "test"):
                assert clean(taken(data[f"{split}_{key}"][:, np.newaxis][:300], preprocess={"x": Preprocess()}))

    @pytest.mark.parametrize(
        ("name", "side"), [("vww96", 96), pytest.param("imagenet_samples", 256, marks=pytest.mark.slow)]
    )
    def test_real_images_are_none(self, name: str, side: int) -> None:
        shared(f"data/{name}/labels.csv")
        takes = interface("x", (None, side, side, 3), {"x": Preprocess()})
        for role in ("calibration", "evaluation"):
            assert clean(census.take(open_dataset(f"data/{name}", role, takes, SHARED)))


def clean(found: Census) -> bool:
    return all((each.noise, each.constant, each.dead) == (0, 0, ()) and each.colors for each in found.columns.values())


def interface(name: str, shape: tuple[int | None, ...], preprocess: dict[str, Preprocess] | None = None) -> Interface:
    return Interface((TensorSpec(name, "float32", shape),), (), preprocess or {})
