from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgekit.formats import tflite_file
from edgekit.model import open_model
from edgekit.passes import bias_onnx, bias_tflite
from edgekit.quantization import bias
from tests.lab.models import RESNET8, onnx_model, shared

RNG = np.random.default_rng(0)


def outputs_of(document: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(document.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def with_rounded(document: onnx.ModelProto, name: str, axis: int) -> onnx.ModelProto:
    """The model with the weights of that name as int8 has them."""
    result = onnx.ModelProto()
    result.CopyFrom(document)
    (tensor,) = [each for each in result.graph.initializer if each.name == name]
    weights = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((weights - bias.rounding(weights, axis)).astype(np.float32), name))
    return result


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
def test_the_shift_is_what_the_mean_input_loses(groups: int, outputs: int, inputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lost, mean = rng.normal(size=(groups * outputs, inputs)), rng.normal(size=groups * inputs)
    found = bias.shift(lost, mean)
    assert found is not None
    for output in range(groups * outputs):
        group = output // outputs
        assert found[output] == pytest.approx(
            float(lost[output] @ mean[group * inputs : (group + 1) * inputs]), abs=1e-4
        )


def test_sizes_that_do_not_fit_have_no_shift() -> None:
    assert bias.shift(np.ones((4, 3)), np.ones(4)) is None
    assert bias.shift(np.ones((3, 2)), np.ones(4)) is None


def test_rounding_is_at_most_half_a_step_of_each_channel() -> None:
    weights = RNG.normal(size=(5, 7, 3, 3)) * np.array([1, 10, 100, 0.1, 0]).reshape(-1, 1, 1, 1)
    lost = np.abs(bias.rounding(weights, 0)).max(axis=(1, 2, 3))
    assert (lost <= np.abs(weights).max(axis=(1, 2, 3)) / 127 / 2 + 1e-12).all()


class TestOnnx:
    @pytest.mark.parametrize("kind", ["Conv", "grouped", "no bias", "Gemm", "turned", "MatMul"])
    def test_the_mean_output_is_that_of_the_float_weights(self, tmp_path: Path, kind: str) -> None:
        """The inputs are far from zero in the mean, where rounding shows most."""
        if kind in ("Gemm", "turned", "MatMul"):
            x = (RNG.normal(size=(64, 12)) + 3).astype(np.float32)
            weights = RNG.normal(size=(5, 12) if kind == "turned" else (12, 5)).astype(np.float32)
            parts = {"w": weights, "b": RNG.normal(size=5).astype(np.float32)}
            if kind == "MatMul":
                nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
            else:
                nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=int(kind == "turned"))]
            path = onnx_model(tmp_path / "m.onnx", nodes, {"x": ["N", 12]}, {"y": ["N", 5]}, parts)
            mean, axis = x.mean(0), 0 if kind == "turned" else 1
        else:
            x = (RNG.normal(size=(64, 4, 6, 6)) + 3).astype(np.float32)
            groups = 2 if kind == "grouped" else 1
            parts = {"w": RNG.normal(size=(6, 4 // groups, 1, 1)).astype(np.float32)}
            parts |= {} if kind == "no bias" else {"b": RNG.normal(size=6).astype(np.float32)}
            nodes = [helper.make_node("Conv", ["x", *parts], ["y"], group=groups)]
            path = onnx_model(tmp_path / "m.onnx", nodes, {"x": ["N", 4, 6, 6]}, {"y": ["N", 6, 6, 6]}, parts)
            mean, axis = x.mean((0, 2, 3)), 0
        document = onnx.load(path)
        before, rounded = outputs_of(document, x), outputs_of(with_rounded(document, "w", axis), x)
        bias_onnx.correct(document, lambda name, axis: mean if name == "x" else None, frozenset())
        onnx.checker.check_model(document)
        after = outputs_of(with_rounded(document, "w", axis), x)
        axes = (0, *range(2, before.ndim))
        wrong, left = (np.abs((each - before).mean(axis=axes)).max() for each in (rounded, after))
        assert wrong > 0.005
        assert left < wrong / 100

    def test_what_stays_in_float_is_left_alone_and_nothing_is_left_over(self, tmp_path: Path) -> None:
        parts = {"w": RNG.normal(size=(6, 4, 1, 1)).astype(np.float32), "b": np.zeros(6, np.float32)}
        node = helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv")
        path = onnx_model(tmp_path / "m.onnx", [node], {"x": ["N", 4, 6, 6]}, {"y": ["N", 6, 6, 6]}, parts)
        for kept, names in ((frozenset({"conv"}), {"w", "b"}), (frozenset[str](), {"w", "y_corrected"})):
            document = onnx.load(path)
            bias_onnx.correct(document, lambda name, axis: np.ones(4), kept)
            assert {tensor.name for tensor in document.graph.initializer} == names


class TestTflite:
    def test_biases_change_in_place_and_only_of_what_is_quantized(self) -> None:
        model = tflite_file.with_signature(shared(RESNET8.model).read_bytes())

        def ones(name: str, axis: int) -> np.ndarray | None:
            return np.ones(3) if name in given else None

        given = {spec.inner for spec in open_model(shared(RESNET8.model)).inputs}
        corrected = bias_tflite.correct(model, ones, frozenset())
        assert abs(len(corrected) - len(model)) < 256
        before, after = (tflite_file.unpacked(each) for each in (model, corrected))
        changed = [
            index
            for index, (one, other) in enumerate(zip(before.buffers, after.buffers, strict=True))
            if one.data is not None and bytes(one.data) != bytes(other.data)
        ]
        assert len(changed) == 1
        first = before.subgraphs[0].tensors[before.subgraphs[0].operators[0].outputs[0]].name.decode()
        assert bias_tflite.correct(model, ones, frozenset({first})) == tflite_file.packed(before)
