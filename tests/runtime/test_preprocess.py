"""Preprocessing against a plain reading of its definition, pixel by pixel, and against cases worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.typing import NDArray

from edgekit_runtime import preprocess
from edgekit_runtime.errors import InvalidInput
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec

SIDES = st.integers(1, 9)
IMAGES = st.tuples(SIDES, SIDES, st.sampled_from([1, 3])).flatmap(lambda shape: nps.arrays(np.uint8, shape))


def pixel(image: NDArray[Any], y: float, x: float) -> NDArray[np.float64]:
    """The image between its pixels; beyond the edges it goes on as it ends."""
    height, width = image.shape[:2]
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    rows = [
        image[row, left].astype(float) * (1 - (x - left)) + image[row, right].astype(float) * (x - left)
        for row in (top, bottom)
    ]
    result: NDArray[np.float64] = rows[0] * (1 - (y - top)) + rows[1] * (y - top)
    return result


def resized(image: NDArray[Any], height: int, width: int) -> NDArray[np.float64]:
    down, across = image.shape[0] / height, image.shape[1] / width
    rows = [
        [pixel(image, (y + 0.5) * down - 0.5, (x + 0.5) * across - 0.5) for x in range(width)] for y in range(height)
    ]
    return np.array(rows)


def apply(image: NDArray[Any], **step: Any) -> NDArray[Any]:
    return Preprocess(**step).apply(image, "float32")


class TestResize:
    @settings(deadline=None)
    @given(IMAGES, SIDES, SIDES)
    def test_every_pixel_is_what_the_definition_says(self, image: NDArray[Any], height: int, width: int) -> None:
        np.testing.assert_allclose(apply(image, resize=(height, width)), resized(image, height, width), atol=1e-3)

    @pytest.mark.parametrize(
        ("row", "width", "want"),
        [
            ([0, 100], 4, [0, 25, 75, 100]),
            ([0, 100], 3, [0, 50, 100]),
            ([0, 30, 60, 90], 2, [15, 75]),
            ([0, 10, 20, 30, 40, 50], 2, [10, 40]),  # without antialiasing: single pixels of the source
            ([0, 100, 50], 3, [0, 100, 50]),
            ([7], 3, [7, 7, 7]),
        ],
    )
    def test_cases_worked_out_by_hand(self, row: list[int], width: int, want: list[float]) -> None:
        """The rule of OpenCV's INTER_LINEAR: sample i lies at (i + 0.5) * have / want - 0.5."""
        image = np.array(row, np.uint8).reshape(1, -1, 1)
        np.testing.assert_allclose(apply(image, resize=(1, width)).ravel(), want, atol=1e-4)
        upright = image.transpose(1, 0, 2)
        np.testing.assert_allclose(apply(upright, resize=(width, 1)).ravel(), want, atol=1e-4)

    @pytest.mark.parametrize(
        ("shape", "side", "want"),
        [
            ((10, 20), 5, (5, 10)),
            ((20, 10), 5, (10, 5)),
            ((7, 7), 7, (7, 7)),
            ((100, 3), 3, (100, 3)),
            ((3, 10), 5, (5, 17)),
        ],
    )
    def test_one_number_is_the_short_side(self, shape: tuple[int, int], side: int, want: tuple[int, int]) -> None:
        assert apply(np.zeros((*shape, 3), np.uint8), resize=(side,)).shape == (*want, 3)

    @given(IMAGES)
    def test_the_size_that_it_has_changes_nothing(self, image: NDArray[Any]) -> None:
        np.testing.assert_array_equal(apply(image, resize=image.shape[:2]), image)

    @pytest.mark.parametrize("block", [1, 5000, 1 << 30])
    @pytest.mark.parametrize("shape", [(90, 70, 3), (2, 90, 70, 3), (3, 2, 9, 7, 1)])
    def test_blocks_of_rows_give_what_the_whole_gives(
        self, monkeypatch: pytest.MonkeyPatch, block: int, shape: tuple[int, ...]
    ) -> None:
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        want = preprocess._resize(images, (33, 101))
        monkeypatch.setattr(preprocess, "BLOCK_BYTES", block)
        np.testing.assert_array_equal(preprocess._resize(images, (33, 101)), want)


class TestTheOtherSteps:
    IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)

    def test_the_crop_is_the_centre(self) -> None:
        np.testing.assert_array_equal(apply(self.IMAGE, crop=(2, 4)), self.IMAGE[1:3, 1:5])
        np.testing.assert_array_equal(apply(self.IMAGE, crop=(3, 3)), self.IMAGE[0:3, 1:4])

    def test_a_crop_larger_than_the_image_is_refused(self) -> None:
        for crop in ((5, 6), (4, 7)):
            with pytest.raises(InvalidInput, match=rf"an image of 4×6 is smaller than the crop {crop[0]}×{crop[1]}"):
                apply(self.IMAGE, crop=crop)

    def test_bgr_turns_the_colours_round(self) -> None:
        np.testing.assert_array_equal(
            apply(self.IMAGE, color="bgr"), np.stack([self.IMAGE[..., i] for i in (2, 1, 0)], -1)
        )

    def test_mean_and_std_are_of_the_turned_colours(self) -> None:
        mean, std = (1.0, 2.0, 3.0), (2.0, 4.0, 8.0)
        got = apply(self.IMAGE, color="bgr", scale=0.5, mean=mean, std=std)
        for i, channel in enumerate((2, 1, 0)):
            np.testing.assert_allclose(got[..., i], (self.IMAGE[..., channel] * 0.5 - mean[i]) / std[i], rtol=1e-6)

    def test_one_mean_is_for_all_colours(self) -> None:
        np.testing.assert_allclose(apply(self.IMAGE, mean=(127.5,), std=(127.5,)), self.IMAGE / 127.5 - 1, atol=1e-6)

    def test_nchw_puts_the_colours_first(self) -> None:
        np.testing.assert_array_equal(apply(self.IMAGE, layout="NCHW"), np.moveaxis(self.IMAGE, 2, 0))
        assert apply(self.IMAGE[None], layout="NCHW").shape == (1, 3, 4, 6)

    def test_the_model_s_dtype_is_rounded_and_held_within_its_range(self) -> None:
        raw = np.array([-3e9, -129.0, -0.6, 0.5, 1.5, 127.4, 128.0, 300.0], np.float32).reshape(1, 1, 8)
        step = Preprocess(dtype="float32")
        assert step.apply(raw, "int8").ravel().tolist() == [-128, -128, -1, 0, 2, 127, 127, 127]
        assert step.apply(raw, "uint8").ravel().tolist() == [0, 0, 0, 0, 2, 127, 128, 255]
        assert step.apply(raw[..., 1:], "int32").ravel().tolist() == [-129, -1, 0, 2, 127, 128, 300]
        assert step.apply(raw[..., 1:], "float16").dtype == np.float16

    def test_int8_models_get_their_bytes_exactly(self) -> None:
        every = np.arange(256, dtype=np.uint8).reshape(1, 256, 1)
        got = Preprocess(mean=(128.0,)).apply(every, "int8")
        assert (got.dtype, got.ravel().tolist()) == (np.int8, list(range(-128, 128)))

    def test_the_result_lies_in_one_piece(self) -> None:
        for step in ({"layout": "NCHW"}, {"color": "bgr"}, {"crop": (2, 2)}):
            assert apply(self.IMAGE, **step).flags.c_contiguous

    def test_the_input_is_left_as_it_was(self) -> None:
        image = self.IMAGE.astype(np.float32)
        before = image.copy()
        apply(image, resize=(4, 6), scale=2.0, mean=(1.0,), dtype="float32")
        np.testing.assert_array_equal(image, before)


STEP = Preprocess((6,), (4, 5), "bgr", 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "NCHW")
SPEC = TensorSpec("image", "float32", (None, 3, 4, 5), "serving:0")
INTERFACE = Interface((SPEC,), (), {"image": STEP})


class TestInTheInterface:
    """What ``predict`` takes where preprocessing is declared."""

    @settings(deadline=None)
    @given(nps.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(6, 12), st.integers(6, 12), st.just(3))))
    def test_the_whole_way_of_a_batch(self, images: NDArray[Any]) -> None:
        got = INTERFACE.feeds(images)["serving:0"]
        assert (got.dtype, got.shape) == (np.float32, (len(images), 3, 4, 5))
        for image, have in zip(images, got, strict=True):
            ratio = 6 / min(image.shape[:2])
            height, width = (max(6, round(side * ratio)) for side in image.shape[:2])
            x = resized(image, height, width)[(height - 4) // 2 :, (width - 5) // 2 :][:4, :5, ::-1] / 255
            want = (x - np.array(STEP.mean)) / np.array(STEP.std)
            np.testing.assert_allclose(have, want.transpose(2, 0, 1), atol=1e-4)

    def test_an_image_may_come_alone(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
        alone, batch = (INTERFACE.feeds(x)["serving:0"] for x in (image, image[None]))
        np.testing.assert_array_equal(alone, batch)

    def test_it_says_what_it_accepts(self) -> None:
        assert str(INTERFACE.accepts["image"]) == "image: uint8 [N, N, N, 3]"
        plain = Interface((SPEC,), (), {"image": Preprocess(layout="NCHW")})
        assert str(plain.accepts["image"]) == "image: uint8 [N, 4, 5, 3]"

    @pytest.mark.parametrize(
        ("image", "hint"),
        [
            (np.zeros((9, 8, 3), np.float32), ".astype('uint8')"),
            (np.zeros((9, 8), np.uint8), "bring it to"),
            (np.zeros((3, 9, 8), np.uint8), "x.transpose(0, 2, 3, 1)"),
            (np.zeros((0, 8, 3), np.uint8), "bring it to"),
            (np.zeros((9, 0, 3), np.uint8), "bring it to"),
            (np.zeros((0, 9, 8, 3), np.uint8), "bring it to"),
            (np.zeros((9, 8, 4), np.uint8), "bring it to"),
            (np.zeros((5, 5, 3), np.uint8)[:, :1].repeat(9, 1)[:, :, ::-1][..., :2], "bring it to"),
        ],
    )
    def test_what_is_no_image_for_it_is_refused(self, image: NDArray[Any], hint: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            INTERFACE.feeds(image)
        assert hint in (caught.value.hint or "")
