from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekit.data import census
from edgekit.data.alternatives import Alternative, alternatives
from edgekit.data.dataset import Sample
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (4, 1, 16, 12, 3), np.uint8)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CAFFE = np.array([103.939, 116.779, 123.68])
WANTED: dict[str, Callable[[Any], Any]] = {
    "values 0..255": lambda x: x,
    "values 0..1": lambda x: x / 255,
    "values -1..1": lambda x: x / 127.5 - 1,
    "ImageNet's mean and deviation": lambda x: (x / 255 - MEAN) / STD,
    "values 0..255 and swapped colours": lambda x: x[..., ::-1],
    "values 0..1 and swapped colours": lambda x: x[..., ::-1] / 255,
    "values -1..1 and swapped colours": lambda x: x[..., ::-1] / 127.5 - 1,
    "ImageNet's mean and deviation and swapped colours": lambda x: (x[..., ::-1] / 255 - MEAN) / STD,
    "Caffe's mean and swapped colours": lambda x: x[..., ::-1] - CAFFE,
}
"""What each alternative gives a model, from pixels of 0..255."""


def found(
    raw: Any, layout: str = "NHWC", dtype: str = "float32", step: Preprocess | None = None
) -> tuple[Alternative, ...]:
    shape = (None, 3, 16, 12) if layout == "NCHW" else (None, 16, 12, 3)
    interface = Interface((TensorSpec("x", dtype, shape),), (), {"x": step} if step else {})
    seen = census.of_samples("d", "evaluation", [Sample({"x": x}) for x in raw], interface.preprocess)
    return alternatives(interface, seen.columns)


def of(alternatives: tuple[Alternative, ...], told: str) -> Alternative:
    (one,) = [each for each in alternatives if each.told == told]
    return one


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("raw", ["declared", "bytes", "unit", "symmetric"])
class TestValues:
    def test_each_alternative_gives_what_it_says(self, layout: str, raw: str) -> None:
        """From raw bytes with preprocessing declared, and from floats of three ranges in the model's own layout."""
        step = Preprocess(layout=layout, scale=0.5) if raw == "declared" else None
        floats = {"bytes": lambda x: x, "unit": lambda x: x / 255, "symmetric": lambda x: x / 127.5 - 1}
        given = PIXELS if step else floats[raw](PIXELS.astype(np.float64)).astype(np.float32)
        given = np.moveaxis(given, -1, 2) if layout == "NCHW" and not step else given
        have = found(given, layout, step=step)
        same = {"bytes": "values 0..255", "unit": "values 0..1", "symmetric": "values -1..1"}.get(raw)
        for told, change in WANTED.items():
            if told == same:
                continue
            way = of(have, told)
            assert way.feed
            want = change(PIXELS[0].astype(np.float64))
            want = np.moveaxis(want, -1, 1) if layout == "NCHW" else want
            got = way.feed(given[0])
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_what_is_done_already_is_no_alternative(color: str) -> None:
    told = {each.told for each in found(PIXELS, step=Preprocess(scale=1 / 255, color=color))}
    assert "values 0..1" not in told
    assert {"swapped colours", "values 0..255", "values 0..255 and swapped colours"} < told


class TestRemedy:
    def test_is_what_changes_in_the_table(self) -> None:
        have = found(PIXELS, step=Preprocess(scale=1 / 255))
        assert of(have, "values 0..255").remedy == "scale = 1.0 under [preprocess.x]"
        assert of(have, "swapped colours").remedy == 'color = "bgr" under [preprocess.x]'
        told = "ImageNet's mean and deviation"
        assert of(have, told).remedy == "mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] under [preprocess.x]"

    def test_is_a_new_table_where_there_is_none(self) -> None:
        have = found(PIXELS.astype(np.float32))
        unit = 'scale = 0.00392156862745098, dtype = "float32" under [preprocess.x]'
        assert of(have, "values 0..1").remedy == unit
        swapped = 'color = "bgr", layout = "NCHW", dtype = "float32" under [preprocess.x]'
        have = found(np.moveaxis(PIXELS, -1, 2).astype(np.float32), "NCHW")
        assert of(have, "swapped colours").remedy == f"{swapped} and height × width × colour images"

    @pytest.mark.parametrize("told", WANTED)
    @pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
    def test_does_what_was_tried(self, told: str, layout: str) -> None:
        """The remedy, read as TOML over the declared table, makes the tensor that the alternative made."""
        base = Preprocess(scale=0.5, layout=layout)
        way = of(found(PIXELS, layout, step=base), told)
        lines = re.sub(r", (?=[a-z]+ =)", "\n", way.remedy.removesuffix(" under [preprocess.x]"))
        changed = Preprocess.of({**base.as_dict(), **tomllib.loads(lines)})
        assert way.feed
        np.testing.assert_array_equal(way.feed(PIXELS[0]), changed.apply(PIXELS[0], "float32"))


class TestAxes:
    def test_images_on_their_side(self) -> None:
        square = PIXELS[:, :, :12].astype(np.float32)
        way = of(found(square), "images on their side")
        assert way.feed and (way.feed(square[0]) == square[0].swapaxes(1, 2)).all()
        first = np.moveaxis(square, -1, 2)
        interface = Interface((TensorSpec("x", "float32", (None, 3, 12, 12)),), ())
        seen = census.of_samples("d", "evaluation", [Sample({"x": x}) for x in first], {})
        way = of(alternatives(interface, seen.columns), "images on their side")
        assert way.feed and (way.feed(first[0]) == first[0].swapaxes(2, 3)).all()

    def test_a_reshape_that_should_have_been_a_transpose(self) -> None:
        last, first = PIXELS.astype(np.float32), np.moveaxis(PIXELS, -1, 2).astype(np.float32)
        way = of(found(last.reshape(4, 1, 3, 16, 12), "NCHW"), "a wrong reshape")
        assert way.feed and (way.feed(last[0].reshape(1, 3, 16, 12)) == first[0]).all()
        way = of(found(first.reshape(4, 1, 16, 12, 3)), "a wrong reshape")
        assert way.feed and (way.feed(first[0].reshape(1, 16, 12, 3)) == last[0]).all()


class TestNone:
    def told(self, shape: tuple[int, ...], values: Any, dtype: str = "float32") -> set[str]:
        interface = Interface((TensorSpec("x", dtype, (None, *shape[1:])),), ())
        seen = census.of_samples("d", "evaluation", [Sample({"x": x}) for x in values], {})
        return {each.told for each in alternatives(interface, seen.columns)}

    def test_but_labels_for_what_is_no_image(self) -> None:
        for shape in ((1, 20), (1, 5, 5, 3), (1, 16, 16, 16)):
            assert self.told(shape, RNG.random((3, *shape), np.float32)) == {"the labels count from another class on"}

    def test_of_values_for_features_that_are_no_pixels(self) -> None:
        told = self.told((1, 49, 10, 1), RNG.normal(0, 50, (3, 1, 49, 10, 1)).astype(np.float32))
        assert not any("values" in each or "colours" in each for each in told)

    def test_of_colours_for_grey_images(self) -> None:
        told = self.told((1, 1, 8, 8), RNG.random((3, 1, 1, 8, 8), np.float32))
        assert "values 0..255" in told and "swapped colours" not in told

    def test_of_other_ranges_for_a_quantized_model(self) -> None:
        assert "values 0..1" not in {each.told for each in found(PIXELS, dtype="uint8")}
        told = {each.told for each in found(PIXELS, dtype="int8", step=Preprocess())}
        assert "values -128..127" in told and "values 0..1" not in told
