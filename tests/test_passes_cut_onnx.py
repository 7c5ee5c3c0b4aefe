from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.building.order import Order
from edgekit.building.step_cache import StepCache
from edgekit.errors import ConversionError, UnsupportedFormat
from edgekit.formats import onnx_file
from edgekit.model import Model, Tail, open_model
from edgekit.passes import Context
from edgekit.passes.cutting import cut_onnx
from edgekit.passes.cutting.tail_onnx import behind, constant, steps
from edgekit_postprocess import operators
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session
from tests.lab.detectors import OUTPUTS, SELECTED, detector, efficient, images, selected
from tests.lab.models import context, dense, outputs_of

Node = onnx.NodeProto
NMS = {("", "NonMaxSuppression")}


@pytest.fixture
def given(tmp_path: Path) -> Context:
    data = images(tmp_path / "images.npz", 8)
    (tmp_path / "work").mkdir()
    return context(tmp_path / "work", "pi", Order("app", "1", data, data, tmp_path, 1))


@pytest.fixture
def sample(given: Context, tmp_path: Path) -> dict[str, Any]:
    with np.load(tmp_path / "images.npz") as file:
        return {"image": file["image"][:1]}


def predict(model: Model, feeds: dict[str, Any]) -> dict[str, Any]:
    with Session(model.path.read_bytes(), model.interface({}, {}), [EngineNeed("onnxruntime")]) as session:
        return session.predict(feeds)


def made(path: Path, end: Sequence[Node], **outputs: tuple[int, list[Any]]) -> Model:
    return open_model(detector(path, end, outputs))


class TestWhatIsCut:
    @pytest.mark.parametrize("domain", ["TRT", "", "trt.plugins"])
    def test_a_plugin_of_tensorrt_becomes_a_postprocess(
        self, tmp_path: Path, given: Context, sample: dict[str, Any], domain: str
    ) -> None:
        source = made(tmp_path / "a.onnx", efficient(domain), **OUTPUTS)
        cut = cut_onnx.run(source, given)
        assert [spec.name for spec in cut.outputs] == ["boxes", "scores"]
        assert cut.lineage == ("cut-onnx",)
        assert cut.tail is not None
        assert [step.op for step in cut.tail.postprocess.steps] == ["EfficientNMS_TRT"]
        assert all(entry.domain == "" for entry in onnx.load(cut.path).opset_import)
        found = predict(cut, sample)
        assert list(found) == list(OUTPUTS)
        assert [each.shape for each in found.values()] == [(1, 1), (1, 20, 4), (1, 20), (1, 20)]
        assert 3 <= found["num_dets"] <= 20

    def test_what_is_found_is_what_onnx_s_own_operator_finds(
        self, tmp_path: Path, given: Context, sample: dict[str, Any]
    ) -> None:
        """The same weights with the end of an exporter for ONNX, in onnxruntime from end to end."""
        cut = cut_onnx.run(made(tmp_path / "a.onnx", efficient(), **OUTPUTS), given)
        found, want = predict(cut, sample), outputs_of(made(tmp_path / "b.onnx", selected(), **SELECTED), sample)
        count = int(found["num_dets"][0, 0])
        order = np.argsort(-want["det_scores"], kind="stable")
        np.testing.assert_allclose(found["det_scores"][0, :count], want["det_scores"][order], atol=1e-6)
        np.testing.assert_allclose(found["det_boxes"][0, :count], want["det_boxes"][order], atol=1e-4)
        assert found["det_classes"][0, :count].tolist() == want["det_classes"][order].tolist()

    def test_detections_are_compared_as_such(self, tmp_path: Path, given: Context) -> None:
        cut = cut_onnx.run(made(tmp_path / "a.onnx", efficient(), **OUTPUTS), given)
        declared = cut.interface({}, {}).agreement
        assert {name: how.by for name, how in declared.items()} == {"det_boxes": "boxes", "num_dets": "none"}
        assert (declared["det_boxes"].scores, declared["det_boxes"].classes) == ("det_scores", "det_classes")

    def test_a_model_that_loads_stays_as_it_is(self, tmp_path: Path, given: Context) -> None:
        for model in (made(tmp_path / "a.onnx", selected(), **SELECTED), open_model(dense(tmp_path / "b.onnx"))):
            assert cut_onnx.run(model, given) is model

    def test_the_end_by_onnx_s_own_operator(self, tmp_path: Path, given: Context, sample: dict[str, Any]) -> None:
        source = made(tmp_path / "a.onnx", selected(), **SELECTED)
        cut = cut_onnx.cut(source, onnx_file.load(source.path), NMS, given)
        assert "NonMaxSuppression" not in {node.op_type for node in onnx.load(cut.path).graph.node}
        for want, have in zip(outputs_of(source, sample).values(), predict(cut, sample).values(), strict=True):
            np.testing.assert_allclose(have, want, atol=1e-5)

    def test_inputs_fixed_tensors_and_outputs_of_the_rest(
        self, tmp_path: Path, given: Context, sample: dict[str, Any]
    ) -> None:
        """The end takes an input, what is computed from constants alone, and gives one output beside the model's."""
        end = [
            helper.make_node("Shape", ["image"], ["sizes"]),
            helper.make_node("Range", ["zero", "three", "step"], ["numbers"]),
            *efficient(),
            helper.make_node("Gather", ["det_boxes", "zero"], ["first_box"], axis=1),
            helper.make_node("Add", ["numbers", "sizes"], ["unused"]),
            helper.make_node("Cast", ["num_dets"], ["many"], to=TensorProto.INT64),
            helper.make_node("Add", ["many", "numbers"], ["counted"]),
            helper.make_node("ReduceMax", ["image"], ["brightest"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Cast", ["many"], ["float_many"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["image", "float_many"], ["shown"]),
        ]
        path = tmp_path / "a.onnx"
        outputs = {"counted": (TensorProto.INT64, [1, 3]), "scores": (TensorProto.FLOAT, ["N", 64, 3])}
        outputs |= {"shown": (TensorProto.FLOAT, ["N", 3, 32, 32]), "brightest": (TensorProto.FLOAT, ["N"])}
        detector(path, end, outputs)
        document = onnx.load(path)
        for name, number in (("zero", 0), ("three", 3), ("step", 1)):
            document.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(number), name))
        onnx.save(document, path)
        cut = cut_onnx.run(open_model(path), given)
        assert {spec.name for spec in cut.outputs} == {"scores", "boxes", "image_given", "brightest"}
        assert cut.tail is not None
        assert cut.tail.postprocess.constants["numbers"].numbers == (0, 1, 2)
        found = predict(cut, sample)
        assert list(found) == ["counted", "scores", "shown", "brightest"]
        count = int(found["counted"][0, 0])
        assert found["counted"].tolist() == [[count, count + 1, count + 2]]
        np.testing.assert_allclose(found["shown"], sample["image"] * count, rtol=1e-6)

    def test_what_was_cut_before_comes_after(self, tmp_path: Path, given: Context, sample: dict[str, Any]) -> None:
        both = [*selected()[:2], *efficient()]
        source = made(tmp_path / "a.onnx", both, **OUTPUTS, rows=(TensorProto.INT64, ["K", 3]))
        once = cut_onnx.run(source, given)
        (tmp_path / "again").mkdir()
        twice = cut_onnx.without_suppression(once, replace(given, work=tmp_path / "again"))
        assert twice is not None
        assert twice.tail is not None
        assert [step.op for step in twice.tail.postprocess.steps] == ["NonMaxSuppression", "EfficientNMS_TRT"]
        assert [spec.name for spec in twice.tail.outputs] == [*OUTPUTS, "rows"]
        for want, have in zip(predict(once, sample).values(), predict(twice, sample).values(), strict=True):
            np.testing.assert_allclose(have, want, atol=1e-5)


def test_a_tail_is_kept_in_the_cache_of_steps(tmp_path: Path, given: Context) -> None:
    cut = cut_onnx.run(made(tmp_path / "a.onnx", efficient(), **OUTPUTS), given)
    cache, again = StepCache(tmp_path / "cache"), tmp_path / "again"
    again.mkdir()
    cache.model({"step": 1}, given.work, lambda: cut)
    found = cache.model({"step": 1}, again, lambda: pytest.fail("made anew"))
    assert replace(found, path=cut.path) == cut
    assert cut.tail is not None
    assert Tail.of(cut.tail.as_dict()) == cut.tail


class TestWhatIsRefused:
    """Each in one line that names the operator, the node and the nearest way out."""

    def refused(self, path: Path, given: Context, end: Sequence[Node]) -> ConversionError:
        with pytest.raises(ConversionError) as caught:
            cut_onnx.run(made(path, end, y=(TensorProto.FLOAT, ["N", 64, 3])), given)
        return caught.value

    def test_an_operator_that_nobody_has(self, tmp_path: Path, given: Context) -> None:
        end = [helper.make_node("Magic", ["scores"], ["y"], name="/end/magic", domain="custom")]
        error = self.refused(tmp_path / "a.onnx", given, end)
        assert error.message == (
            "a.onnx: no engine loads custom.Magic (node '/end/magic'), and there is no postprocess for it: "
            "no operator custom.Magic"
        )
        assert error.hint == "export the model up to scores, or write Magic with ONNX's own operators"

    def test_one_of_onnx_s_name_in_another_domain(self, tmp_path: Path, given: Context) -> None:
        end = [helper.make_node("Add", ["scores", "scores"], ["y"], domain="custom")]
        assert "no engine loads custom.Add (node 'y')" in self.refused(tmp_path / "a.onnx", given, end).message

    def test_an_attribute_that_the_postprocess_does_not_know(self, tmp_path: Path, given: Context) -> None:
        error = self.refused(tmp_path / "a.onnx", given, [*efficient(magic=1), _as_y()])
        assert "EfficientNMS_TRT (node '/end/nms')" in error.message
        assert "magic" in error.message

    def test_an_attribute_that_json_has_no_number_for(self, tmp_path: Path, given: Context) -> None:
        error = self.refused(tmp_path / "a.onnx", given, [*efficient(score_threshold=float("-inf")), _as_y()])
        assert "EfficientNMS_TRT with score_threshold infinite or no number" in error.message

    def test_an_operator_behind_it_that_has_no_form_in_numpy(self, tmp_path: Path, given: Context) -> None:
        end = [*efficient(), helper.make_node("Softmax", ["det_scores"], ["y"], name="/end/softmax")]
        error = self.refused(tmp_path / "a.onnx", given, end)
        assert "TRT.EfficientNMS_TRT (node '/end/nms'), and no postprocess goes on with Softmax" in error.message
        assert "(node '/end/softmax'): no operator 'Softmax'" in error.message
        assert error.hint is not None
        assert "export the model up to boxes, scores" in error.hint

    def test_a_branch_behind_it(self, tmp_path: Path, given: Context) -> None:
        value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        branch = helper.make_graph([helper.make_node("Exp", ["det_scores"], ["inner"])], "branch", [], [value])
        condition = helper.make_node("Greater", ["b3", "b3"], ["conditions"])
        choice = helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)
        first = helper.make_node("ReduceMax", ["logits"], ["greatest"], keepdims=0)
        is_bright = helper.make_node("Cast", ["greatest"], ["condition"], to=TensorProto.BOOL)
        error = self.refused(tmp_path / "a.onnx", given, [condition, first, is_bright, *efficient(), choice])
        assert "goes on with If (node 'y')" in error.message

    def test_an_operator_that_onnx_does_not_have(self, tmp_path: Path) -> None:
        path = detector(tmp_path / "a.onnx", [helper.make_node("Magic", ["scores"], ["y"], name="/end/magic")], {})
        with pytest.raises(UnsupportedFormat, match="No Op registered for Magic.*Name: /end/magic") as caught:
            open_model(path)
        assert caught.value.hint == "write that node with ONNX's own operators, or export the model up to it"

    def test_a_postprocess_that_gives_something_else(
        self, tmp_path: Path, given: Context, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = operators.OPERATORS["EfficientNMS_TRT"]

        def wrong(*inputs: Any, iou_threshold: float = 0.5, **attributes: Any) -> Any:
            return right(*inputs, iou_threshold=0.05, **attributes)

        monkeypatch.setitem(operators.OPERATORS, "EfficientNMS_TRT", wrong)
        with pytest.raises(ConversionError, match=r"a.onnx: output num_dets differs from the source by \d"):
            cut_onnx.run(made(tmp_path / "a.onnx", efficient(), **OUTPUTS), given)

    def test_the_suppression_is_not_cut_where_what_is_behind_has_no_form(self, tmp_path: Path, given: Context) -> None:
        end = [*selected(), helper.make_node("Softmax", ["det_scores"], ["y"])]
        assert cut_onnx.without_suppression(made(tmp_path / "a.onnx", end, y=(TensorProto.FLOAT, ["K"])), given) is None


def _as_y() -> Node:
    return helper.make_node("Identity", ["det_scores"], ["y"])


def test_what_a_branch_takes_is_behind_it_too() -> None:
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Exp", ["b"], ["inner"])], "branch", [], [value])
    nodes = [
        helper.make_node("NonMaxSuppression", ["x", "s"], ["b"]),
        helper.make_node("Exp", ["x"], ["c"]),
        helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch),
    ]
    found = behind(helper.make_graph(nodes, "graph", [], []), NMS)
    assert [node.op_type for node in found] == ["NonMaxSuppression", "If"]
    _, missing = steps(found)
    assert [each.node.op_type for each in missing] == ["If"]


@pytest.mark.parametrize("array", [np.asarray([np.inf], np.float32), np.asarray([np.nan]), np.asarray(["a"])])
def test_a_constant_that_json_has_no_number_for(array: Any) -> None:
    with pytest.raises(ValueError, match="a constant"):
        constant(array)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "uint8", "bool"])
def test_a_constant_comes_back_as_it_was(dtype: str) -> None:
    array = np.random.default_rng(0).normal(0, 3, (2, 3)).astype(dtype)
    back = constant(array).array
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
