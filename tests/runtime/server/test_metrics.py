"""Metrics by our names and by Triton's, as Prometheus reads them."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from edgekit_server import metrics
from edgekit_server.counts import BOUNDS, Counts
from edgekit_server.http import Refused

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
