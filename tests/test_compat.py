"""Verdicts: known cases, the rules between releases, and what engines really do with the same artifacts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from edgekit import compat
from edgekit.compat import fingerprint, fingerprint_onnx, ort_kernels, tflite_kernels
from edgekit.compat.fingerprint import Fingerprint, Operator
from edgekit.compat.verdict import Engine, Verdict, number
from edgekit.model import Format
from edgekit_runtime.engines import EngineOptions, litert, ort
from edgekit_runtime.errors import EngineError
from tests.lab import models

ROOT = Path(__file__).parents[1]


def parsed(body: str, opset: int = 17, ir_version: int = 8, domain: str = "") -> onnx.ModelProto:
    imports = f'"": {opset}' + (f', "{domain}": 1' if domain else "")
    head = f"<ir_version: {ir_version}, opset_import: [{imports}]>"
    return parser.parse_model(f"{head} graph (float[1,4] x) => (y) {{ {body} }}")


def judged(engine: str, body: str, **more: object) -> Verdict:
    return compat.judge(fingerprint_onnx.of_model(parsed(body, **more)), Engine("onnxruntime", engine))  # type: ignore[arg-type]


def tflite(*operators: Operator, **more: object) -> Fingerprint:
    return Fingerprint(Format.TFLITE, operators, **more)  # type: ignore[arg-type]


def on(name: str, version: str, found: Fingerprint) -> Verdict:
    return compat.judge(found, Engine(name, version))


@pytest.mark.parametrize(
    ("engine", "body", "more", "reason"),
    [
        ("1.16.3", "y = Relu(x)", {"opset": 20}, "opset 20 needs onnxruntime >= 1.17"),
        ("1.16.3", "y = Relu(x)", {"ir_version": 10}, "IR version 10 needs onnxruntime >= 1.18"),
        ("1.31.1", "y = Relu(x)", {"ir_version": 14}, "IR version 14: no onnxruntime up to 1.31.1 has it"),
        ("1.31.1", "y = example.Thing(x)", {"domain": "example"}, "example.Thing (opset 1) is a custom operator"),
        ("1.31.1", "t = Cast<to=5>(x) u = Relu(t) y = Cast<to=1>(u)", {}, "Relu (opset 14) with int16: no onnxruntime"),
        ("1.31.1", "y = com.microsoft.NoSuchThing(x)", {"domain": "com.microsoft"}, "com.microsoft.NoSuchThing"),
    ],
)
def test_a_refusal_says_why(engine: str, body: str, more: dict[str, object], reason: str) -> None:
    verdict = judged(engine, body, **more)
    assert verdict.answer == "refused" and reason in verdict.reason and verdict.fix


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ("t = Cast<to=10>(x) u = Sin(t) y = Cast<to=1>(u)", 17),  # in float32: onnxruntime casts
        ("y = HardSwish(x)", 17),  # taken apart
        ("t = Cast<to=11>(x) u = LeakyRelu(t) y = Cast<to=1>(u)", 16),
    ],
)
def test_what_has_no_kernel_may_load_all_the_same(body: str, opset: int) -> None:
    assert judged("1.16.3", body, opset=opset).answer == "loads"


def test_a_definition_that_no_longer_holds_does_not_help() -> None:
    body = "t = Cast<to=11>(x) u = LeakyRelu(t) y = Cast<to=1>(u)"
    assert judged("1.31.1", body, opset=25, ir_version=13).answer == "refused"


@pytest.mark.parametrize(
    ("version", "opset", "answer"),
    [
        ("1.10.0", 21, "refused"),  # what the oldest known one lacks, older ones lack
        ("1.10.0", 13, "unknown"),
        ("1.20.0", 21, "loads"),  # of a known minor
        ("1.20.0+cu126", 21, "loads"),
        ("1.99.0", 21, "loads"),  # what the newest loads, newer ones load
        ("1.99.0", 28, "unknown"),
        ("nightly", 13, "unknown"),
    ],
)
def test_releases_that_nobody_measured(version: str, opset: int, answer: str) -> None:
    assert judged(version, "y = Relu(x)", opset=opset).answer == answer


def test_between_two_known_releases_both_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ("1.18.1", "1.22.1")
    places = {release.version: at for at, release in enumerate(ort_kernels.releases())}
    rules = compat.RULES["onnxruntime"]
    sparse = replace(rules, versions=lambda: known, findings=lambda f, at: rules.findings(f, places[known[at]]))
    monkeypatch.setitem(compat.RULES, "onnxruntime", sparse)
    assert [judged("1.20.1", "y = Relu(x)", opset=opset).answer for opset in (21, 22, 23)] == [
        "loads",
        "unknown",
        "refused",
    ]


def test_external_data_and_other_formats_are_refused(tmp_path: Path) -> None:
    found = fingerprint.read(models.dense(tmp_path / "m.onnx"))
    assert "other files" in on("onnxruntime", "1.31.1", replace(found, external=True)).reason
    assert on("litert", "2.3.0", found).reason == "litert loads tflite, not onnx"
    assert on("tvm", "1.0.0", found).answer == "unknown"


def test_tflite_by_types_though_the_stamp_says_1() -> None:
    old, new = (on(*each, tflite(Operator("", "DEQUANTIZE", 1, ("qint4",), ("float32",)))) for each in TWO)
    assert (old.answer, new.answer) == ("refused", "loads")
    assert "DEQUANTIZE with qint4" in old.reason


TWO = (("tflite", "2.14.0"), ("litert", "2.3.0"))


def test_tflite_by_stamp() -> None:
    add = Operator("", "ADD", 6, ("float32", "float32"), ("float32",))
    assert [on(*each, tflite(add)).answer for each in TWO] == ["refused", "loads"]
    verdict = on("litert", "2.1.0", tflite(add))
    assert (verdict.reason, verdict.fix.endswith("install litert >= 2.2")) == (
        "ADD version 6 needs litert >= 2.2",
        True,
    )


def test_flex_and_custom_operators_are_refused_those_of_the_runtime_are_not() -> None:
    flex, custom = (
        on("litert", "2.3.0", tflite(**{kind: (name,)})) for kind, name in (("flex", "FlexErf"), ("custom", "Mine"))
    )
    assert "Flex delegate" in flex.reason and flex.answer == custom.answer == "refused"
    assert on("litert", "2.3.0", tflite(custom=("TFLite_Detection_PostProcess",))).answer == "loads"


def test_what_was_not_measured_is_unknown() -> None:
    verdict = on("litert", "2.3.0", tflite(Operator("", "WHILE", 1, ("int32",), ("int32",))))
    assert (verdict.answer, verdict.reason) == ("unknown", "WHILE with int32: was not measured")


def test_one_refusal_stands_before_what_is_unknown() -> None:
    both = (Operator("", "WHILE", 1, ("int32",), ("int32",)), Operator("", "ADD", 99, ("float32",) * 2, ("float32",)))
    verdict = on("litert", "2.3.0", tflite(*both))
    assert (verdict.answer, len(verdict.findings)) == ("refused", 2)


@pytest.mark.parametrize(
    ("opset", "ir_version", "needs"), [(13, 8, ">=1.16"), (20, 9, ">=1.17"), (23, 11, ">=1.23"), (27, 13, None)]
)
def test_the_range_that_an_artifact_needs(opset: int, ir_version: int, needs: str | None) -> None:
    found = fingerprint_onnx.of_model(parsed("y = Relu(x)", opset=opset, ir_version=ir_version))
    assert compat.needs(found, "onnxruntime") == needs
    assert compat.needs(found, "litert") is None


@pytest.mark.parametrize(
    ("versions", "answer"),
    [
        (">=1.16", "loads"),
        (">=1.16,<1.20", "refused"),
        ("==1.21.1", "loads"),
        (">1.20.1, <= 1.22.1, !=1.21.1", "loads"),
        (">=1.99", "unknown"),
        ("~=1.16", "unknown"),
    ],
)
def test_a_range_loads_what_any_release_in_it_does(versions: str, answer: str) -> None:
    found = fingerprint_onnx.of_model(parsed("y = Relu(x)", opset=22, ir_version=10))
    verdict = compat.within(found, "onnxruntime", versions)
    assert verdict.answer == answer
    if answer == "refused":
        assert verdict.reason == "opset 22 needs onnxruntime >= 1.21"


def test_a_range_is_narrowed_only_where_it_lets_in_what_does_not_load() -> None:
    found = fingerprint_onnx.of_model(parsed("y = Relu(x)", opset=22, ir_version=10))
    ranges = {">=1.19,<1.24": ">=1.19,<1.24,>=1.21", ">=1.22": ">=1.22", "": ">=1.21"}
    assert {each: compat.narrowed(found, "onnxruntime", each) for each in ranges} == ranges
    assert compat.narrowed(found, "litert", ">=2.1") == ">=2.1"


def test_versions() -> None:
    assert [number(each) for each in ("1.2", "1.20.1+cu126", "2.3.0.dev1", "x")] == [
        (1, 2, 0),
        (1, 20, 1),
        (2, 3, 0),
        None,
    ]


def test_the_tables_name_each_kernel_once_and_cover_the_releases() -> None:
    releases = [release.version for release in ort_kernels.releases()]
    assert [number(each) for each in releases] == sorted(number(each) or (0, 0, 0) for each in releases)
    relu = Operator("", "Relu", 14, ("float",), ("float",))
    assert all(ort_kernels.has(relu, at) for at in range(len(releases)))
    assert ort_kernels.has(replace(relu, inputs=("?",), outputs=("?",)), 0) is None
    add = Operator("", "ADD", 1, ("float32", "float32"), ("float32",))
    assert all(tflite_kernels.ran(add, at) for at in range(len(tflite_kernels.runtimes())))


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ("y = Relu(x)", 17),
        ("t = Cast<to=10>(x) u = Sin(t) y = Cast<to=1>(u)", 17),
        ("t = Cast<to=5>(x) u = Relu(t) y = Cast<to=1>(u)", 17),
        ("t = Cast<to=11>(x) u = LeakyRelu(t) y = Cast<to=1>(u)", 16),
        ("t = Cast<to=11>(x) u = LeakyRelu(t) y = Cast<to=1>(u)", 25),
        ("y = com.microsoft.QuickGelu(x)", 17),
        ("y = com.microsoft.NoSuchThing(x)", 17),
    ],
)
def test_the_installed_onnxruntime_does_what_is_said(body: str, opset: int) -> None:
    model = parsed(body, opset, 13 if opset > 20 else 8, "com.microsoft" if "microsoft" in body else "")
    verdict = compat.judge(fingerprint_onnx.of_model(model), Engine("onnxruntime", metadata.version("onnxruntime")))
    try:
        ort.load(model.SerializeToString(), EngineOptions()).run({"x": np.ones((1, 4), np.float32)})
        assert verdict.answer == "loads"
    except EngineError:
        assert verdict.answer == "refused"


@pytest.mark.parametrize("name", ["resnet8_cifar10/resnet8_cifar10_int8.tflite", "dscnn_kws/dscnn_kws_float32.tflite"])
def test_the_installed_litert_does_what_is_said(name: str) -> None:
    path = models.shared(name)
    verdict = compat.judge(fingerprint.read(path), Engine("litert", metadata.version("ai-edge-litert")))
    litert.load(path.read_bytes(), EngineOptions()).close()
    assert verdict.answer == "loads"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_matrix_of_artifacts_and_engines(tmp_path: Path) -> None:
    """Old engines come from the index; those that cannot be had are left out, and then it is fewer pairs."""
    command = [sys.executable, str(ROOT / "benchmarks" / "compat_matrix.py"), "--output", str(tmp_path / "pairs.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    pairs = json.loads((tmp_path / "pairs.json").read_text())
    assert len(pairs) >= 200 and not any(pair["verdict"] not in ("unknown", pair["outcome"]) for pair in pairs)
