from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from edgekit import target
from edgekit.budget import Budget
from edgekit.build import build
from edgekit.building import workshop
from edgekit.building.order import Order
from edgekit.building.recipe import plan
from edgekit.model import open_model
from edgekit.passes import all_passes
from edgekit.precision import Calibrator, Precision, Quantization
from edgekit.quantization import folding
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec
from tests.lab.models import VWW, onnx_model, shared

UNIT = Preprocess(scale=1 / 255)
CENTRED = Preprocess(mean=(127.5,), std=(127.5,), layout="NCHW", color="bgr")


class TestPixelRange:
    def test_it_is_what_pixels_become(self) -> None:
        assert folding.pixel_range(UNIT) == (0.0, 1.0)
        assert folding.pixel_range(CENTRED) == (-1.0, 1.0)
        assert folding.pixel_range(Preprocess(mean=(5.0, 5.0, 5.0), std=(2.0, 2.0, 2.0))) == (-2.5, 125.0)

    @pytest.mark.parametrize(
        "step",
        [
            Preprocess(mean=(1.0, 2.0, 3.0)),
            Preprocess(std=(1.0, 1.0, 2.0)),
            Preprocess(dtype="float32"),
            Preprocess(mean=(-1.0,)),
            Preprocess(mean=(256.0,)),
            Preprocess(scale=-1.0),
        ],
        ids=["means", "stds", "no pixels", "zero below them", "zero above them", "turned"],
    )
    def test_where_one_scale_does_not_do_there_is_none(self, step: Preprocess) -> None:
        assert folding.pixel_range(step) is None

    @given(st.floats(1e-4, 10), st.floats(0, 1), st.floats(0.1, 300))
    def test_its_steps_are_those_of_pixels(self, scale: float, mean: float, std: float) -> None:
        """What a quantizer makes of the range: (high - low) / 255 is the step, -low / step the zero point."""
        found = folding.pixel_range(Preprocess(scale=scale, mean=(mean * 255 * scale,), std=(std,)))
        assert found is not None
        step = (found[1] - found[0]) / 255
        assert step == pytest.approx(scale / std)
        assert -found[0] / step == pytest.approx(mean * 255, abs=1e-6)


IMAGENET = Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SCALES = st.floats(1.0, 1.9)


class TestEvened:
    @given(st.floats(1e-3, 2), st.tuples(*[st.floats(60, 190)] * 3), st.tuples(SCALES, SCALES, SCALES))
    def test_with_the_rest_it_does_what_was_declared(
        self, scale: float, pixels: tuple[float, ...], stds: tuple[float, ...]
    ) -> None:
        step = Preprocess(scale=scale, mean=tuple(scale * each for each in pixels), std=tuple(100 * s for s in stds))
        even = folding.evened(step)
        if even is None:
            assert folding.pixel_range(step)
            return
        rest = folding.rest(step, even)
        p = np.arange(256)[:, None] * scale
        wanted = (p - np.array(step.mean)) / np.array(step.std)
        assert rest.factor * (p - even.mean[0]) / even.std[0] + rest.offset == pytest.approx(wanted, abs=1e-9)

    def test_its_zero_is_a_pixel_between_the_means(self) -> None:
        even = folding.evened(IMAGENET)
        assert even is not None
        assert even == replace(IMAGENET, mean=even.mean, std=even.std)
        assert even.mean[0] * 255 == pytest.approx(114)
        assert np.abs(folding.rest(IMAGENET, even).offset).max() < 0.2

    @pytest.mark.parametrize(
        "step",
        [
            UNIT,
            Preprocess(scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
            replace(IMAGENET, std=(0.1, 0.3, 0.2)),
            replace(IMAGENET, std=(-0.2, 0.2, 0.2)),
            replace(IMAGENET, mean=(2.0, 2.1, 2.2)),
            replace(IMAGENET, scale=-1.0),
            replace(IMAGENET, dtype="float32"),
        ],
        ids=["one for all", "thrice the same", "far apart", "turned", "no pixel's", "negative", "no pixels"],
    )
    def test_others_have_none(self, step: Preprocess) -> None:
        assert folding.evened(step) is None

    def test_only_a_folded_model_gets_it(self) -> None:
        declared = {"x": IMAGENET, "y": UNIT}
        assert folding.steps(declared, ("clean-onnx",)) == declared
        assert folding.steps(declared, (folding.COLOURS,)) == {"x": folding.evened(IMAGENET), "y": UNIT}


def test_weights_that_do_not_fit_the_colours_take_nothing_up() -> None:
    rest = folding.Rest(np.ones(3), np.ones(3))
    assert folding.into(np.ones((4, 2, 3, 3)), rest) is None
    assert folding.into(np.ones((4, 4, 3, 3)), rest) is None


class TestLeft:
    def test_pixels_are_left_as_they_are_but_resized_cropped_and_turned(self) -> None:
        step = Preprocess(resize=(8, 8), crop=(4, 4), color="bgr", mean=(127.5,), std=(127.5,), layout="NCHW")
        left = folding.left({"x": step}, [TensorSpec("x", "uint8", (1, 3, 4, 4))])["x"]
        assert left == Preprocess(resize=(8, 8), crop=(4, 4), color="bgr", layout="NCHW")
        image = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
        assert (
            folding.left({"x": CENTRED}, [TensorSpec("x", "uint8", (1, 3, 4, 4))])["x"].apply(image, "uint8")
            == np.moveaxis(image[..., ::-1], -1, -3)
        ).all()

    def test_signed_pixels_are_128_less(self) -> None:
        left = folding.left({"x": UNIT}, [TensorSpec("x", "int8", (1, 2, 2, 1))])["x"]
        image = np.array([0, 1, 127, 128, 255], np.uint8).reshape(1, 1, 5, 1)
        assert left.apply(image, "int8").ravel().tolist() == [-128, -127, -1, 0, 127]

    def test_a_float_model_gets_all_of_it(self) -> None:
        assert folding.left({"x": UNIT}, [TensorSpec("x", "float32", (1, 2, 2, 1))]) == {"x": UNIT}


@pytest.fixture
def images(tmp_path: Path) -> Order:
    """An ONNX model of images between -1 and 1, and pixels for it."""
    rng = np.random.default_rng(3)
    weights = {"w": rng.normal(size=(8, 3, 3, 3)).astype(np.float32), "v": rng.normal(size=(8, 4)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["scores"]),
    ]
    onnx_model(tmp_path / "m.onnx", nodes, {"x": ["N", 3, 8, 8]}, {"scores": ["N", 4]}, weights)
    for name in ("calibration", "evaluation"):
        np.savez(tmp_path / f"{name}.npz", x=rng.integers(0, 256, (48, 8, 8, 3), np.uint8))
    return Order(
        "app", "1", "calibration.npz", "evaluation.npz", tmp_path, 1, Budget(None, 0.5), preprocess={"x": CENTRED}
    )


class TestOnnx:
    def made(
        self, order: Order, name: str, precision: Precision, calibrator: Calibrator = Calibrator.MINMAX
    ) -> onnx.ModelProto:
        source, profile = open_model(order.base / "m.onnx"), target.load(name)
        (recipe,) = [r for r in plan(source, profile, (precision,), all_passes()) if r.precision is precision]
        (order.base / name).mkdir()
        made = workshop.Workshop(profile, order, order.base / name)
        return onnx.load(made.variant(source, recipe, Quantization(precision, calibrator)).model.path)

    def test_int8_takes_pixels_and_quantizes_nothing_before_its_first_layer(self, images: Order) -> None:
        model = self.made(images, "pi", Precision.INT8)
        (given,) = model.graph.input
        assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        reader = next(node for node in model.graph.node if "x" in node.input)
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        assert reader.op_type == "DequantizeLinear"
        assert (constants[reader.input[1]], constants[reader.input[2]]) == (pytest.approx(1 / 127.5), 128)

    def test_tensorrt_and_float_take_what_they_took(self, images: Order) -> None:
        for name, precision in (("jetson", Precision.INT8), ("generic-aarch64", Precision.FLOAT16)):
            (given,) = self.made(images, name, precision).graph.input
            assert given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT

    def test_pixels_may_be_transposed_first(self, images: Order) -> None:
        """As models from TensorFlow are. Their range is that of pixels there too, whatever the calibrator."""
        model = onnx.load(images.base / "m.onnx")
        model.graph.node[0].input[0] = "t"
        model.graph.node.insert(0, helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]))
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 8, 8, 3]))
        onnx.save(model, images.base / "m.onnx")
        order = replace(images, preprocess={"x": replace(CENTRED, layout="NHWC")})
        made = self.made(order, "pi", Precision.INT8, Calibrator.PERCENTILE)
        assert made.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
        reader = next(node for node in made.graph.node if "t" in node.input)
        assert (constants[reader.input[1]], constants[reader.input[2]]) == (pytest.approx(1 / 127.5), 128)
        onnx.checker.check_model(made, full_check=True)

    def test_the_caller_feeds_the_same_and_gets_the_same(self, images: Order) -> None:
        outcome = build(open_model(images.base / "m.onnx"), target.load("pi"), images, lambda line: None)
        int8 = next(each for each in outcome.measured if each.name == "onnx-int8")
        assert int8.agreement > 0.9
        assert outcome.contents is not None
        interface = outcome.contents.manifest.interface
        assert (interface.accepts["x"].dtype, interface.accepts["x"].shape) == ("uint8", (None, 8, 8, 3))
        assert interface.inputs[0].dtype == "uint8"


@pytest.mark.slow
def test_tflite_takes_signed_pixels(tmp_path: Path) -> None:
    order = VWW.order(tmp_path, precisions=(Precision.INT8,), budget=Budget(0.05, 0.9))
    outcome = build(open_model(shared(VWW.model)), target.load("pi"), order, lambda line: None)
    assert outcome.contents is not None
    assert outcome.contents.manifest.interface.inputs[0].dtype == "int8"
    assert outcome.measured[1].agreement > 0.95
