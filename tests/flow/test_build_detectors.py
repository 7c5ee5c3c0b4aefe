"""Detectors whose end an engine lacks, from the file to what ``predict`` gives of the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from edgekit import environments
from edgekit.errors import EdgekitError
from edgekit.model import open_model
from edgekit.passes import convert_onnx
from edgekit_runtime.session import load
from tests.lab import detection_postprocess
from tests.lab.detectors import OUTPUTS, SELECTED, detector, efficient, images, selected
from tests.lab.models import outputs_of, samples, tensorflow
from tests.lab.project import document, edgekit, project

__all__ = ["project"]  # a fixture

pytestmark = pytest.mark.slow

DATA = ("--calibration", "calibration.npz", "--evaluation", "evaluation.npz")


@pytest.fixture
def image(project: Path) -> dict[str, Any]:
    """The project's data, and one image of them."""
    images(project / "calibration.npz", 48, 0)
    with np.load(images(project / "evaluation.npz", 32, 1)) as file:
        return {"image": file["image"][:1]}


def predict(bundle: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    with load(bundle) as session:
        return session.predict(feeds)


@pytest.mark.parametrize("target", ["pi", "jetson"])
def test_one_that_ends_in_a_plugin_of_tensorrt(project: Path, image: dict[str, Any], target: str) -> None:
    detector(project / "detector.onnx", efficient(), OUTPUTS)
    built = edgekit("build", "detector.onnx", "--target", target, *DATA, "--output", "bundle", "--precision", "float32")
    assert "detector.onnx" not in built.stderr
    found = predict(project / "bundle", image)
    want = outputs_of(open_model(detector(project / "onnx.onnx", selected(), SELECTED)), image)
    count = int(found["num_dets"][0, 0])
    assert list(found) == list(OUTPUTS)
    assert count == len(want["det_scores"]) > 0
    np.testing.assert_allclose(found["det_scores"][0, :count], np.sort(want["det_scores"])[::-1], atol=1e-5)
    assert "EfficientNMS_TRT" in edgekit("bundle", "show", "bundle").stdout
    shown = document("bundle", "show", "bundle")
    interface = shown["manifest"]["interface"]
    assert [step["op"] for step in interface["postprocess"]["steps"]] == ["EfficientNMS_TRT"]
    assert [spec["name"] for spec in interface["postprocess"]["takes"]] == ["boxes", "scores"]


def test_int8_is_made_of_what_is_left_and_a_second_build_finds_it(project: Path, image: dict[str, Any]) -> None:
    """Boxes within a pixel or so: they are chosen in float, of what int8 gives."""
    detector(project / "detector.onnx", efficient(), OUTPUTS)
    words = ("build", "detector.onnx", "--target", "pi", *DATA, "--precision", "int8", "--budget", "min_agreement=0.5")
    for name in ("one", "two"):
        edgekit(*words, "--output", name)
    one, two = (predict(project / name, image) for name in ("one", "two"))
    for name in OUTPUTS:
        np.testing.assert_array_equal(one[name], two[name])
    assert one["num_dets"] > 0


def test_one_whose_end_onnx2tf_does_not_convert(project: Path, image: dict[str, Any]) -> None:
    try:
        environments.ensure(convert_onnx.ONNX2TF, print)
    except EdgekitError as error:
        pytest.skip(str(error))
    end = selected()
    end[1].attribute.append(helper.make_attribute("center_point_box", 1))
    source = open_model(detector(project / "detector.onnx", end, SELECTED, batch=1))
    words = ("--target", "pi", "--format", "tflite", "--precision", "float32", "--output", "bundle")
    edgekit("build", "detector.onnx", *words, *DATA)
    want, found = outputs_of(source, image), predict(project / "bundle", image)
    for name in SELECTED:
        np.testing.assert_allclose(found[name], want[name], atol=1e-4)


@tensorflow
def test_tflite_s_own_end_of_detectors_on_the_way_to_onnx(project: Path) -> None:
    told = {"max_detections": 5, "max_classes_per_detection": 1, "nms_score_threshold": 0.5, "nms_iou_threshold": 0.5}
    anchors = np.random.default_rng(1).random((16, 4), np.float32)
    detection_postprocess.write(
        project / "ssd.tflite", 4, anchors, **detection_postprocess.USUAL, **told, num_classes=3
    )
    for name, count in (("calibration", 16), ("evaluation", 17)):
        samples(project / f"{name}.npz", count, raw=(16, 4), logits=(16, 4))
    with np.load(project / "evaluation.npz") as file:
        last = {name: file[name][16:] + np.float32(0.5) for name in ("raw", "logits")}
        np.savez(project / "evaluation.npz", **{name: file[name][:16] + np.float32(0.5) for name in last})
    words = ("--target", "jetson", "--precision", "float32", "--output", "bundle")
    edgekit("build", "ssd.tflite", *words, *DATA)
    want, found = outputs_of(open_model(project / "ssd.tflite"), last), predict(project / "bundle", last)
    boxes, _, _, count = want
    rows = int(want[count][0])
    assert found[count] == want[count] > 0
    np.testing.assert_allclose(found[boxes][:, :rows], want[boxes][:, :rows], atol=1e-4)


def test_one_that_nobody_can_cut_is_one_line(project: Path, image: dict[str, Any]) -> None:
    end = [*efficient(), helper.make_node("Softmax", ["det_scores"], ["y"], name="/end/softmax")]
    detector(project / "detector.onnx", end, {"y": OUTPUTS["det_scores"]})
    line = edgekit("build", "detector.onnx", "--target", "pi", *DATA, status=1).line
    assert "no engine loads TRT.EfficientNMS_TRT (node '/end/nms')" in line
    assert "Softmax (node '/end/softmax')" in line
    assert not (project / "bundles").exists()
