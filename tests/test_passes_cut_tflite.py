from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.building.order import Order
from edgekit.errors import ConversionError
from edgekit.formats import tflite_file
from edgekit.model import Model, open_model
from edgekit.passes import Context
from edgekit.passes.cutting import cut_tflite
from edgekit_postprocess import operators
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session
from tests.lab import detection_postprocess as lab
from tests.lab.models import context, samples, tflite_model

COUNT, CLASSES = 12, 4
TOLD = {**lab.USUAL, "max_detections": 5, "nms_score_threshold": 0.6, "nms_iou_threshold": 0.5, "num_classes": 3}


@pytest.fixture
def given(tmp_path: Path) -> Context:
    data = samples(tmp_path / "data.npz", 12, raw=(COUNT, 4), logits=(COUNT, CLASSES))
    (tmp_path / "work").mkdir()
    return context(tmp_path / "work", "jetson", Order("app", "1", data, data, tmp_path, 1))


def ssd(path: Path, **more: Any) -> Model:
    anchors = np.random.default_rng(1).random((COUNT, 4), np.float32)
    return open_model(lab.write(path, CLASSES, anchors, **{"max_classes_per_detection": 1, **TOLD, **more}))


def predict(model: Model, feeds: dict[str, Any]) -> dict[str, Any]:
    with Session(model.path.read_bytes(), model.interface({}, {}), [EngineNeed("litert")]) as session:
        return session.predict(feeds)


@pytest.mark.parametrize(
    "more",
    [{}, {"use_regular_nms": True}, {"max_classes_per_detection": 2}, {"_output_quantized": True}],
    ids=["by box", "by class", "two classes a box", "with what TensorFlow notes"],
)
def test_detections_become_a_postprocess(tmp_path: Path, given: Context, more: dict[str, Any]) -> None:
    source = ssd(tmp_path / "ssd.tflite", **more)
    cut = cut_tflite.without_detections(source, given)
    assert cut is not None
    assert cut.lineage == ("cut-tflite",)
    assert [str(spec) for spec in cut.outputs] == ["encodings: float32 [1, 12, 4]", "scores: float32 [1, 12, 4]"]
    with np.load(tmp_path / "data.npz") as file:
        feeds = {"raw": file["raw"][:1], "logits": file["logits"][:1]}
    want, found = predict(source, feeds), predict(cut, feeds)
    boxes, classes, scores, count = found
    assert list(found) == list(want)
    assert found[count] == want[count] > 0
    rows = int(found[count][0]) * more.get("max_classes_per_detection", 1)
    for name in (boxes, classes, scores):
        np.testing.assert_allclose(found[name][:, :rows], want[name][:, :rows], atol=1e-5)
    declared = cut.interface({}, {}).agreement
    assert (declared[boxes].by, declared[boxes].corners, declared[boxes].scores) == ("boxes", "yxyx", scores)


def test_a_model_without_such_an_end_stays_whole(tmp_path: Path, given: Context) -> None:
    assert cut_tflite.without_detections(open_model(tflite_model(tmp_path / "m.tflite")), given) is None


def test_one_that_gives_more_than_detections_stays_whole(tmp_path: Path, given: Context) -> None:
    document = tflite_file.unpacked(ssd(tmp_path / "ssd.tflite").path.read_bytes())
    document.subgraphs[0].outputs = [*document.subgraphs[0].outputs, 8]
    (tmp_path / "more.tflite").write_bytes(tflite_file.packed(document))
    assert cut_tflite.without_detections(open_model(tmp_path / "more.tflite"), given) is None


def test_a_postprocess_that_gives_something_else_is_refused(
    tmp_path: Path, given: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = operators.OPERATORS["TFLite_Detection_PostProcess"]

    def wrong(*inputs: Any, y_scale: float, **told: Any) -> Any:
        return right(*inputs, y_scale=2 * y_scale, **told)

    monkeypatch.setitem(operators.OPERATORS, "TFLite_Detection_PostProcess", wrong)
    with pytest.raises(ConversionError, match=r"ssd.tflite: output TFLite_Detection_PostProcess.* differs"):
        cut_tflite.without_detections(ssd(tmp_path / "ssd.tflite"), replace(given))
