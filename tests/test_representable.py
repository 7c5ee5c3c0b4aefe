"""What a quantized model's own integers can tell, read from real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.building import representable
from edgekit.building.representable import Held
from edgekit.model import open_model
from tests.lab.bundles import contents
from tests.lab.models import DIGITS, RESNET8, RESNET8_INT8, shared


def test_of_onnx_it_is_what_its_first_and_last_integers_hold(tmp_path: Path) -> None:
    (tmp_path / "digits.onnx").write_bytes(contents().model)
    model = open_model(tmp_path / "digits.onnx")
    image, logits = representable.inputs(model)["image"], representable.outputs(model)["logits"]
    assert (image.low, image.high) == pytest.approx((0, 1), abs=1e-3)
    assert logits.high - logits.low == pytest.approx(255 * logits.step, rel=1e-6)
    assert not logits.bounded


@pytest.mark.parametrize("file", [str(DIGITS / "digits.onnx"), RESNET8.model, RESNET8_INT8.model])
def test_of_float_and_of_integers_all_through_there_is_none(file: str) -> None:
    model = open_model(Path(file) if Path(file).is_absolute() else shared(file))
    assert (representable.inputs(model), representable.outputs(model)) == ({}, {})


@pytest.mark.parametrize(
    ("low", "high", "bounded"), [(0.0, 255 / 256, True), (-1.0, 127 / 128, True), (-3.0, 5.0, False), (0.0, 6.0, False)]
)
def test_ends_that_are_reached_by_right(low: float, high: float, *, bounded: bool) -> None:
    assert Held(low, high, (high - low) / 255).bounded is bounded


def test_numpy_has_the_same_limits() -> None:
    for limits, kind in zip(representable.LIMITS.values(), (np.int8, np.uint8, np.int16), strict=True):
        assert limits.tolist() == [np.iinfo(kind).min, np.iinfo(kind).max]
