"""Metrics by our names and by Triton's, as Prometheus reads them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit_runtime.bundle import Bundle
from edgekit_server import machine, metrics
from edgekit_server.counts import BOUNDS, Counts
from edgekit_server.http import Refused
from edgekit_server.machine import Conditions
from tests.runtime.bundles import APP, go_live
from tests.runtime.server.halls import Open
from tests.runtime.server.house import CRASH, row

KEY = ('a "quoted" \\ name', "3")
RUNS = {1: Counts(Counter(compute_infer=4)), 2: Counts(Counter(compute_infer=3))}
COUNTS = Counts(
    times=Counter(success=10, fail=7),
    ns=Counter(success=12_345_678, queue=2_000_999, compute_input=1000, compute_infer=3000, compute_output=999),
    samples=11,
    runs=RUNS,
    statuses={200: 10, 400: 1, 499: 1, 500: 1, 503: 2, 504: 1, 404: 1},
    buckets=(3, *[1] * len(BOUNDS)),
    seconds=0.5,
)
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
_SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? ([-+.0-9e]+)")


def read(text: str) -> tuple[dict[str, str], dict[str, float]]:
    """Types by name, and values by sample. The text format 0.0.4, strictly: a sample follows the type of its family."""
    types: dict[str, str] = {}
    values: dict[str, float] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert family not in types
            types[family] = kind
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            assert re.sub("_(bucket|sum|count)$", "", match[1]) == family or match[1] == family
            assert line.rpartition(" ")[0] not in values
            values[line.rpartition(" ")[0]] = float(match[3])
    return types, values


def test_ours() -> None:
    types, values = read(metrics.text([], {KEY: COUNTS}))
    labels = 'model="a \\"quoted\\" \\\\ name",version="3"'
    assert types["edgekit_inference_request_duration_seconds"] == "histogram"
    assert values[f"edgekit_inference_request_duration_seconds_count{{{labels}}}"] == sum(COUNTS.buckets)
    assert values[f'edgekit_inference_requests_total{{{labels},outcome="rejected",status="503"}}'] == 2
    assert not [name for name in types if name.startswith("nv_")]


def test_triton_s() -> None:
    types, values = read(metrics.text([], {KEY: COUNTS}, "triton"))
    labels = 'model="a \\"quoted\\" \\\\ name",version="3"'
    told = {name.partition("{")[0]: value for name, value in values.items() if "failure" not in name}
    assert told == {
        "nv_inference_request_success": 10,
        "nv_inference_count": 11,
        "nv_inference_exec_count": 7,
        "nv_inference_request_duration_us": 12345,
        "nv_inference_queue_duration_us": 2000,
        "nv_inference_compute_input_duration_us": 1,
        "nv_inference_compute_infer_duration_us": 3,
        "nv_inference_compute_output_duration_us": 0,
    }
    failures = {"REJECTED": 3, "CANCELED": 1, "BACKEND": 1, "OTHER": 2}
    for reason, count in failures.items():
        assert values[f'nv_inference_request_failure{{{labels},reason="{reason}"}}'] == count
    assert set(types.values()) == {"counter"}


@pytest.mark.parametrize(("query", "names"), [("", ""), ("a=b", ""), ("names=triton", "triton"), ("names=", "")])
def test_whose_names(query: str, names: str) -> None:
    assert metrics.names(query) == names


def test_names_that_nobody_gave() -> None:
    with pytest.raises(Refused, match="no names of 'other'"):
        metrics.names("names=other")


SENSORS = {
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "48312",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000",
    "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "2400000",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005",
    "sys/class/hwmon/hwmon0/name": "ina219",
    "sys/class/hwmon/hwmon0/power1_input": "4200000",
    "proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 2000000 kB",
}


def board(place: Path) -> Path:
    """A machine that has sensors."""
    for name, said in SENSORS.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{said}\n")
    return place


class TestConditions:
    def told(self, conditions: Conditions) -> dict[str, float]:
        return {f"{name}{labels or ''}": value for _, _, each in conditions.families() for name, labels, value in each}

    def test_in_base_units(self, tmp_path: Path) -> None:
        told = self.told(Conditions(board(tmp_path)))
        assert told["edgekit_device_temperature_celsius"] == 48.312
        assert told["edgekit_device_frequency_hertz"] == 1.5e9
        assert told["edgekit_device_frequency_max_hertz"] == 2.4e9
        assert told["edgekit_device_memory_available_bytes"] == pytest.approx(2e6 * 1024, rel=1e-3)
        assert told["edgekit_device_power_watts"] == 4.2
        assert told["edgekit_device_throttled{'kind': 'under_voltage'}"] == 1
        assert told["edgekit_device_throttled{'kind': 'frequency_capped'}"] == 0

    def test_are_read_no_oftener_than_every_few_seconds(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [1000.0]
        monkeypatch.setattr(machine.time, "monotonic", lambda: clock[0])
        conditions, heat = Conditions(board(tmp_path)), tmp_path / "sys/class/thermal/thermal_zone0/temp"
        seen = []
        for clock[0], celsius in ((1000.0, 40), (1004.9, 50), (1005.1, 60)):
            heat.write_text(f"{celsius}000\n")
            seen.append(self.told(conditions)["edgekit_device_temperature_celsius"])
        assert seen == [40, 40, 60]

    def test_of_a_machine_that_says_nothing(self, tmp_path: Path) -> None:
        assert self.told(Conditions(tmp_path)) == {}


def test_what_there_is_none_of_yet_is_told_as_none() -> None:
    _, values = read(metrics.text([], {("m", "1"): Counts()}))
    outcomes = {re.search('outcome="(.*?)"', name)[1]: n for name, n in values.items() if "requests_total" in name}
    assert outcomes == {"success": 0, "error": 0, "rejected": 0}


def test_the_state_of_what_is_served(moody: Callable[..., Bundle], open_house: Open, home: Path) -> None:
    """A model that cannot be started is not ready, and each attempt is a failure."""
    go_live(moody(2, budget={"max_p95_ms": 50.0}), home)
    house = open_house()
    house.ready()
    _, values = read(metrics.text(house.residents, house.residents.ledger.all()))
    assert values[f'edgekit_model_ready{{model="{APP}"}}'] == 1
    assert values[f'edgekit_model_failures_total{{model="{APP}"}}'] == 0
    assert values[f'edgekit_model_latency_budget_seconds{{model="{APP}",version="2"}}'] == 0.05
    house.answer(row(CRASH))
    resident = house.residents.find(APP)
    house.until(lambda: resident.failed == 1 and resident.serving)
    _, values = read(metrics.text(house.residents, house.residents.ledger.all()))
    assert values[f'edgekit_model_failures_total{{model="{APP}"}}'] == 1
    house.residents.unload(APP)
    house.until(lambda: not resident.workers)
    _, values = read(metrics.text(house.residents, house.residents.ledger.all()))
    assert not [name for name in values if name.startswith("edgekit_model_ready")]
