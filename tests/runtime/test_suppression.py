"""The choice of boxes: as onnxruntime makes it, as TFLite makes it, and as TensorRT's words have it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgekit.passes.cutting import nms_reference
from edgekit_postprocess.suppression import non_max_suppression
from edgekit_postprocess.suppression_tflite import detection_postprocess
from edgekit_postprocess.suppression_trt import efficient_nms
from tests.lab import detection_postprocess as lab

Array = NDArray[Any]
GRIDS = st.sampled_from([2, 4, 100, 0])
"""Coordinates and scores are rounded to so many parts, so that some are equal; 0: they are not."""


def rounded(rng: np.random.Generator, shape: tuple[int, ...], grid: int) -> Array:
    numbers = rng.random(shape, np.float32)
    return (np.round(numbers * grid) / grid).astype(np.float32) if grid else numbers


@cache
def onnx_session(center_point_box: int, inputs: int) -> ort.InferenceSession:
    kinds = [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64, TensorProto.FLOAT, TensorProto.FLOAT][:inputs]
    values = [helper.make_tensor_value_info(f"i{at}", kind, None) for at, kind in enumerate(kinds)]
    node = helper.make_node("NonMaxSuppression", [v.name for v in values], ["o"], center_point_box=center_point_box)
    graph = helper.make_graph([node], "nms", values, [helper.make_tensor_value_info("o", TensorProto.INT64, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


class TestNonMaxSuppression:
    @settings(max_examples=150, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        sizes=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 12)),
        most=st.sampled_from([-1, 0, 1, 2, 100]),
        iou=st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]),
        least=st.sampled_from([None, -1.0, 0.0, 0.5, 2.0]),
        center=st.sampled_from([0, 1]),
        grid=GRIDS,
    )
    def test_it_chooses_what_onnxruntime_chooses(
        self, seed: int, sizes: tuple[int, int, int], most: int, iou: float, least: float | None, center: int, grid: int
    ) -> None:
        rng, (images, classes, count) = np.random.default_rng(seed), sizes
        boxes, scores = rounded(rng, (images, count, 4), grid), rounded(rng, (images, classes, count), grid)
        inputs = [boxes, scores, np.asarray([most]), np.asarray([iou], np.float32)]
        inputs += [] if least is None else [np.asarray([least], np.float32)]
        session = onnx_session(center, len(inputs))
        (want,) = session.run(None, {f"i{at}": array for at, array in enumerate(inputs)})
        got = non_max_suppression(*inputs, center_point_box=center)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)

    def test_without_a_most_it_chooses_none(self) -> None:
        assert non_max_suppression(np.ones((1, 3, 4)), np.ones((1, 2, 3))).shape == (0, 3)

    @pytest.mark.parametrize(
        ("boxes", "scores", "iou"),
        [
            ((1, 3, 4), (1, 2, 4), 0.5),
            ((2, 3, 4), (1, 2, 3), 0.5),
            ((1, 3, 5), (1, 2, 3), 0.5),
            ((1, 3, 4), (1, 2, 3), 2),
        ],
    )
    def test_what_does_not_fit_is_refused(self, boxes: tuple[int, ...], scores: tuple[int, ...], iou: float) -> None:
        with pytest.raises(ValueError):
            non_max_suppression(np.ones(boxes), np.ones(scores), np.asarray(3), np.asarray(iou))


def by_reference(inputs: list[Array], attributes: dict[str, Any]) -> list[Array]:
    """EfficientNMS_TRT by onnxruntime's NonMaxSuppression."""
    names = ["boxes", "scores", "anchors"][: len(inputs)]
    node = helper.make_node("EfficientNMS_TRT", names, ["n", "b", "s", "c"], domain="TRT", **attributes)
    ends = [[onnx.ValueInfoProto(name=name) for name in part] for part in (node.input, node.output)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("TRT", 1)]
    model = helper.make_model(helper.make_graph([node], "nms", *ends), opset_imports=opsets)
    evaluator = ReferenceEvaluator(model, new_ops=[nms_reference.operator("TRT")])
    found: list[Array] = evaluator.run(None, dict(zip(names, inputs, strict=True)))
    return found


class TestEfficientNms:
    @settings(max_examples=80, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        sizes=st.tuples(st.integers(1, 2), st.integers(1, 10), st.integers(1, 3)),
        told=st.fixed_dictionaries(
            {
                "score_threshold": st.sampled_from([0.0, 0.25, 0.5, 0.9]),
                "iou_threshold": st.sampled_from([0.2, 0.5, 0.75]),
                "max_output_boxes": st.sampled_from([0, 1, 3, 20]),
                "background_class": st.sampled_from([-1, 0, 1]),
                "score_activation": st.sampled_from([0, 1]),
                "class_agnostic": st.sampled_from([0, 1]),
                "box_coding": st.sampled_from([0, 1]),
            }
        ),
        form=st.sampled_from(["shared", "per class", "anchors"]),
        grid=GRIDS,
    )
    def test_it_chooses_what_its_words_in_onnx_choose(
        self, seed: int, sizes: tuple[int, int, int], told: dict[str, Any], form: str, grid: int
    ) -> None:
        rng, (images, count, classes) = np.random.default_rng(seed), sizes
        boxes = rounded(rng, (images, count, *([classes] if form == "per class" else []), 4), grid)
        inputs = [boxes, rounded(rng, (images, count, classes), grid)]
        inputs += [rounded(rng, (1, count, 4), grid)] if form == "anchors" else []
        got = efficient_nms(*inputs, **told)
        for want, have in zip(by_reference(inputs, told), got, strict=True):
            assert (have.dtype, have.shape) == (want.dtype, want.shape)
            np.testing.assert_allclose(have, want, rtol=1e-6, atol=1e-6)

    def test_by_hand(self) -> None:
        """Of two boxes with an overlap of 0.6 the better one stays, unless their classes differ; the third is far."""
        boxes = np.asarray([[[0, 0, 8, 4], [2, 0, 10, 4], [20, 20, 24, 24]]], np.float32)
        scores = np.asarray([[[0.8, 0.0], [0.9, 0.7], [0.0, 0.6]]], np.float32)
        told: dict[str, Any] = {"score_threshold": 0.5, "iou_threshold": 0.5, "max_output_boxes": 4}
        count, given_boxes, given_scores, classes = efficient_nms(boxes, scores, **told)
        assert count.tolist() == [[3]]
        np.testing.assert_allclose(given_scores, [[0.9, 0.7, 0.6, 0]])
        assert classes.tolist() == [[0, 1, 1, 0]]
        assert given_boxes[0].tolist() == [[2, 0, 10, 4], [2, 0, 10, 4], [20, 20, 24, 24], [0, 0, 0, 0]]
        assert efficient_nms(boxes, scores, **told, class_agnostic=1)[0].tolist() == [[2]]
        # from the threshold on a box is dropped, not only above it: the two overlap by exactly 0.6
        assert efficient_nms(boxes, scores, **{**told, "iou_threshold": 0.6})[0].tolist() == [[3]]
        assert efficient_nms(boxes, scores, **{**told, "iou_threshold": 0.61})[0].tolist() == [[4]]

    @pytest.mark.parametrize(
        ("boxes", "scores", "told"),
        [
            ((1, 3, 4), (1, 4, 2), {}),
            ((1, 3, 5), (1, 3, 2), {}),
            ((1, 3, 3, 4), (1, 3, 2), {}),
            ((1, 3, 4), (1, 3, 2), {"box_coding": 2}),
            ((1, 3, 4), (1, 3, 2), {"max_output_boxes": -1}),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, boxes: tuple[int, ...], scores: tuple[int, ...], told: dict[str, Any]
    ) -> None:
        with pytest.raises(ValueError):
            efficient_nms(np.ones(boxes), np.ones(scores), **told)


def by_litert(path: Path, inputs: list[Array]) -> list[Array]:
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("regular", [False, True], ids=["by box", "by class"])
def test_detections_are_those_of_tflite_s_own_operator(tmp_path: Path, seed: int, regular: bool) -> None:
    """Rows behind the last detection are whatever lay in memory there; the order of equal scores is chance."""
    rng = np.random.default_rng(seed)
    count, classes, background = int(rng.integers(1, 14)), int(rng.integers(1, 5)), int(rng.integers(0, 2))
    told = {
        **lab.USUAL,
        "max_detections": int(rng.integers(1, 8)),
        "max_classes_per_detection": int(rng.integers(1, classes + 1)),
        "nms_score_threshold": float(rng.choice([0.0, 0.5, 0.6])),
        "nms_iou_threshold": float(rng.choice([0.2, 0.5, 1.0])),
        "num_classes": classes,
        "detections_per_class": int(rng.integers(1, 5)),
        "use_regular_nms": regular,
    }
    anchors = rng.random((count, 4), np.float32)
    path = lab.write(tmp_path / "ssd.tflite", classes + background, anchors, **told)
    raw, logits = rng.normal(size=(1, count, 4)), rng.normal(size=(1, count, classes + background))
    want = by_litert(path, [raw.astype(np.float32), logits.astype(np.float32)])
    encodings = np.tanh(raw.astype(np.float32))
    scores = (1 / (1 + np.exp(-logits.astype(np.float32)))).astype(np.float32)
    got = detection_postprocess(encodings, scores, anchors, **told)
    assert [each.shape for each in got] == [each.shape for each in want]
    assert got[3] == want[3]
    rows = int(want[3][0]) * (1 if regular else told["max_classes_per_detection"])
    for wanted, have in zip(want[:3], got[:3], strict=True):
        np.testing.assert_allclose(have[:, :rows], wanted[:, :rows], atol=1e-5)
        assert not have[:, rows:].any()
