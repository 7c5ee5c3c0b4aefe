"""`edgekit build` with bad input: one line, the right exit status, nothing half-written."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.external_data_helper import convert_model_to_external_data

from tests.lab.bundles import DIGITS, TARGET
from tests.lab.project import EDGEKIT, INTERRUPTED, document, edgekit, had_begun, project

__all__ = ["project"]

DATA = ("--calibration", str(DIGITS / "calibration.npz"), "--evaluation", str(DIGITS / "evaluation.npz"))
GOOD = (str(DIGITS / "digits.onnx"), "--target", TARGET, *DATA)


@pytest.fixture(autouse=True)
def nothing_is_written(project: Path) -> object:
    yield
    assert not (project / "bundles").exists() or not list((project / "bundles").iterdir())


def refused(*words: str, status: int = 1) -> str:
    return edgekit("build", *words, status=status).line


def with_data(model: str | Path, *, calibration: str | Path | None = None, status: int = 1) -> str:
    data = ("--calibration", str(calibration), *DATA[2:]) if calibration else DATA
    return refused(str(model), "--target", TARGET, *data, status=status)


def test_a_missing_model() -> None:
    assert "nowhere.onnx: no such model file" in with_data("nowhere.onnx")


def test_a_text_file_called_model_onnx(project: Path) -> None:
    (project / "model.onnx").write_text("This is a text.\n")
    assert "model.onnx: not an ONNX model" in with_data("model.onnx")


@pytest.mark.parametrize("size", [0, 7, 1000, 100_000, 235_000])
def test_a_truncated_onnx_model(project: Path, size: int) -> None:
    (project / "model.onnx").write_bytes((DIGITS / "digits.onnx").read_bytes()[:size])
    line = with_data("model.onnx")
    assert "model.onnx: " in line
    assert "—" in line


def test_a_text_file_called_model_tflite(project: Path) -> None:
    (project / "model.tflite").write_text("This is a text.\n")
    assert "model.tflite: not a TFLite model" in with_data("model.tflite")


def test_a_format_that_nothing_reads(project: Path) -> None:
    (project / "model.pb").write_bytes(b"x")
    assert ".onnx" in with_data("model.pb")


@pytest.mark.parametrize("place", ["../secret", "/secret", "link"])
def test_onnx_weights_in_a_file_outside_are_refused_and_not_read(project: Path, place: str) -> None:
    secret = project.parent / "secret"
    secret.write_bytes(np.zeros(100, np.float32).tobytes())
    location = str(secret) if place == "/secret" else place
    if place == "link":
        (project / "link").symlink_to(secret)
    weights = helper.make_tensor("w", TensorProto.FLOAT, [100], np.zeros(100, np.float32).tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 100])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 100])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    convert_model_to_external_data(model, location="weights", size_threshold=0)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.external_data[0].value = location
    (project / "model.onnx").write_bytes(model.SerializeToString())
    assert "refused" in with_data("model.onnx")


def test_a_keras_file_with_a_lambda_layer_is_refused_and_not_run(project: Path) -> None:
    layer = {"class_name": "Lambda", "config": {"name": "evil", "function": {"class_name": "__lambda__"}}}
    config = {"class_name": "Sequential", "module": "keras", "config": {"name": "s", "layers": [layer]}}
    with zipfile.ZipFile(project / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "{}")
    assert "was not loaded" in with_data("model.keras")


BAD_CALIBRATION = {
    "another shape": {"x": np.zeros((4, 1, 9, 8), np.float32)},
    "another dtype": {"x": np.zeros((4, 1, 8, 8), np.float64)},
    "NaN": {"x": np.full((4, 1, 8, 8), np.nan, np.float32)},
    "no sample": {"x": np.zeros((0, 1, 8, 8), np.float32)},
    "another name": {"picture": np.zeros((4, 1, 8, 8), np.float32)},
    "objects": {"x": np.array([{}], dtype=object)},
}


@pytest.mark.parametrize("what", BAD_CALIBRATION)
def test_calibration_data_that_does_not_fit(project: Path, what: str) -> None:
    np.savez(project / "bad.npz", **BAD_CALIBRATION[what])
    line = with_data(DIGITS / "digits.onnx", calibration="bad.npz")
    assert "bad.npz: " in line
    assert " — " in line


def test_calibration_data_that_is_not_there() -> None:
    assert "nowhere.npz" in with_data(DIGITS / "digits.onnx", calibration="nowhere.npz")


def test_an_unknown_target_names_the_known_ones() -> None:
    line = refused(GOOD[0], "--target", "raspberry-pi-6", *DATA, status=2)
    assert "raspberry-pi-5" in line


def test_an_unknown_key_in_edgekit_toml_names_the_nearest(project: Path) -> None:
    (project / "edgekit.toml").write_text('[data]\ncalibraton = "x.npz"\n')
    assert "edgekit.toml: data.calibraton: unknown key — did you mean 'calibration'?" in refused(*GOOD, status=2)


def test_a_wrong_type_in_edgekit_toml_names_the_key(project: Path) -> None:
    (project / "edgekit.toml").write_text('[budget]\nmax_accuracy_drop = "small"\n')
    assert "edgekit.toml: budget.max_accuracy_drop: expected float" in refused(*GOOD, status=2)


@pytest.mark.parametrize(
    "line", ["max_acuracy_drop=1", "max_accuracy_drop", "max_accuracy_drop=small", "min_agreement=nan"]
)
def test_a_budget_that_is_none(line: str) -> None:
    assert "--budget" in refused(*GOOD, "--budget", line, status=2)


def test_missing_data_says_which_flag() -> None:
    assert "--evaluation" in refused(*GOOD[:3], *DATA[:2], status=2)


def test_preprocessing_for_an_input_that_the_model_has_not(project: Path) -> None:
    (project / "edgekit.toml").write_text('[preprocess.picture]\nlayout = "NCHW"\n')
    assert "preprocess.picture: no such input — the model takes image" in refused(*GOOD, status=2)


def test_a_destination_that_is_something_else_is_left_alone(project: Path) -> None:
    (project / "mine").mkdir()
    (project / "mine" / "thesis.txt").write_text("years of work")
    assert "mine: not empty and not a bundle" in refused(*GOOD, "--output", "mine")
    assert (project / "mine" / "thesis.txt").read_text() == "years of work"
    shutil.rmtree(project / "mine")


def test_a_budget_that_nothing_holds_is_exit_status_3_with_the_reasons() -> None:
    answer = document("build", *GOOD, "--budget", "max_size_mib=0.001", status=3)
    assert answer["bundle"] is None
    assert not answer["verdict"]["ok"]
    assert all("MiB, allowed are 0.001" in reason for reason in answer["verdict"]["reasons"])
    assert not any(candidate["chosen"] for candidate in answer["candidates"])


@pytest.mark.parametrize("delay_s", [0.1, 0.4, 0.7, 1.0])
def test_ctrl_c_at_any_moment_leaves_nothing_behind(project: Path, delay_s: float) -> None:
    process = subprocess.Popen([*EDGEKIT, "build", *GOOD], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    on_its_way_out = process.returncode == -signal.SIGINT and "sha256:" in stdout  # all had been said
    if process.returncode and not on_its_way_out and had_begun(process.returncode, stderr):
        assert process.returncode in INTERRUPTED, stderr
        assert stderr.splitlines()[-1] == "edgekit: interrupted"
        assert "Traceback" not in stderr
    for place in (project / "bundles").glob("*"):  # it had been written, and wholly
        edgekit("bundle", "show", place)
        shutil.rmtree(place)


def test_errors_are_json_where_that_was_asked_for() -> None:
    answer = document("build", "nowhere.onnx", "--target", TARGET, *DATA, status=1)
    assert answer["error"]["code"] == "unsupported_format"
    assert set(answer["error"]) == {"code", "message", "hint"}


def test_onnx_weights_in_a_file_beside_the_model_are_taken_in(project: Path) -> None:
    model = onnx.load(DIGITS / "digits.onnx")
    onnx.save(model, project / "beside.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    edgekit("build", "beside.onnx", "--target", TARGET, *DATA, "--output", "out")
    (project / "weights.bin").unlink()
    shown = document("bundle", "show", "out")
    assert shown["signed"]
    assert next(layer["size"] for layer in shown["layers"] if "model" in layer["mediaType"]) > 50_000
    shutil.rmtree(project / "out")
