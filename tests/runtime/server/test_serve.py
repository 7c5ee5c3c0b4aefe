"""The whole server: a process that is started as on a device, asked over HTTP, and ended."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit_runtime import switches
from edgekit_runtime.errors import InvalidInput
from edgekit_server import serve
from edgekit_server.serve import Place
from tests.lab.ports import free_port
from tests.lab.project import until
from tests.runtime.bundles import APP, Parcels, go_live, samples, weights

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Server:
    """A server that runs; ``log`` is its standard error."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            data = answer.read()
            told = {name.lower(): text for name, text in answer.getheaders()}
            return answer.status, json.loads(data) if told.get("content-type") == "application/json" else data, told
        finally:
            connection.close()

    @property
    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return list(map(int, children.split()))

    def takes(self) -> tuple[list[float], int]:
        """MiB that the front and its only worker have resident, and the front's descriptors."""
        pids = [self.process.pid, *self.workers]
        sizes = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) / 256 for pid in pids]
        return sizes, len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def sockets(self) -> int:
        """Of the only worker."""
        files = Path(f"/proc/{self.workers[0]}/fd").iterdir()
        return sum("socket:" in str(file.readlink()) for file in files)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextmanager
def running(folder: Path, *words: str) -> Iterator[Server]:
    port, log = free_port(), folder / "server.log"
    command = [sys.executable, "-m", "edgekit_runtime", "serve", "--listen", str(port), *words]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        server = Server(process, port, log)
        try:
            until(lambda: "serving at" in log.read_text() and server.ask("GET", "/v2/health/ready")[0] == 200)
            yield server
        finally:
            process.terminate()
            assert process.wait(60) == 0, log.read_text()


@pytest.fixture
def server(home: Path, parcels: Parcels, tmp_path: Path) -> Iterator[Server]:
    go_live(parcels.one, home)
    with running(tmp_path) as found:
        yield found


def question(x: np.ndarray[Any, Any]) -> bytes:
    told = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return json.dumps({"inputs": [told]}).encode()


INFER = f"/v2/models/{APP}/infer"


def test_both_dialects_answer_what_the_session_answers(server: Server, parcels: Parcels) -> None:
    x = samples()[0]
    status, told, _ = server.ask("POST", INFER, question(x))
    assert (status, told["model_name"]) == (200, APP)
    np.testing.assert_allclose(np.reshape(told["outputs"][0]["data"], (1, 3)), x @ weights(1), rtol=1e-5)
    _, told, _ = server.ask("POST", f"/v1/models/{APP}:predict", json.dumps({"inputs": x.tolist()}).encode())
    np.testing.assert_allclose(told["outputs"], x @ weights(1), rtol=1e-5)


def test_what_it_tells_of_itself(server: Server, parcels: Parcels) -> None:
    version = str(parcels.one.manifest.sequence)
    server.ask("POST", INFER, question(samples()[0]))
    assert server.ask("GET", "/v2")[1]["name"] == "edgekit-runtime"
    assert server.ask("GET", f"/v2/models/{APP}")[1]["versions"] == [version]
    assert server.ask("POST", "/v2/repository/index")[1] == [{"name": APP, "version": version, "state": "READY"}]
    [stats] = server.ask("GET", "/v2/models/stats")[1]["model_stats"]
    assert stats["inference_stats"]["success"]["count"] == 1
    metrics = server.ask("GET", "/metrics")[1].decode()
    labels = f'{{model="{APP}",version="{version}",outcome="success",status="200"}}'
    assert f"edgekit_inference_requests_total{labels} 1" in metrics
    assert f'edgekit_inference_request_duration_seconds_count{{model="{APP}",version="{version}"}} 1' in metrics
    assert "process_resident_memory_bytes " in metrics


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v2/models/other", b"", 404),
        ("GET", f"/v2/models/{APP}/versions/99", b"", 404),
        ("PUT", "/v2", b"", 405),
        ("POST", INFER, b"{", 400),
        ("POST", INFER, b"{}", 400),
        ("POST", f"/v2/repository/models/{APP}/unload", b"", 403),
    ],
)
def test_what_it_refuses(server: Server, method: str, path: str, body: bytes, status: int) -> None:
    got, told, _ = server.ask(method, path, body)
    assert (got, list(told)) == (status, ["error"])


def test_a_page_in_a_browser_is_refused(server: Server) -> None:
    assert server.ask("POST", INFER, question(samples()[0]), {"Origin": "https://example.org"})[0] == 403


def test_requests_that_have_a_name_are_found_in_the_log(server: Server) -> None:
    headers = {"X-Request-Id": "r 7", "traceparent": TRACE}
    _, _, told = server.ask("POST", INFER, question(samples()[0]), headers)
    assert told["x-request-id"] == "r 7"
    [line] = server.lines
    assert (line["http.request.id"], line["trace.id"], line["span.id"]) == ("r 7", *TRACE.split("-")[1:3])
    assert (line["http.response.status_code"], line["service.name"]) == (200, APP)


def test_on_a_connection_that_is_lent_to_the_worker_too(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    before = server.sockets
    for number in range(5):
        headers = {"X-Request-Id": f"r {number}", "traceparent": TRACE}
        connection.request("POST", INFER, question(samples()[0]), headers)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("X-Request-Id")) == (200, f"r {number}")
        answer.read()
    assert server.sockets == before + 1
    lines = [{key: text for key, text in line.items() if key[0] not in "@e"} for line in server.lines]
    assert [line.pop("http.request.id") for line in lines] == [f"r {number}" for number in range(5)]
    assert lines == lines[:1] * 5
    connection.close()


def test_a_push_is_followed_without_a_request_that_fails(server: Server, home: Path, parcels: Parcels) -> None:
    x, seen = samples()[0], set()
    go_live(parcels.two, home)

    def both() -> bool:
        status, told, _ = server.ask("POST", INFER, question(x))
        assert status == 200, told
        number = int(told["model_version"])
        np.testing.assert_allclose(np.reshape(told["outputs"][0]["data"], (1, 3)), x @ weights(number), rtol=1e-5)
        seen.add(number)
        return parcels.two.manifest.sequence in seen

    until(both)


def test_a_worker_that_dies_is_replaced(server: Server) -> None:
    before = server.workers
    os.kill(before[0], signal.SIGKILL)
    until(lambda: server.ask("POST", INFER, question(samples()[0]))[0] == 200)
    assert server.workers != before


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_and_descriptors_come_back_after_100_swaps(server: Server, home: Path, parcels: Parcels) -> None:
    """With onnxruntime, which keeps what a session took within one process. Every answer meanwhile is right."""
    x, made = samples()[0], (parcels.one, parcels.two)
    go_live(parcels.two, home)

    def swap(number: int) -> None:
        wanted = made[number % 2]
        switches.activate(home, APP, wanted.digest, allow_downgrade=True)

        def done() -> bool:
            status, told, _ = server.ask("POST", INFER, question(x))
            assert status == 200, told
            answered = int(told["model_version"])
            np.testing.assert_allclose(np.reshape(told["outputs"][0]["data"], (1, 3)), x @ weights(answered), rtol=1e-5)
            return answered == wanted.manifest.sequence and len(server.workers) == 1

        until(done)

    for number in range(10):
        swap(number)
    (front, worker), files = server.takes()
    for number in range(100):
        swap(number)
    front_then, worker_then = server.takes()[0]
    print(f"front {front:.2f} → {front_then:.2f} MiB, worker {worker:.2f} → {worker_then:.2f} MiB, {files} descriptors")
    assert front_then < 1.05 * front
    assert worker_then < 1.05 * worker
    until(lambda: server.takes()[1] <= files)  # the last client's goes when it has been heard of


def test_with_a_token_nobody_else_is_let_in(home: Path, parcels: Parcels, tmp_path: Path) -> None:
    go_live(parcels.one, home)
    file = tmp_path / "token"
    file.write_text("secret\n")
    file.chmod(0o600)
    with running(tmp_path, "--token-file", str(file)) as server:
        assert server.ask("GET", "/v2/health/live")[0] == 200
        for wrong in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic secret"}):
            assert server.ask("GET", "/v2", headers=wrong)[0] == 401
        right = {"Authorization": "Bearer  secret"}  # as perf_analyzer writes it
        assert server.ask("POST", f"/v2/repository/models/{APP}/unload", headers=right)[0] == 200
        assert server.ask("POST", INFER, question(samples()[0]), right)[0] == 503
        assert server.ask("POST", f"/v2/repository/models/{APP}/load", headers=right)[0] == 200
        until(lambda: server.ask("POST", INFER, question(samples()[0]), right)[0] == 200)


class TestPlace:
    @pytest.mark.parametrize(
        ("listen", "told"),
        [
            ("8000", "http://127.0.0.1:8000"),
            ("0.0.0.0:80", "http://0.0.0.0:80"),
            ("[::1]:80", "http://[::1]:80"),
        ],
    )
    def test_an_address(self, listen: str, told: str) -> None:
        assert str(serve.place(listen, "")) == told

    @pytest.mark.parametrize("listen", ["", "host", "host:", "127.0.0.1:x", "127.0.0.1:70000", ":-1"])
    def test_no_address(self, listen: str) -> None:
        with pytest.raises(InvalidInput, match="no address to listen at"):
            serve.place(listen, "")

    def test_where_others_can_come_a_token_is_needed(self) -> None:
        with pytest.raises(InvalidInput, match="can be reached by others"):
            serve.token("", Place("0.0.0.0"))
        with pytest.raises(InvalidInput, match=r"0\.0\.0\.0:8001 can be reached by others"):
            serve.token("", Place(path="/run/x"), Place("0.0.0.0", 8001))
        assert serve.token("", Place("127.0.0.1")) == serve.token("", Place(path="/run/x"), Place()) == ""

    def test_a_token_is_a_secret(self, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text("abc")
        file.chmod(0o644)
        with pytest.raises(InvalidInput, match="can be read by others"):
            serve.token(str(file), Place())
        file.chmod(0o600)
        assert serve.token(str(file), Place("0.0.0.0")) == "abc"
        file.write_text(" \n")
        with pytest.raises(InvalidInput, match="holds no token"):
            serve.token(str(file), Place())
