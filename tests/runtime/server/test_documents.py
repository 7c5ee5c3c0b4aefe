"""Documents: what Triton's clients read of a server and its models, and that nothing heavy is loaded to say it."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest

import edgekit_runtime
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec
from edgekit_server import documents
from edgekit_server.counts import Counts
from edgekit_server.tally import Tally
from tests.runtime.bundles import MANIFEST

FRONT = ("documents", "routes", "counts", "asked")
SEEN = "import sys; {}; print(*sys.modules)"


def test_importing_them_loads_the_standard_library_only() -> None:
    statement = f"from edgekit_server import {', '.join(FRONT)}"
    command = [sys.executable, "-I", "-c", SEEN.format(statement)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {f"edgekit_server.{name}" for name in FRONT} <= set(loaded)
    assert not {"numpy", "onnxruntime", "asyncio", "email"} & set(loaded)


def test_the_server() -> None:
    told = documents.server()
    assert told["version"] == edgekit_runtime.__version__
    assert {"binary_tensor_data", "statistics", "model_configuration", "model_repository"} <= set(told["extensions"])


def test_metadata() -> None:
    assert documents.metadata(replace(MANIFEST, version="1.2.0", sequence=7)) == {
        "name": "scores",
        "versions": ["7"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }


def test_a_preprocessed_input_is_told_as_predict_takes_it() -> None:
    spec = TensorSpec("image", "float32", (None, 3, 8, 8))
    manifest = replace(MANIFEST, interface=Interface((spec,), MANIFEST.interface.outputs, {"image": STEP}))
    assert documents.metadata(manifest)["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    ]


STEP = Preprocess(resize=(8, 8), layout="NCHW")


def test_the_config_of_a_model_for_batches_leaves_their_axis_out() -> None:
    told = documents.config(replace(MANIFEST, version="1.2.0"))
    assert told["max_batch_size"] == 32
    assert told["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    assert told["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": [3]}]
    assert told["backend"] == "onnxruntime"
    assert told["parameters"]["version"] == {"string_value": "1.2.0"}


@pytest.mark.parametrize("shape", [(1, 3), (), (3, None)])
def test_the_config_of_another_has_all_axes(shape: tuple[int | None, ...]) -> None:
    interface = Interface(MANIFEST.interface.inputs, (TensorSpec("y", "float32", shape),))
    told = documents.config(replace(MANIFEST, interface=interface, format="tflite"))
    assert told["max_batch_size"] == 0
    assert told["input"][0]["dims"] == [-1, 4]
    assert told["output"][0]["dims"] == [-1 if size is None else size for size in shape]
    assert told["platform"] == "tflite_flatbuffer"


def test_the_repository() -> None:
    states = [("m", "1", "READY", ""), ("n", "2", "UNAVAILABLE", "it crashed")]
    assert documents.index(states) == [
        {"name": "m", "version": "1", "state": "READY"},
        {"name": "n", "version": "2", "state": "UNAVAILABLE", "reason": "it crashed"},
    ]


def test_statistics_of_a_model_that_nobody_has_asked() -> None:
    """Triton's own, but for what only it has."""
    (told,) = documents.statistics([("m", "1", Counts())])["model_stats"]
    stages = ["queue", "compute_input", "compute_infer", "compute_output"]
    kinds = ["success", "fail", *stages, "cache_hit", "cache_miss"]
    assert told == {
        "name": "m",
        "version": "1",
        "last_inference": 0,
        "inference_count": 0,
        "execution_count": 0,
        "inference_stats": {kind: {"count": 0, "ns": 0} for kind in kinds},
        "batch_stats": [],
    }


def test_statistics_add_up() -> None:
    tally = Tally()
    for _ in range(2):
        tally.answered(50, 3, (1, 2, 30, 4))
    for rows in (6, 1, 1):
        tally.ran(rows, (0, 2, 30, 4))
    tally.failed(9)
    counts = tally.counts()
    (told,) = documents.statistics([("m", "1", counts)])["model_stats"]
    assert (told["inference_count"], told["execution_count"]) == (6, 3)
    assert abs(told["last_inference"] - time.time() * 1e3) < 60_000
    assert told["inference_stats"]["success"] == {"count": 2, "ns": 100}
    assert told["inference_stats"]["fail"] == {"count": 1, "ns": 9}
    assert told["inference_stats"]["compute_infer"] == {"count": 2, "ns": 60}
    assert [(run["batch_size"], run["compute_infer"]) for run in told["batch_stats"]] == [
        (1, {"count": 2, "ns": 60}),
        (6, {"count": 1, "ns": 30}),
    ]


@pytest.mark.parametrize(("state", "told"), [("READY", "AVAILABLE"), ("LOADING", "LOADING"), ("UNAVAILABLE", "END")])
def test_availability_in_the_words_of_tensorflow_serving(state: str, told: str) -> None:
    assert documents.availability("7", state) == {
        "model_version_status": [
            {"version": "7", "state": told, "status": {"error_code": "OK", "error_message": ""}},
        ]
    }
