from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.building.order import Order
from edgekit.errors import ConversionError
from edgekit.model import Model, open_model
from edgekit.passes import Context, fit_onnx, proof
from edgekit_runtime.tensors import TensorSpec
from tests.lab.models import DIGITS, context, dense, digits_order, onnx_model, outputs_of, samples, tflite_model

X = np.random.default_rng(0).random((1, 8), np.float32)


def prepared(folder: Path, **sizes: tuple[int, ...]) -> Context:
    """What the pass is given for a Raspberry Pi: opset 17, IR version 8."""
    data = samples(folder / "data.npz", **(sizes or {"x": (8,)}))
    (folder / "work").mkdir(exist_ok=True)
    return context(folder / "work", "pi", Order("app", "", data, data, folder, 1))


def fitted(path: Path, **sizes: tuple[int, ...]) -> Model:
    return fit_onnx.fit(open_model(path), prepared(path.parent, **sizes))


def test_a_model_that_fits_stays_the_file_that_it_is(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    model = open_model(DIGITS / "digits.onnx")
    assert fit_onnx.fit(model, context(tmp_path / "work", "pi", digits_order())) == model
    assert fitted(dense(tmp_path / "m.onnx", opsets=[("", 13)], ir_version=7)).lineage == ()


def test_another_format_is_none_of_its_business(tmp_path: Path) -> None:
    model = open_model(tflite_model(tmp_path / "m.tflite"))
    assert fit_onnx.fit(model, prepared(tmp_path)) == model


def test_weights_beside_the_model_are_taken_in(tmp_path: Path) -> None:
    model = onnx.load(dense(tmp_path / "m.onnx"))
    want = outputs_of(open_model(tmp_path / "m.onnx"), {"x": X})
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    source = open_model(tmp_path / "m.onnx")
    result = fit_onnx.fit(source, prepared(tmp_path))
    (tmp_path / "weights.bin").unlink()
    assert result.lineage == ("fit-onnx",)
    assert result.path != source.path
    assert outputs_of(result, {"x": X})["scores"].tolist() == want["scores"].tolist()


def test_a_newer_opset_is_brought_down_to_the_targets(tmp_path: Path) -> None:
    path = dense(tmp_path / "m.onnx", opsets=[("", 21)], ir_version=10)
    result = fitted(path)
    document = onnx.load(result.path)
    assert ([(each.domain, each.version) for each in document.opset_import], document.ir_version) == ([("", 17)], 8)
    onnx.checker.check_model(document)
    assert [str(spec) for spec in result.inputs] == ["x: float32 [N, 8]"]
    assert np.allclose(outputs_of(result, {"x": X})["scores"], outputs_of(open_model(path), {"x": X})["scores"])


def test_a_newer_ir_version_alone_is_brought_down(tmp_path: Path) -> None:
    document = onnx.load(fitted(dense(tmp_path / "m.onnx", ir_version=10)).path)
    assert (document.ir_version, document.opset_import[0].version) == (8, 17)


def test_what_cannot_be_brought_down_says_which_opset_to_export(tmp_path: Path) -> None:
    node = helper.make_node("Gelu", ["x"], ["y"])  # is of opset 20
    path = onnx_model(tmp_path / "m.onnx", [node], {"x": ["N", 8]}, {"y": ["N", 8]}, opsets=[("", 20)])
    with pytest.raises(
        ConversionError, match=r"m.onnx: is of opset 20, the target takes 17: .* — export it again with"
    ):
        fitted(path)


def test_a_model_of_another_result_than_its_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No wrong conversion of onnx is known here, so one is made: the converted model gives twice the scores."""

    def wrong(document: onnx.ModelProto, opset: int) -> onnx.ModelProto:
        changed = onnx.ModelProto()
        changed.CopyFrom(document)
        changed.graph.node[0].attribute.append(helper.make_attribute("alpha", 2.0))
        changed.opset_import[0].version = opset
        return changed

    monkeypatch.setattr(onnx.version_converter, "convert_version", wrong)
    with pytest.raises(ConversionError, match=r"m.onnx: output scores differs from the source by \d.* of a span of"):
        fitted(dense(tmp_path / "m.onnx", opsets=[("", 21)]))


class TestProof:
    SPEC = TensorSpec("y", "float32", (None, 3))

    def check(self, want: Any, got: Any, tmp_path: Path) -> None:
        proof.check_output(open_model(dense(tmp_path / "m.onnx")), self.SPEC, np.asarray(want), np.asarray(got))

    @pytest.mark.parametrize(
        ("want", "got"),
        [
            ([0.0, 1.0], [0.0, 1.0]),
            ([0.0, 1000.0], [0.9, 1000.0]),
            ([5.0, 5.0], [5.0, 5.004]),
            ([0.0, 0.0], [0.0, 0.0]),
            ([True, False], [True, False]),
            ([], []),
            ([1, 2], [1, 2]),
        ],
    )
    def test_the_same_up_to_rounding_is_the_same(self, tmp_path: Path, want: Any, got: Any) -> None:
        self.check(want, got, tmp_path)

    @pytest.mark.parametrize(
        ("want", "got"),
        [
            ([0.0, 1.0], [0.0, 1.01]),
            ([0.0, 0.0], [0.0, 0.1]),
            ([0.0, 1.0], [0.0, np.nan]),
            ([0.0, 1.0], [0.0, np.inf]),
            ([np.nan, 1.0], [0.0, 1.0]),
            ([True, False], [True, True]),
            ([0.0, 1.0], [[0.0, 1.0]]),
        ],
    )
    def test_anything_else_is_not(self, tmp_path: Path, want: Any, got: Any) -> None:
        with pytest.raises(ConversionError, match=r"m.onnx: output y (differs from the source|has shape)"):
            self.check(want, got, tmp_path)


def test_int64_outputs_and_several_of_them_are_compared_too(tmp_path: Path) -> None:
    nodes = [helper.make_node("ArgMax", ["x"], ["int_class"], axis=1), helper.make_node("Relu", ["x"], ["y"])]
    outputs = {"int_class": ["N", 1], "y": ["N", 8]}
    path = onnx_model(tmp_path / "m.onnx", nodes, {"x": ["N", 8]}, outputs, opsets=[("", 21)], ir_version=10)
    result = fitted(path)
    assert [spec.dtype for spec in result.outputs] == ["int64", "float32"]
    assert onnx.load(result.path).graph.output[0].type.tensor_type.elem_type == TensorProto.INT64
