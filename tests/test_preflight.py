"""Preflight: what a device's facts let through, and what they stop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgekit.compat import preflight
from edgekit.compat.fingerprint import Fingerprint, Memory, Operator
from edgekit.errors import EngineNotInstalled, IncompatibleTarget
from edgekit.model import Format
from edgekit_postprocess import Postprocess
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.tensors import TensorSpec

RELU = Fingerprint(Format.ONNX, (Operator("", "Relu", 14, ("float",), ("float",)),), 8, (("", 21),))
ENGINES = (EngineNeed("litert"), EngineNeed("onnxruntime", ">=1.16"))


def facts(**engines: str | None) -> dict[str, Any]:
    return {"engines": {name.replace("_", "-"): version for name, version in engines.items()}, "memory_mib": 512}


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        ({"onnxruntime": "1.18.1"}, "loads"),
        ({"onnxruntime_gpu": "1.23.0"}, "loads"),
        ({"onnxruntime": None}, "unknown"),
    ],
)
def test_what_may_go(found: dict[str, str | None], answer: str) -> None:
    assert preflight.check("kitchen", RELU, ENGINES, facts(**found)).answer == answer


def test_a_refusal_names_the_device_the_engine_the_reason_and_what_helps() -> None:
    with pytest.raises(IncompatibleTarget) as error:
        preflight.check("kitchen", RELU, ENGINES, facts(onnxruntime="1.16.3"))
    assert error.value.message == "kitchen: has onnxruntime 1.16.3: opset 21 needs onnxruntime >= 1.18"
    assert "rebuild with opset 19" in (error.value.hint or "") and "edgekit device setup kitchen" in (
        error.value.hint or ""
    )


def test_the_first_engine_that_is_there_counts() -> None:
    with pytest.raises(IncompatibleTarget, match="litert loads tflite, not onnx"):
        preflight.check("kitchen", RELU, ENGINES, facts(onnxruntime="1.23.2", ai_edge_litert="2.3.0"))


def test_a_model_that_cannot_fit_into_memory_is_stopped() -> None:
    with pytest.raises(IncompatibleTarget, match="has 512 MiB of memory, the model needs at least 601"):
        large = replace(RELU, memory=Memory(600 << 20, 1))
        preflight.check("kitchen", large, ENGINES, facts(onnxruntime="1.23.2"))


def test_memory_that_is_not_free_is_told_and_stops_nothing() -> None:
    large, busy = replace(RELU, memory=Memory(100 << 20, 1)), {"memory_available_mib": 90}
    assert preflight.tight(large, busy) == "the model needs at least 101 MiB of memory, 90 are free on the device now"
    assert preflight.tight(large, {"memory_available_mib": 101}) is None
    assert preflight.tight(large, {"memory_available_mib": None}) is None
    assert preflight.tight(RELU, busy) is None


class TestEndOfADetector:
    """Computed by ``edgekit_postprocess``, or judged by its boxes."""

    PLAIN = Interface((TensorSpec("x", "float32", (1, 3)),), (TensorSpec("y", "float32", (1, 3)),))
    COMPUTED = replace(PLAIN, postprocess=Postprocess((TensorSpec("y", "float32", (1, 3)),), ()))
    JUDGED = replace(PLAIN, agreement={"y": Agreement("boxes")})

    @pytest.mark.parametrize("interface", [COMPUTED, JUDGED], ids=["computed", "judged"])
    def test_it_is_stopped_where_nothing_computes_it(self, interface: Interface) -> None:
        with pytest.raises(IncompatibleTarget) as error:
            preflight.check_ends("kitchen", interface, {"postprocess": False})
        assert error.value.message == (
            "kitchen: the bundle has the end of a detector, and edgekit-postprocess is not installed there"
        )
        assert error.value.hint == "edgekit device setup kitchen"

    @pytest.mark.parametrize("facts", [{"postprocess": True}, {}], ids=["there", "an older runtime"])
    def test_it_goes_elsewhere(self, facts: dict[str, Any]) -> None:
        preflight.check_ends("kitchen", self.COMPUTED, facts)
        preflight.check_ends("kitchen", self.PLAIN, {"postprocess": False})


class TestEngineThatIsMissing:
    def test_it_is_known_before_anything_is_sent(self) -> None:
        with pytest.raises(EngineNotInstalled) as error:
            preflight.check_engines("kitchen", ENGINES, {"engine_modules": ["tflite_runtime"]})
        assert error.value.message == "kitchen: the model needs litert or onnxruntime, which is not installed there"
        assert error.value.hint == "edgekit device setup kitchen --engine litert"

    @pytest.mark.parametrize(
        ("engines", "facts"),
        [
            pytest.param(ENGINES, {"engine_modules": ["onnxruntime"]}, id="whoever built it"),
            pytest.param((EngineNeed("own"), *ENGINES), {"engine_modules": []}, id="one of a plug-in"),
            pytest.param(ENGINES, {}, id="an older probe"),
        ],
    )
    def test_it_is_there_or_the_device_has_to_say(self, engines: tuple[EngineNeed, ...], facts: dict[str, Any]) -> None:
        preflight.check_engines("kitchen", engines, facts)
