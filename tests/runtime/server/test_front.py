"""The front: by which name one may ask, how much a request may bring, and when a model that was loaded is there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit_runtime.errors import InvalidInput
from edgekit_runtime.manifest import EngineNeed
from edgekit_server import hosts, serve
from edgekit_server.front import Front
from edgekit_server.http import Refused, Request, Response
from edgekit_server.resident import Resident
from tests.runtime.bundles import APP, Parcels, go_live, samples
from tests.runtime.server.house import SLOW, row
from tests.runtime.server.test_residents import Made, Open
from tests.runtime.server.test_serve import INFER, Server, question, running

HEAD = "POST /v2/models/{}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"


class TestHosts:
    @pytest.mark.parametrize(
        "host",
        ["", "localhost", "LocalHost:8000", "127.0.0.1:8000", "192.168.1.7", "[::1]:80", "[fe80::1]", "[::1.2.3.4]:"],
    )
    def test_what_nobody_else_can_call_it(self, host: str) -> None:
        hosts.check(host)

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example:8000",
            "localhost.evil.example",
            "pi",
            "127.0.0.1.nip.io",
            "[::1",
            "::1",
            "a[::1]",
            "localhost:x",
        ],
    )
    def test_names_that_may_be_anybody_s(self, host: str) -> None:
        with pytest.raises(Refused, match="is no name of this server") as refused:
            hosts.check(host)
        assert refused.value.status == 421


class TestNiceness:
    def test_by_app(self) -> None:
        assert serve.niceness(["a", "b:10", "c:0"]) == {"a": 0, "b": 10, "c": 0}

    @pytest.mark.parametrize("word", ["a:", ":1", "a:20", "a:-5", "a:b:1", "a:²", ""])
    def test_what_is_none(self, word: str) -> None:
        with pytest.raises(InvalidInput, match="is no app to serve"):
            serve.niceness([word])


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secret") / "token"
    file.write_text("secret")
    file.chmod(0o600)
    return file


@pytest.fixture
def server(home: Path, parcels: Parcels, tmp_path: Path) -> Iterator[Server]:
    go_live(parcels.one, home)
    with running(tmp_path, f"{APP}:7") as found:
        yield found


def test_names_limits_and_niceness(server: Server) -> None:
    """One server for what leaves no trace in it."""
    for method, path, body in (
        ("GET", "/v2", None),
        ("GET", "/metrics", None),
        ("POST", INFER, question(samples()[0])),
    ):
        status, told, _ = server.ask(method, path, body, {"Host": f"evil.example:{server.port}"})
        assert (status, list(told)) == (421, ["error"])
        assert server.ask(method, path, body, {"Host": f"localhost:{server.port}"})[0] == 200

    for model in (APP, "other"):
        assert [asks(server, model, length) for length in (1 << 15, 1 << 17)] == [100, 413]

    (worker,) = server.workers
    assert os.getpriority(os.PRIO_PROCESS, worker) == os.getpriority(os.PRIO_PROCESS, server.process.pid) + 7


def asks(server: Server, model: str, length: int) -> int:
    """What a client is told before it has sent a byte of so long a body."""
    head = HEAD.format(model, length).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n")
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(head.encode())
        return int(client.recv(100).split()[1])


def test_on_a_unix_socket_any_name_will_do(open_house: Open) -> None:
    front, got = Front(open_house().residents), list[Response]()
    for peer in ("unix", "127.0.0.1"):
        front.handle(Request("GET", "/v2", "", {"host": "cameras.example"}, b"", peer), got.append)
    assert [each.status for each in got] == [200, 421]


def test_with_a_token_too(home: Path, parcels: Parcels, tmp_path: Path, token: Path) -> None:
    go_live(parcels.one, home)
    with running(tmp_path, "--token-file", str(token)) as server:
        right = {"Authorization": "Bearer secret", "Host": "cameras.example"}
        assert server.ask("GET", "/v2", headers=right)[0] == 200
        repository = f"/v2/repository/models/{APP}"
        assert server.ask("POST", f"{repository}/unload", headers=right)[0] == 200
        assert server.ask("POST", f"{repository}/load", headers=right)[0] == 200
        assert server.ask("POST", INFER, question(samples()[0]), right)[0] == 200  # at once


class TestLoad:
    def test_is_done_when_it_serves(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house, done = open_house(), list[Resident]()
        house.ready()
        slow = house.ask(row(SLOW))
        house.residents.unload("scores")
        house.residents.load("scores", done.append)
        assert not done
        house.until(lambda: done)
        assert done[0].serving
        assert house.first(slow).status == 200

    def test_is_done_when_it_cannot(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2, engines=(EngineNeed("moody", providers=("dead",)),)), home)
        house, done = open_house(), list[Resident]()
        house.residents.load("scores", done.append)
        house.until(lambda: done)
        assert (done[0].serving, done[0].why) == (None, "it ended with SIGSEGV")

    def test_is_done_when_it_is_unloaded(self, home: Path, parcels: Parcels, open_house: Open) -> None:
        go_live(parcels.one, home)
        house, done = open_house(), list[Resident]()
        house.residents.load(APP, done.append)
        house.residents.unload(APP)
        house.until(lambda: done)
        assert (done[0].serving, done[0].why) == (None, "it was unloaded")
