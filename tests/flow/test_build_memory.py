"""Calibration looks at samples one by one: however many there are, a build needs no more memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from tests.lab.models import onnx_model

SAMPLES, SIZE = 1000, (3, 224, 224)
"""574 MiB, as float32."""
LIMIT_MIB = 512
"""Less than all samples; it was 210 at the time of writing."""
BUILD = """
import sys
from edgekit.cli import main
try:
    main()
finally:
    with open("/proc/self/status") as status:
        print(next(line for line in status if line.startswith("VmHWM")), file=sys.stderr)
"""
"""Not by getrusage, whose maximum begins with that of the process which started this one."""
STREAM = """
import numpy as np

def samples(first=0, count=1000):
    for number in range(first, first + count):
        yield np.random.default_rng(number).random((3, 224, 224), np.float32)

def others():
    for number, sample in enumerate(samples(5000, 40)):
        yield sample, number % 4
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of pictures and a stream of them."""
    rng = np.random.default_rng(0)
    weights = {
        "k": rng.normal(size=(8, 3, 7, 7)).astype(np.float32) / 10,
        "l": rng.normal(size=(16, 8, 3, 3)).astype(np.float32) / 5,
        "w": rng.normal(size=(16, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], strides=[4, 4], pads=[3] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "l"], ["c"], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["scores"]),
    ]
    onnx_model(tmp_path / "m.onnx", nodes, {"x": ["N", *SIZE]}, {"scores": ["N", 4]}, weights)
    (tmp_path / "pictures_stream.py").write_text(STREAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "person"))
    return tmp_path


def peak_mib(calibration: str) -> int:
    """The most memory that a process has had resident which builds with these samples."""
    data = ["--calibration", calibration, "--evaluation", "pictures_stream:others", "--precision", "int8"]
    words = ["build", "m.onnx", "--app", "app", "--target", "pi", *data, "--budget", "max_accuracy_drop=none"]
    words += ["--budget", "min_agreement=none"]
    done = subprocess.run([sys.executable, "-c", BUILD, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.rpartition("VmHWM:")[2].split()[0]) // 1024


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_pictures_of_a_function(here: Path) -> None:
    found = peak_mib("pictures_stream:samples")
    assert found < LIMIT_MIB


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_pictures_of_a_compressed_file(here: Path) -> None:
    pictures = np.empty((SAMPLES, *SIZE), np.float32)
    for number in range(SAMPLES):
        coarse = np.random.default_rng(number).integers(0, 8, (3, 28, 28)).astype(np.float32)
        pictures[number] = np.kron(coarse, np.ones((8, 8), np.float32)) / 8
    np.savez_compressed(here / "pictures.npz", x=pictures)
    del pictures
    assert peak_mib("pictures.npz") < LIMIT_MIB
