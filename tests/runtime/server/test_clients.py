"""The clients that there are for Triton, unchanged: ``tritonclient`` over HTTP and gRPC, and ``perf_analyzer``."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serve import clients
from benchmarks.serve.entries import Command
from edgekit import wheels
from edgekit.errors import EdgekitError
from tests.lab.ports import free_port
from tests.runtime.bundles import APP, Parcels, go_live, samples, weights
from tests.runtime.server.test_serve import Server, running
from tests.runtime.test_pythons import Environment, find

pytest.importorskip("grpc", reason="needs the extra of the server's wheel: grpcio, protobuf")

from edgekit_server.grpc_messages import message
from tests.runtime.server.callers import Caller

ROOT = Path(__file__).parents[3]
BRIEFLY = ("--request-count", "100", "-s", "1000")
"""Whether it works is asked here, and not how fast."""


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter with tritonclient; its environment is the user's, kept for the next run."""
    try:
        return clients.tritonclient(print)
    except EdgekitError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tool() -> Command:
    """perf_analyzer."""
    if platform.machine() != "x86_64":
        pytest.skip("perf_analyzer is a program for x86-64")
    try:
        return clients.perf_analyzer(print)
    except EdgekitError as error:
        pytest.skip(str(error))


@pytest.fixture
def live(home: Path, parcels: Parcels) -> None:
    go_live(parcels.one, home)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server(live: None, tmp_path: Path, port: int) -> Iterator[Server]:
    with running(tmp_path, "--grpc", str(port)) as found:
        yield found


def check(caller: Caller) -> tuple[Any, Any]:
    """An inference that is right: its answer, and its call."""
    x = samples()[0]
    asked = message("ModelInferRequest")(model_name=APP, raw_input_contents=[x.tobytes()])
    asked.inputs.add(name="x", datatype="FP32", shape=x.shape)
    answer, call = caller.whole("ModelInfer", asked)
    found = np.frombuffer(answer.raw_output_contents[0], np.float32)
    np.testing.assert_allclose(found, (x @ weights(1))[0], rtol=1e-5)
    return answer, call


def test_a_model_is_served_over_grpc(server: Server, port: int) -> None:
    caller = Caller(f"127.0.0.1:{port}", (("x-request-id", "r 7"),))
    answer, call = check(caller)
    assert answer.model_name == APP
    assert ("x-request-id", "r 7") in call.trailing_metadata()
    assert server.lines[-1]["http.request.id"] == "r 7"
    [stats] = caller("ModelStatistics").model_stats
    assert (stats.name, stats.inference_stats.success.count) == (APP, 1)
    assert caller("ModelConfig", message("ModelConfigRequest")(name=APP)).config.backend == "onnxruntime"
    labels = f'{{model="{APP}",version="{answer.model_version}"}}'
    told = server.ask("GET", "/metrics?names=triton")[1].decode()
    assert f"nv_inference_request_success{labels} 1\n" in told
    assert f"nv_inference_pending_request_count{labels} 0\n" in told
    assert server.ask("GET", "/metrics?names=other")[0] == 400
    caller.channel.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("version", "protobuf"), [("3.8", "protobuf==4.22.0"), ("3.13", "protobuf")])
def test_the_extra_on_the_oldest_and_the_newest_python(
    version: str, protobuf: str, wheel: Path, live: None, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([find(version), "-m", "venv", tmp_path / "env"], check=True)
    made = Environment(tmp_path / "env" / "bin" / "python")
    assert made.install(str(wheel), f"{wheels.own('edgekit_server')}[grpc]", protobuf, "onnxruntime")
    monkeypatch.setattr(sys, "executable", str(made.python))
    with running(tmp_path, "--grpc", str(port)):
        caller = Caller(f"127.0.0.1:{port}")
        check(caller)
        assert [each.state for each in caller("RepositoryIndex").models] == ["READY"]
        caller.channel.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("token", ["", "secret"])
def test_tritonclient_unchanged(python: Path, live: None, tmp_path: Path, port: int, token: str) -> None:
    with running(tmp_path, "--grpc", str(port), *with_token(tmp_path, token)) as server:
        words = [python, "-m", "tests.runtime.server.tritonclients"]
        addresses = [f"127.0.0.1:{server.port}", f"127.0.0.1:{port}"]
        done = subprocess.run(
            [*words, APP, *addresses, token],
            input=json.dumps(weights(1).tolist()),
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'runtime'}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert (done.returncode, done.stdout) == (0, "all of it\n"), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_perf_analyzer_unchanged(tool: Command, live: None, tmp_path: Path, port: int) -> None:
    with running(tmp_path, "--grpc", str(port), *with_token(tmp_path, "secret")) as server:
        http, grpc = ("-i", "http", "-u", f"127.0.0.1:{server.port}"), ("-i", "grpc", "-u", f"127.0.0.1:{port}")
        for way in (
            http,
            (*http, "-a", "--concurrency-range", "8"),
            (*http, "-b", "4"),
            (*http, "--input-tensor-format", "json", "--output-tensor-format", "json"),
            grpc,
            (*grpc, "-a", "--concurrency-range", "8"),
            (*grpc, "--streaming", "-a", "--concurrency-range", "4"),
        ):
            words = [*tool.words, "-m", APP, *BRIEFLY, "-H", "authorization: Bearer secret", *way]
            done = subprocess.run(
                words, env=tool.environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
            )
            assert done.returncode == 0, (way, done.stdout, done.stderr)
            assert figure(done.stdout, "Throughput") > 0
            assert "Inference count" in done.stdout, way  # of the server's own statistics


def figure(told: str, name: str) -> float:
    """The first figure of that name."""
    line = next(line for line in told.splitlines() if name in line)
    return float(line.partition(":")[2].split()[0])


def with_token(folder: Path, token: str) -> list[Any]:
    """Words for the server."""
    if not token:
        return []
    file = folder / "token"
    file.touch(0o600)
    file.write_text(token)
    return ["--token-file", file]
