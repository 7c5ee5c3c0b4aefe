"""A build that learns from the fleet: what devices measured decides, and the reasons and numbers are told."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit import fleet
from edgekit.advice.serving import Served
from edgekit.advice.serving_store import Servings
from edgekit.budget import Budget
from edgekit.building import guard
from edgekit.building.latency import Latency
from edgekit.building.learning import OnDevices
from edgekit.building.measure import Measured
from edgekit.fleet import Device
from edgekit.store import Clock, Store
from edgekit_runtime.bundle import open_layout
from edgekit_runtime.histogram import index
from edgekit_runtime.windows import Window
from tests.lab.bundles import DIGITS
from tests.lab.project import document, edgekit, project

__all__ = ["project"]  # a fixture

PI = "raspberry-pi-4"
DATA = ("--calibration", str(DIGITS / "calibration.npz"), "--evaluation", str(DIGITS / "evaluation.npz"))
BUILD = ("build", str(DIGITS / "digits.onnx"), "--target", PI, "--app", "digits", *DATA)


def at(ms: float, devices: int = 3) -> OnDevices:
    return OnDevices(Latency(ms, 2 * ms, 0.98 * ms, 1.02 * ms), devices, 1000 * devices)


def candidate(precision: str, host_ms: float, known: OnDevices | None, size: int = 100) -> Measured:
    latency = Latency(host_ms, host_ms, host_ms, host_ms)
    return Measured(
        f"onnx-{precision}", "onnx", "onnxruntime", precision, size, 100, 1.0, None, 0.0, latency, on_devices=known
    )


class TestChoose:
    FLOAT, INT8 = candidate("float32", 2.0, at(10)), candidate("int8", 1.0, at(18), 30)
    HALF = candidate("float16", 1.5, None, 60)
    ORDER = ["int8", "float16", "float32"]

    def choose(
        self, *candidates: Measured, comparable: bool = False, **budget: float
    ) -> tuple[str | None, guard.Verdict]:
        best, verdict = guard.choose(candidates, Budget(**budget), self.ORDER, comparable)
        return None if best is None else candidates[best].precision, verdict

    @pytest.mark.parametrize("comparable", [True, False])
    def test_what_devices_measured_goes_before_the_host_and_before_the_order(self, comparable: bool) -> None:
        best, verdict = self.choose(self.FLOAT, self.INT8, self.HALF, comparable=comparable)
        assert best == "float32"
        [why] = verdict.reasons
        assert why.startswith("onnx-int8: 1.80 times as slow as onnx-float32 on devices of the target: ")
        assert why.endswith("target: 18 ms of 3000 calls on 3 devices, against 10 ms of 3000 calls on 3 devices")
        assert verdict.notes[-1] == "not considered, for no device of the target has run it: onnx-float16"

    def test_of_what_is_about_as_fast_the_smallest(self) -> None:
        assert self.choose(self.FLOAT, replace(self.INT8, on_devices=at(10.5)))[0] == "int8"

    def test_one_alone_is_no_comparison(self) -> None:
        assert self.choose(replace(self.FLOAT, on_devices=None), self.INT8)[0] == "int8"

    def test_the_budget_is_held_against_what_devices_measured(self) -> None:
        best, verdict = self.choose(self.FLOAT, self.INT8, max_p95_ms=25.0)
        assert best == "float32"
        assert "onnx-int8: p95 is 36.000 ms on 3 devices, allowed are 25" in verdict.reasons
        assert "max_p95_ms was not judged" not in verdict.notes
        assert self.choose(self.FLOAT, self.INT8, max_p95_ms=15.0)[0] is None


@pytest.fixture
def poles(project: Path) -> list[str]:
    """The names of three Pis of the fleet."""
    names = [f"pole-{i}" for i in range(3)]
    for name in names:
        fleet.add(project, Device(name, f"ssh://pi@{name}", PI))
    return names


def measured(names: list[str], precision: str, ms: float, letter: str, *, live: bool = False) -> None:
    """What three poles told of a release that they have served."""
    release, now = "sha256:" + letter * 64, time.time()
    served = Served(
        "", "digits", release, PI, "onnx", precision, "onnxruntime", 4, live, host_p50_ms=0.02, base_p50_ms=0.03
    )
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        for i, name in enumerate(names):
            buckets = {index(int(ms * 1e6 * (1 + i / 50))): 1000}
            window = Window("digits", release, letter, 0, now - 100, now - 40, buckets)
            store.add(name, [window], Clock(now, now))
            Servings(store).note([replace(served, device=name)])


def made() -> dict[str, Any]:
    return document(*BUILD, "--learn-from", "fleet")


def chosen(told: dict[str, Any]) -> str:
    return next(str(one["name"]) for one in told["candidates"] if one["chosen"])


@pytest.mark.slow
class TestBuild:
    def test_int8_that_is_slower_on_the_fleets_pis_makes_the_next_build_float(self, poles: list[str]) -> None:
        assert chosen(document(*BUILD)) == "onnx-int8"
        measured(poles, "float32", 10.0, "a")
        measured(poles, "int8", 18.0, "b", live=True)
        told = made()
        assert chosen(told) == "onnx-float32"
        [why] = [line for line in told["verdict"]["reasons"] if "on devices" in line]
        assert why.startswith("onnx-int8: 1.8")
        assert "times as slow as onnx-float32 on devices of the target: " in why
        assert "of 3000 calls on 3 devices" in why
        assert [(each["precision"], each["devices"]) for each in told["learned"]] == [
            ("float32", poles),
            ("int8", poles),
        ]
        manifest = open_layout(Path(told["bundle"]))[0].manifest
        assert manifest.precision == "float32"
        assert not any(name in str(manifest) for name in poles)  # who measured it is nobody's business who gets it

        [line] = [each for each in document("advise")["apps"][0]["advice"] if each["what"] == "candidate"]
        assert (line["before"], line["after"]) == ("onnx-int8 by onnxruntime", "onnx-float32 by onnxruntime")
        assert (line["changes"], line["sure"]) == (True, "3 devices")
        person = edgekit("advise", f"target={PI}").stdout
        assert (
            f"digits on {PI}: candidate: onnx-int8 by onnxruntime → onnx-float32 by onnxruntime (3 devices)" in person
        )

    def test_without_calls_enough_it_is_built_as_ever_and_said(self, poles: list[str]) -> None:
        told = made()
        assert (chosen(told), told["learned"]) == ("onnx-int8", [])
        assert edgekit("advise").stdout == "no device has reported a call that says how fast it is: edgekit report\n"
