"""The store's windows, sent to a real OTLP receiver over HTTP: decoded there by OpenTelemetry's own messages."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgekit.cli.export import export
from edgekit.errors import EdgekitError, ExtraNotInstalled
from edgekit.export import otlp, otlp_points
from edgekit.store import Clock, Store
from edgekit_runtime import histogram
from edgekit_runtime.windows import EMULATED, Window
from tests.lab.databases import postgresql, postgresql_url, sqlite_url, url
from tests.lab.project import until

__all__ = ["postgresql", "postgresql_url", "sqlite_url", "url"]  # fixtures

NOW = time.time() - 120
RELEASE = "sha256:" + "a" * 64
TIMES_NS = [int(2e6 * 1.03**n) for n in range(60)]
WINDOW = Window(
    "digits",
    RELEASE,
    "0f" * 16,
    0,
    NOW - 60,
    NOW,
    {index: sum(histogram.index(ns) == index for ns in TIMES_NS) for index in map(histogram.index, TIMES_NS)},
    {"invalid_input": 2},
    {"infer": {600: 7}},
    {"cache_hits": 3, "of_its_own": 9},
    {"temperature_c": 61.5, "frequency_mhz": 1500.0, "throttled": 1.0, "of_its_own": 5.0},
)


@dataclass
class Receiver:
    """``refusals``: what it answers first."""

    port: int = 0
    refusals: list[int] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    requests: list[ExportMetricsServiceRequest] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        body = await request.body()
        self.headers.append(dict(request.headers))
        if self.refusals:
            return Response(status_code=self.refusals.pop(0), headers={"Retry-After": "0"})
        self.requests.append(ExportMetricsServiceRequest.FromString(body))
        return Response(ExportMetricsServiceResponse().SerializeToString(), media_type="application/x-protobuf")

    def points(self, name: str) -> list[tuple[dict[str, str], Any]]:
        """Of a metric, with what their resources are."""
        return [
            (_attributes(resource.resource), point)
            for request in self.requests
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in getattr(metric, metric.WhichOneof("data")).data_points
        ]


def _attributes(what: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in what.attributes}


@pytest.fixture(scope="module")
def listening() -> Iterator[Receiver]:
    found = Receiver()
    app = Starlette(routes=[Route("/v1/metrics", found.take, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        found.port = server.servers[0].sockets[0].getsockname()[1]
        yield found
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def receiver(listening: Receiver, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """One that has got nothing yet."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{listening.port}")
    for each in (listening.refusals, listening.headers, listening.requests):
        each.clear()
    return listening


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store(url) as found:
        yield found


def keep(store: Store, *windows: Window, device: str = "kitchen", now_s: float = NOW) -> None:
    store.add(device, windows, Clock(now_s, now_s))


def sent(store: Store) -> int:
    return sum(otlp.send(store, time.time()))


def test_what_a_receiver_gets(store: Store, receiver: Receiver) -> None:
    keep(store, WINDOW)
    assert sent(store) == 1
    [(resource, calls)] = receiver.points("edgekit.inference.duration")
    assert resource == {
        "service.name": "digits",
        "service.version": RELEASE,
        "service.instance.id": "kitchen",
        "host.name": "kitchen",
    }
    assert calls.time_unix_nano - calls.start_time_unix_nano == pytest.approx(60e9)
    assert (calls.count, sum(calls.positive.bucket_counts)) == (60, 60)
    assert calls.sum == pytest.approx(sum(TIMES_NS) / 1e9, rel=0.01)
    [(_, stage)] = receiver.points("edgekit.inference.stage.duration")
    assert (_attributes(stage), stage.count) == ({"edgekit.stage": "infer"}, 7)
    [(_, errors)] = receiver.points("edgekit.inference.errors")
    assert (_attributes(errors), errors.as_int) == ({"error.type": "invalid_input"}, 2)
    [(_, hits)] = receiver.points("edgekit.cache.hits")
    assert hits.as_int == 3
    [(_, heat)] = receiver.points("hw.temperature")
    assert (_attributes(heat), heat.as_double) == ({"hw.id": "soc"}, 61.5)
    [(_, speed)] = receiver.points("hw.cpu.speed")
    assert speed.as_double == 1.5e9
    [(_, throttled)] = receiver.points("edgekit.device.throttled")
    assert (_attributes(throttled), throttled.as_double) == ({"edgekit.kind": "throttled"}, 1.0)
    names = {
        m.name for r in receiver.requests for each in r.resource_metrics for s in each.scope_metrics for m in s.metrics
    }
    assert not any("of_its_own" in name or "its.own" in name for name in names)


def test_percentiles_are_within_two_in_a_hundred(store: Store, receiver: Receiver) -> None:
    keep(store, WINDOW)
    sent(store)
    [(_, calls)] = receiver.points("edgekit.inference.duration")
    base, counts = 2 ** (2**-calls.scale), calls.positive.bucket_counts
    middles = [2 * base ** (calls.positive.offset + place + 1) / (base + 1) for place in range(len(counts))]
    told = [middle for middle, number in zip(middles, counts, strict=True) for _ in range(number)]
    assert told == pytest.approx([ns / 1e9 for ns in TIMES_NS], rel=0.0165)


class TestOnce:
    def test_each_window(self, store: Store, receiver: Receiver) -> None:
        keep(store, *(replace(WINDOW, seq=seq) for seq in range(3)))
        assert [sent(store), sent(store)] == [3, 0]
        keep(store, replace(WINDOW, seq=3), now_s=NOW + 1)
        assert sent(store) == 1
        assert len(receiver.points("edgekit.inference.duration")) == 4

    def test_of_a_device_that_was_away_for_weeks(self, store: Store, receiver: Receiver) -> None:
        keep(store, WINDOW)
        assert sent(store) == 1
        keep(
            store, replace(WINDOW, session="e0", start_s=NOW - 1e6, end_s=NOW - 1e6 + 60), device="shed", now_s=NOW + 1
        )
        assert sent(store) == 1
        [_, (resource, late)] = receiver.points("edgekit.inference.duration")
        assert (resource["host.name"], late.time_unix_nano / 1e9) == ("shed", pytest.approx(NOW - 1e6 + 60))

    def test_in_parts(self, store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(otlp, "TOGETHER", 2)
        keep(store, *(replace(WINDOW, seq=seq) for seq in range(5)))
        assert list(otlp.send(store, time.time())) == [2, 2, 1]

    def test_what_was_not_taken_is_sent_again(self, store: Store, receiver: Receiver, monkeypatch: Any) -> None:
        monkeypatch.setattr(otlp, "TOGETHER", 2)
        keep(store, *(replace(WINDOW, seq=seq) for seq in range(4)))
        parts = otlp.send(store, time.time())
        assert next(parts) == 2
        receiver.refusals.append(400)
        with pytest.raises(EdgekitError, match=r"does not take it: .*400"):
            next(parts)
        assert sent(store) == 2
        assert len(receiver.points("edgekit.inference.duration")) == 4

    def test_to_each_endpoint(self, store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        keep(store, WINDOW)
        assert sent(store) == 1
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"http://127.0.0.1:{receiver.port}/v1/metrics")
        assert [sent(store), sent(store)] == [1, 0]

    def test_not_yet_what_may_still_be_coming(self, store: Store, receiver: Receiver) -> None:
        keep(store, WINDOW, now_s=time.time())
        assert sent(store) == 0


def test_a_receiver_that_is_busy_is_asked_again(store: Store, receiver: Receiver) -> None:
    keep(store, WINDOW)
    receiver.refusals += [503, 429]
    assert sent(store) == 1
    assert (len(receiver.headers), len(receiver.requests)) == (3, 1)


def test_an_emulator_s_times_are_no_latencies(store: Store, receiver: Receiver) -> None:
    keep(store, replace(WINDOW, session=EMULATED + "0f" * 16))
    assert (sent(store), receiver.requests) == (1, [])


def test_the_environment_is_heard(store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=field")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "cameras")
    keep(store, WINDOW)
    sent(store)
    [(resource, _)] = receiver.points("edgekit.inference.duration")
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("cameras", "field")
    assert receiver.headers[0]["api-key"] == "secret"


def test_drift_against_what_the_build_saw(store: Store, receiver: Receiver) -> None:
    """Of windows that have too few counts each; and nothing is told of what there was expected."""
    seen = {"confidence:y": (90, 10), "expected:confidence:y": (5000, 5000)}
    keep(store, *(replace(WINDOW, seq=seq, drift=seen) for seq in range(3)))
    sent(store)
    [(_, point)] = receiver.points("edgekit.drift")
    assert _attributes(point) == {"edgekit.value": "confidence:y"}
    assert point.as_double == pytest.approx(0.88, abs=0.02)  # 0.4 ln 1.8 - 0.4 ln 0.2


class TestCommand:
    def test_says_what_it_sent(
        self, store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        monkeypatch.setenv("EDGEKIT_STORE", url)
        keep(store, WINDOW)
        done = CliRunner().invoke(export, ["otlp"])
        assert done.stdout.splitlines()[-1] == f"http://127.0.0.1:{receiver.port}: 1 window"
        assert CliRunner().invoke(export, ["otlp", "--json"]).stdout.endswith('"windows": 0}\n')

    def test_sends_nothing_where_it_must_not(
        self, store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        monkeypatch.setenv("EDGEKIT_STORE", url)
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        keep(store, WINDOW)
        assert CliRunner().invoke(export, ["otlp"]).exit_code == 0
        assert receiver.headers == []


def test_without_the_extra_one_is_told_how_to_get_it(store: Store, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("EDGEKIT_STORE", url)
    monkeypatch.delitem(sys.modules, "edgekit.export.otlp")
    monkeypatch.delattr("edgekit.export.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.metric_exporter", None)
    error = CliRunner().invoke(export, ["otlp"]).exception
    assert isinstance(error, ExtraNotInstalled)
    assert error.hint == "pip install 'edgekit-sdk[otel]'"


def test_names_are_those_of_the_semantic_conventions() -> None:
    from opentelemetry.semconv._incubating.metrics import hw_metrics

    known = {value for key, value in vars(hw_metrics).items() if key.startswith("HW_")}
    ours = {name for name, _, _ in otlp_points._CONDITIONS.values() if name.startswith("hw.")}
    assert ours
    assert ours <= known
