"""The clock over an open transport; the device's own part is in tests/runtime/test_timing.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit import target, timing
from edgekit.build import build
from edgekit.building.latency import latency_of
from edgekit.errors import DeviceError, EngineError
from edgekit.model import open_model
from edgekit.timing import DeviceClock
from edgekit.transports import Completed
from edgekit_runtime import manifest
from tests.lab.bundles import contents
from tests.lab.models import DIGITS, digits_order


class Link:
    """A transport to a folder, whose runtime answers as told; the real way is walked in tests/flow/test_journey.py."""

    def __init__(self, folder: Path, answer: dict[str, Any], *, emulated: bool = False) -> None:
        self.folder, self.answer, self.emulated = folder, answer, emulated
        self.sent: dict[str, bytes] = {}

    def run(self, argv: Any, *, stdin: bytes = b"", timeout_s: float = 0.0) -> Completed:
        words = list(argv)
        if words[-1] == "-":  # the probe, on its standard input
            return Completed((), 0, json.dumps({"home": "/home", "emulated": self.emulated}).encode(), b"")
        if "time" in words:
            return Completed((), 0, json.dumps(self.answer).encode(), b"")
        if words[0] == "rm":
            self.sent["removed"] = words[-1].encode()
        return Completed((), 0, b"", b"")

    def put(self, source: Path, destination: str, **more: Any) -> None:
        self.sent[destination.rpartition("/")[2]] = source.read_bytes()


def test_candidates_are_sent_timed_and_taken_away(tmp_path: Path) -> None:
    link = Link(
        tmp_path, {"models": {"000": {"times_ns": [5, 6]}, "001": {"error": {"code": "engine", "message": "m"}}}}
    )
    first, second = DeviceClock("kitchen", link)([contents(), contents()])  # type: ignore[arg-type]
    assert first == [5, 6]
    assert isinstance(second, EngineError)
    assert link.sent["000.model"] == link.sent["001.model"] == contents().model
    assert link.sent["000.json"] == manifest.dump(contents().manifest)
    assert link.sent["removed"].startswith(b"/home/time-")


def test_an_emulator_s_times_are_not_asked_for(tmp_path: Path) -> None:
    link = Link(tmp_path, {}, emulated=True)
    with pytest.raises(DeviceError, match="kitchen is emulated: its times are no latencies"):
        DeviceClock("kitchen", link)([contents()])  # type: ignore[arg-type]
    assert link.sent == {}


@pytest.mark.parametrize(
    "answer", [{}, {"models": {}}, {"models": {"000": {}}}, {"models": {"000": {"times_ns": []}}}, {"models": []}]
)
def test_times_that_cannot_be_used_are_the_devices_fault(tmp_path: Path, answer: dict[str, Any]) -> None:
    link = Link(tmp_path, answer)
    with pytest.raises(DeviceError, match="the times that the device sent are unusable|answers without"):
        DeviceClock("kitchen", link)([contents()])  # type: ignore[arg-type]
    assert "removed" in link.sent


class Clock:
    device = "kitchen"

    def __init__(self, *told: Any) -> None:
        self.told = told

    def __call__(self, candidates: Any) -> list[Any]:
        return list(self.told[: len(candidates)])


class TestBuild:
    def build(self, *told: Any) -> Any:
        order = replace(digits_order(), clock=Clock(*told))
        return build(open_model(DIGITS / "digits.onnx"), target.load("pi"), order, lambda line: None)

    @pytest.mark.slow
    def test_its_times_decide_though_this_host_is_of_another_architecture(self) -> None:
        for times, chosen in (
            (([10**6] * 50, [5 * 10**5] * 50), "onnx-int8"),
            (([10**6] * 50,) + ([10**8] * 50,) * 9, "onnx-float32"),
        ):
            outcome = self.build(*times)
            assert [each.name for each in outcome.measured if each.chosen] == [chosen]
            assert outcome.measured[0].latency_ms == latency_of([10**6] * 50)
            assert "latency was measured on kitchen" in outcome.verdict.notes

    @pytest.mark.slow
    def test_what_does_not_run_there_does_not_ship(self) -> None:
        outcome = self.build([10**6] * 50, *[EngineError("no kernel")] * 9)
        assert [each.name for each in outcome.measured] == ["onnx-float32"]
        assert "onnx-int8: no kernel" in outcome.verdict.reasons

    def test_where_the_float_model_does_not_run_there_is_nothing_to_compare_with(self) -> None:
        with pytest.raises(EngineError, match="no engine"):
            self.build(EngineError("no engine"), [1], [1])


def test_the_clock_waits_long_enough_for_every_candidate() -> None:
    from edgekit_runtime.timing import LONGEST_S

    assert timing.TIMEOUT_S > 20 * LONGEST_S
