"""The memory of a model, as its process shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.building import weighing
from edgekit.bundle import Contents
from edgekit_runtime import golden, manifest
from edgekit_runtime.errors import DeviceError
from edgekit_runtime.manifest import EngineNeed
from tests.runtime.bundles import contents, linear

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
MIB = 1 << 20


def put(folder: Path, given: Contents) -> Path:
    (folder / "m.model").write_bytes(given.model)
    (folder / "m.npz").write_bytes(given.golden)
    (folder / "m.json").write_bytes(manifest.dump(given.manifest))
    return folder / "m.json"


def weigh(path: Path) -> Any:
    command = [sys.executable, "-P", "-m", "edgekit.building.weighing", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    document = json.loads(done.stdout)
    assert (done.returncode == 0) == ("error" not in document)
    return document


def heavy(mebibytes: int) -> Contents:
    """The linear model, and beside what it computes as many random weights that its answers wait for."""
    model, rng = onnx.load_from_string(linear(1)), np.random.default_rng(0)
    side = rng.random((mebibytes * MIB // 4 // 1024, 1024), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(side, "side"))
    model.graph.node.append(onnx.helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0))
    model.graph.node.append(onnx.helper.make_node("Mul", ["side", "most"], ["whole"]))
    model.graph.node.append(onnx.helper.make_node("ReduceSum", ["whole"], ["sum"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, None))
    return replace(contents(1), model=model.SerializeToString())


def test_what_a_model_takes_is_found_and_nothing_else(tmp_path: Path) -> None:
    """A model of 16 MiB: its file, its weights as the engine keeps them, and what a call makes of them."""
    small = weigh(put(tmp_path, contents(1)))["peak_bytes"]
    assert 0 < small < 24 * MIB
    large = weigh(put(tmp_path, heavy(16)))["peak_bytes"] - small
    assert 32 * MIB < large < 80 * MIB


def test_what_the_inputs_take_is_not_the_model_s(tmp_path: Path) -> None:
    given = contents(1)
    (first, *_) = golden.parse(given.golden)
    tall = replace(first, inputs={"x": np.zeros((MIB, 4), np.float32)})
    assert weigh(put(tmp_path, replace(given, golden=golden.dump([first]))))["peak_bytes"] < 24 * MIB
    taken = weigh(put(tmp_path, replace(given, golden=golden.dump([tall]))))["peak_bytes"]
    assert 12 * MIB <= taken < 48 * MIB  # the outputs, of three columns, and not the 16 MiB that were fed


@pytest.mark.parametrize(
    ("change", "code"),
    [({"model": b"junk"}, "engine"), ({"golden": b"PK"}, "bundle"), ({"engine": "x"}, "engine_not_installed")],
)
def test_what_cannot_be_run_is_an_error(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    given = contents(1)
    if "engine" in change:
        given = contents(1, engines=(EngineNeed(change.pop("engine")),))
    assert weigh(put(tmp_path, replace(given, **change)))["error"]["code"] == code


@pytest.mark.parametrize("status", ["", "VmRSS:\t100 kB\n"])
def test_a_system_that_does_not_tell_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    (tmp_path / "status").write_text(status)
    monkeypatch.setattr(weighing, "CLEAR", str(tmp_path / "no" / "clear_refs"))
    monkeypatch.setattr(weighing, "STATUS", str(tmp_path / "status"))
    with pytest.raises(DeviceError, match="this system does not tell"):
        weighing.peak_bytes(put(tmp_path, contents(1)))


def test_where_the_peak_cannot_be_reset_it_counts_from_the_one_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weighing, "CLEAR", str(tmp_path / "no" / "clear_refs"))
    assert weighing.peak_bytes(put(tmp_path, contents(1))) >= 0
