from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data import census
from edgekit.data.census import Census
from edgekit.data.dataset import Sample, open_dataset
from edgekit.data.suspicion import check_apart, suspicions
from edgekit.errors import DataError
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec
from tests.lab.models import DIGITS, shared

RNG = np.random.default_rng(0)
FOUND = (
    "evaluation data: 12 of 40 different samples are in the calibration data, too (from 0: 0, 1, 2, 3, 4, 5, 6, 7, …)"
)
NORMAL = Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def photos(count: int, side: int = 12) -> Any:
    """Smooth images of 0..255, [count, 1, side, side, 3] uint8."""
    x = RNG.random((count, 1, side + 8, side + 8, 3))
    for axis in (2, 3):
        x = np.cumsum(x - x.mean(axis, keepdims=True), axis)
    x -= x.min((2, 3, 4), keepdims=True)
    return (255 * x / x.max((2, 3, 4), keepdims=True))[:, :, 8:, 8:].astype(np.uint8)


PHOTOS, OTHERS = photos(40), photos(40)


def of(
    values: Any, role: str = "calibration", name: str = "", preprocess: dict[str, Preprocess] | None = None
) -> Census:
    return census.of_samples(name or role, role, [Sample({"x": x}) for x in values], preprocess or {})


def told(calibration: Any, evaluation: Any, **preprocess: Preprocess) -> tuple[str, ...]:
    one, other = of(calibration, preprocess=preprocess), of(evaluation, "evaluation", preprocess=preprocess)
    return suspicions(one, other, preprocess)


class TestApart:
    def test_different_samples_are(self) -> None:
        check_apart(of(PHOTOS), of(OTHERS, "evaluation"))

    def test_any_sample_in_both_is_refused_and_named(self) -> None:
        with pytest.raises(DataError) as caught:
            check_apart(of(PHOTOS), of([*PHOTOS[:12], *OTHERS[12:]], "evaluation"))
        assert caught.value.message == FOUND
        assert str(caught.value.hint).startswith("take them out of one of the two")
        with pytest.raises(DataError, match="1 of 40 different samples .* \\(from 0: 39\\)"):
            check_apart(of(PHOTOS), of([*OTHERS[:39], PHOTOS[3]], "evaluation"))

    def test_the_same_file_for_both_is_refused_with_how_to_split_it(self) -> None:
        interface = Interface((TensorSpec("image", "float32", (None, 1, 8, 8)),), ())
        sets = [open_dataset("evaluation.npz", role, interface, DIGITS) for role in ("calibration", "evaluation")]
        with pytest.raises(DataError) as caught:
            check_apart(*map(census.take, sets))
        assert "400 of 400 different samples" in str(caught.value)
        assert "column split (calibration, evaluation) in labels.csv" in str(caught.value)

    def test_one_folder_that_is_split_is_two_sets(self) -> None:
        folder = shared("data/vww96")
        interface = Interface((TensorSpec("x", "float32", (None, 96, 96, 3)),), (), {"x": Preprocess()})
        one, other = (
            census.take(open_dataset(str(folder), r, interface, Path())) for r in ("calibration", "evaluation")
        )
        assert (one.samples, other.samples) == (20, 80)
        check_apart(one, other)

    def test_blank_and_tiny_samples_may_be_in_both(self) -> None:
        blank = np.zeros((1, 12, 12, 3), np.uint8)
        check_apart(of([blank, *PHOTOS]), of([blank, *OTHERS], "evaluation"))
        check_apart(of(np.ones((4, 1, 3))), of(np.ones((4, 1, 3)), "evaluation"))


class TestAlone:
    def test_nothing_is_told_of_good_images(self) -> None:
        assert told(PHOTOS, OTHERS) == told(PHOTOS, OTHERS, x=NORMAL) == told(PHOTOS / 255, OTHERS / 255) == ()

    def test_random_noise(self) -> None:
        noise = RNG.integers(0, 256, PHOTOS.shape, np.uint8)
        (line,) = told(noise, OTHERS)
        assert line.startswith("calibration data: input 'x': random noise? neighbouring pixels are unrelated in ")
        assert line.endswith("of 40 images: give real samples, like those the device will see")
        assert len(told([*noise[:8], *PHOTOS[8:]], OTHERS)) == 1
        assert told([*noise[:1], *PHOTOS[1:]], OTHERS) == ()

    def test_repeated_samples(self) -> None:
        (line,) = told(PHOTOS, [*OTHERS[:20], *OTHERS[:20]])
        assert line == "evaluation data: 20 of 40 samples repeat others: give as many different ones"
        assert told(PHOTOS, [*OTHERS, *OTHERS[:2]]) == ()

    def test_blank_samples(self) -> None:
        (line,) = told([*PHOTOS[:30], *np.zeros_like(PHOTOS[:10])], OTHERS)
        assert line == "calibration data: input 'x': 10 of 40 samples have one value all over: give real samples"
        assert "40 of 40 samples have one value" in told(np.zeros((40, 1, 20), np.float32), np.ones((40, 1, 20)))[0]

    def test_a_mask_of_ones_is_a_mask(self) -> None:
        ones = np.ones((9, 1, 128), np.int64)
        assert told(ones, ones) == ()

    def test_a_colour_that_was_not_read(self) -> None:
        broken = PHOTOS.copy()
        broken[..., 2] = 0
        (line,) = told(broken, OTHERS)
        assert "colour 2 of 3 is the same in all pixels of all samples: are all colours read?" in line
        opaque = [np.concatenate([x, np.full_like(x[..., :1], 255)], -1) for x in PHOTOS]
        assert told(opaque, opaque) == ()

    def test_images_of_unit_values_that_were_cast(self) -> None:
        (line,) = told((PHOTOS / 255).round().astype(np.uint8), OTHERS, x=Preprocess(scale=1 / 255))[:1]
        assert "only 0 and 1 occur: were images of 0..1 cast to uint8?" in line

    def test_scaled_twice(self) -> None:
        unit = (PHOTOS / 255).astype(np.float32)
        line, _ = told(unit, unit[::-1], x=Preprocess(scale=1 / 255, dtype="float32"))
        assert (
            "values 0 to 1, 0 to 0.003922 after preprocessing: scaled twice? correct scale under [preprocess.x]" in line
        )

    def test_a_mean_of_the_unit_scale_on_bytes(self) -> None:
        line, _ = told(PHOTOS, OTHERS, x=Preprocess(mean=NORMAL.mean, std=NORMAL.std))
        assert "values 0 to 255, -2.118 to 1136 after preprocessing: scale = 0.00392156862745098 under" in line


class TestBeside:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                lambda x: x / 255,
                "values 0 to 1 in calibration, values 0 to 255 in evaluation data: is one of the two scaled",
            ),
            (
                lambda x: x / 127.5 - 1,
                "values -1 to 1 in calibration, values 0 to 255 in evaluation data: is one of the two",
            ),
        ],
    )
    def test_one_of_another_scale(self, change: Callable[[Any], Any], said: str) -> None:
        (line,) = told(change(PHOTOS).astype(np.float32), OTHERS.astype(np.float32))
        assert said in line
        assert "give both as `predict` takes them" in line
        assert len(told(OTHERS.astype(np.float32), change(PHOTOS).astype(np.float32))) == 1

    def test_one_of_another_normalization(self) -> None:
        (line,) = told(PHOTOS / 255, OTHERS / 127.5 - 1)
        assert "values 0 to 1 in calibration, values -1 to 1 in evaluation data: is one of the two normalized" in line

    def test_two_of_another_brightness_are_no_matter(self) -> None:
        assert told(PHOTOS // 4, OTHERS) == ()
