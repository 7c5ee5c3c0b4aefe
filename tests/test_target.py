from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from edgekit.errors import ConfigError
from edgekit.precision import Precision
from edgekit.target import Target, load, names, needs

if TYPE_CHECKING:
    from pathlib import Path

MAX_ONNX = {  # onnxruntime: the newest opset and IR version that it loads
    "1.16": (19, 9),
    "1.17": (20, 9),
    "1.18": (21, 10),
    "1.19": (21, 10),
    "1.20": (21, 10),
    "1.23": (23, 11),
    "1.31": (26, 13),
}
WHEELS = {  # the newest wheel that each operating system of a target can install, by engine package
    "raspberry-pi-zero-2w": [{"ai-edge-litert": "2.1.0", "onnxruntime": "1.19.2", "tflite-runtime": "2.13.0"}],
    "raspberry-pi-4": [{"ai-edge-litert": "2.1.0", "onnxruntime": "1.19.2", "tflite-runtime": "2.13.0"}],
    "raspberry-pi-5": [{"ai-edge-litert": "2.3.0", "onnxruntime": "1.31.1", "tflite-runtime": "2.14.0"}],
    "jetson-orin": [{"onnxruntime": "1.23.2"}],
    "jetson-xavier": [{"onnxruntime": "1.19.2"}],
    "generic-aarch64": [
        {"ai-edge-litert": "2.1.0", "onnxruntime": "1.19.2", "tflite-runtime": "2.13.0"},
        {"ai-edge-litert": "2.3.0", "onnxruntime": "1.31.1", "tflite-runtime": "2.14.0"},
    ],
    "generic-x86-64": [
        {"ai-edge-litert": "2.1.0", "onnxruntime": "1.19.2"},
        {"ai-edge-litert": "2.3.0", "onnxruntime": "1.31.1"},
    ],
}
FACTS = ["arch", "cpu", "memory_mib", "threads", "precisions", "engine", "engine.package", "engine.version"]
ONNX_FACTS = ["onnx.opset", "onnx.ir_version", "onnx.activation", "onnx.symmetric"]

PROFILE = """
name = "mine"
arch = "aarch64"
memory_mib = 2048
threads = 2
precisions = ["float32"]

[[engine]]
name = "onnxruntime"
package = "onnxruntime"
version = ">=1.19"
format = "onnx"

[onnx]
opset = 17
ir_version = 8
activation = "uint8"
symmetric = false
"""

every_profile = pytest.mark.parametrize("target", [load(name) for name in names()], ids=lambda target: target.name)


def test_the_profiles_that_come_with_edgekit() -> None:
    assert names() == sorted(WHEELS)
    assert [load(name).name for name in names()] == names()


def test_aliases() -> None:
    assert load("pi") == load("raspberry-pi-5")
    assert load("jetson") == load("jetson-orin")


def test_no_name_or_alias_stands_for_two_profiles() -> None:
    words = sorted([*names(), *(alias for name in names() for alias in load(name).aliases)])
    assert all(one != other for one, other in pairwise(words))


@every_profile
def test_each_fact_has_a_source(target: Target) -> None:
    sourced = {fact.strip() for source in target.sources for fact in source.fact.split(",")}
    assert sourced >= {*FACTS, *ONNX_FACTS}
    assert all(len(source.origin) > 20 for source in target.sources)


@every_profile
def test_the_oldest_onnxruntime_of_the_range_loads_the_onnx_form(target: Target) -> None:
    oldest = [spec.version for engine in onnx_engines(target) for spec in SpecifierSet(engine) if spec.operator == ">="]
    assert oldest
    for version in oldest:
        opset, ir_version = MAX_ONNX[version]
        assert target.onnx.opset <= opset
        assert target.onnx.ir_version <= ir_version


@every_profile
def test_the_range_of_each_engine_takes_the_newest_wheel_there_is(target: Target) -> None:
    for wheels in WHEELS[target.name]:
        for engine in target.engines:
            assert Version(wheels[engine.package]) in SpecifierSet(engine.version)


@every_profile
def test_an_engine_fits_its_format(target: Target) -> None:
    for engine in target.engines:
        assert engine.format == {"litert": "tflite", "onnxruntime": "onnx", "tflite": "tflite"}[engine.name]
        assert bool(engine.providers) == (engine.format == "onnx")
        assert engine.providers[-1:] in [(), ("CPUExecutionProvider",)]


@every_profile
def test_tensorrt_gets_symmetric_int8(target: Target) -> None:
    tensorrt = any("TensorrtExecutionProvider" in engine.providers for engine in target.engines)
    assert (target.onnx.activation, target.onnx.symmetric) == (("int8", True) if tensorrt else ("uint8", False))


@every_profile
def test_float32_may_ship_everywhere_and_is_the_last_choice(target: Target) -> None:
    assert target.precisions[:2] == (Precision.INT8, Precision.MIXED)
    assert target.precisions[-1] is Precision.FLOAT32
    assert len(set(target.precisions)) == len(target.precisions)


@every_profile
def test_tensorrt_gets_nothing_that_it_does_not_compute(target: Target) -> None:
    tensorrt = any("TensorrtExecutionProvider" in engine.providers for engine in target.engines)
    left_out = {Precision.DYNAMIC, Precision.WEIGHTS, Precision.INT16X8}
    assert left_out - set(target.precisions) == (left_out if tensorrt else set())


@every_profile
def test_a_device_is_asked_for_the_engines_of_its_target(target: Target) -> None:
    found = needs(target.engines, 3)
    assert [(each.name, each.version, each.threads) for each in found] == [
        (engine.name, engine.version, 3) for engine in target.engines
    ]
    assert [each.providers for each in found] == [engine.providers for engine in target.engines]


def test_a_profile_of_ones_own_is_read_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE)
    target = load(str(path))
    assert (target.name, target.engines[0].providers, target.sources) == ("mine", (), ())


@pytest.mark.parametrize(
    ("name", "hint"),
    [("rasberry-pi-5", "did you mean 'raspberry-pi-5'? known: generic-aarch64, "), ("jetsn", "did you mean 'jetson'?")],
)
def test_an_unknown_name_tells_the_nearest_and_the_known(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(name)
    assert str(caught.value).startswith(f"no target profile '{name}' — {hint}")
    assert all(known in str(caught.value) for known in names())
    assert caught.value.exit_code == 2


def test_a_name_is_no_path() -> None:
    with pytest.raises(ConfigError, match="no target profile"):
        load("../targets/raspberry-pi-5")


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("threads = 2", "thread = 2", "thread: unknown key — did you mean 'threads'?"),
        ("threads = 2", 'threads = "2"', "threads: expected int, got str — write 2, without quotes"),
        ("threads = 2", "threads = 0", "threads: expected int >= 1 — found 0"),
        ("threads = 2", "", "threads: missing"),
        ('"aarch64"', '"arm64"', 'arch: "arm64" is not one of aarch64, x86_64'),
        ('["float32"]', "[]", "precisions: expected array of length >= 1"),
        (
            '["float32"]',
            '["float8"]',
            'precisions[0]: "float8" is not one of float32, int8, mixed, int16x8, float16, int8-dynamic, int8-weights',
        ),
        ("[[engine]]", "[engine]", "engine: expected array, got table — write [[engine]], in double brackets"),
        (
            'version = ">=1.19"',
            "version = 1.19",
            'engine[0].version: expected str, got float — write "1.19", in quotes',
        ),
        ("opset = 17", "opst = 17", "onnx.opst: unknown key — did you mean 'opset'?"),
    ],
)
def test_a_mistake_in_a_profile_is_named(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE.replace(right, wrong))
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert str(caught.value) == f"{path}: {message}"


def test_reading_a_profile_needs_no_numpy() -> None:
    code = "import sys, edgekit.target; edgekit.target.load('pi'); sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def onnx_engines(target: Target) -> list[str]:
    return [engine.version for engine in target.engines if engine.format == "onnx"]
