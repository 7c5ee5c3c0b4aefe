"""Alert rules as they are, by Prometheus's own unit tests: each fires when it should, says whom, and not before."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.lab import prometheus as lab

pytestmark = pytest.mark.slow

RULES = files("edgekit.export").joinpath("rules.yml").read_text("utf-8")
DEVICE = 'device="kitchen",site="berlin",job="edgekit",instance="kitchen:8000"'
MODEL = f'{DEVICE},model="digits",version="3"'
BUCKETS = "edgekit_inference_request_duration_seconds_bucket"


@dataclass(frozen=True)
class Case:
    """``series``: values a minute apart by name, in promtool's words (``0+6x60``: 60 times 6 more)."""

    alert: str
    series: dict[str, str]
    at: str
    quiet_at: str


def of(metric: str, *labels: str, by: str = DEVICE) -> str:
    return f"{metric}{{{','.join((by, *labels))}}}"


def requests(outcome: str, status: int, values: str) -> dict[str, str]:
    return {of("edgekit_inference_requests_total", f'outcome="{outcome}"', f'status="{status}"', by=MODEL): values}


CASES = [
    Case("EdgekitDown", {of("up"): "1x10 0x20"}, "17m", "14m"),
    Case("EdgekitRestarts", {of("process_start_time_seconds"): "1x10 2x5 3x5 4x20"}, "25m", "20m"),
    Case("EdgekitModelNotReady", {of("edgekit_model_ready", 'model="digits"'): "1x10 0x20"}, "14m", "12m"),
    Case("EdgekitModelFails", {of("edgekit_model_failures_total", 'model="digits"'): "0x10 1x10 3x20"}, "25m", "15m"),
    Case("EdgekitModelDegraded", {of("edgekit_model_degraded", by=MODEL): "0x10 1x20"}, "17m", "14m"),
    Case(
        "EdgekitErrors",
        {**requests("success", 200, "0+600x60"), **requests("error", 500, "0x20 0+30x40")},
        "30m",
        "20m",
    ),
    Case(
        "EdgekitRejects",
        {**requests("success", 200, "0+600x60"), **requests("rejected", 503, "0x20 0+60x40")},
        "30m",
        "20m",
    ),
    Case(
        "EdgekitQueue", {of("edgekit_inference_queue_length", 'model="digits"'): "0 9 0 9 0 9 9 9 9 9x20"}, "20m", "8m"
    ),
    Case(
        "EdgekitSlow",
        {
            of(BUCKETS, 'le="0.05"', by=MODEL): "0+600x20 12000x40",
            of(BUCKETS, 'le="0.1"', by=MODEL): "0+600x60",
            of(BUCKETS, 'le="+Inf"', by=MODEL): "0+600x60",
            of("edgekit_model_latency_budget_seconds", by=MODEL): "0.05x60",
        },
        "40m",
        "20m",
    ),
    Case("EdgekitHot", {of("edgekit_device_temperature_celsius"): "60x10 84x20"}, "22m", "18m"),
    Case("EdgekitThrottled", {of("edgekit_device_throttled", 'kind="throttled"'): "0x15 1x20"}, "20m", "16m"),
    Case("EdgekitMemory", {of("edgekit_device_memory_available_bytes"): "2e9x10 3e7x20"}, "22m", "18m"),
]


@pytest.fixture(scope="module", autouse=True)
def promtool() -> None:
    lab.needed()


def rules() -> Iterator[str]:
    for line in RULES.splitlines():
        if line.strip().startswith("- alert: "):
            yield line.partition(": ")[2]


def fired(series: dict[str, str], moments: Sequence[str], folder: Path) -> tuple[dict[str, set[str]], str]:
    """Which alerts fire at each of these moments, as promtool tells that it had expected none; and all that it says."""
    (folder / "rules.yml").write_text(RULES)
    given = [{"series": name, "values": values} for name, values in series.items()]
    asked = [{"eval_time": at, "alertname": name, "exp_alerts": []} for name in rules() for at in moments]
    test = {"interval": "1m", "input_series": given, "alert_rule_test": asked}
    (folder / "test.yml").write_text(json.dumps({"rule_files": ["rules.yml"], "tests": [test]}))
    words = [lab.TOOL, "test", "rules", "test.yml"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    found = re.findall(r"alertname: (\w+), time: (\w+)", said)
    assert bool(found) == bool(done.returncode), said
    return {at: {name for name, when in found if when == at} for at in moments}, said


def test_there_is_a_case_for_each() -> None:
    assert [case.alert for case in CASES] == list(rules())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_fires_in_time_and_alone(case: Case, tmp_path: Path) -> None:
    found, said = fired(case.series, (case.quiet_at, case.at), tmp_path)
    assert found == {case.quiet_at: set(), case.at: {case.alert}}
    assert all(word in said for word in ('device="kitchen"', 'site="berlin"', "kitchen: "))  # labels and summary
    assert "<no value>" not in said


def test_nothing_fires_where_all_is_well(tmp_path: Path) -> None:
    well: dict[str, Any] = {
        of("up"): "1x60",
        of("process_start_time_seconds"): "1x60",
        of("edgekit_model_ready", 'model="digits"'): "1x60",
        of("edgekit_model_failures_total", 'model="digits"'): "0x60",
        of("edgekit_inference_queue_length", 'model="digits"'): "0 20 0 20 1x60",
        of("edgekit_device_temperature_celsius"): "70x60",
        of("edgekit_device_throttled", 'kind="throttled"'): "0x58 1 0",
        of("edgekit_device_memory_available_bytes"): "2e9x60",
        **requests("success", 200, "0+600x60"),
        **requests("error", 500, "0+1x60"),
        **requests("invalid", 400, "0+600x60"),
    }
    assert fired(well, ("20m", "60m"), tmp_path)[0] == {"20m": set(), "60m": set()}
