"""Notify: what a service manager hears of a session, over a real socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import edgekit_runtime
from edgekit_runtime import notify
from edgekit_runtime.errors import InvalidInput
from edgekit_runtime.notify import Supervisor
from tests.runtime.bundles import APP, Parcels, go_live, samples


@pytest.fixture(params=["path", "abstract"])
def ear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A manager's socket, and its name as $NOTIFY_SOCKET has it."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name if request.param == "path" else f"\0{name}")
        listening.setblocking(False)
        yield name if request.param == "path" else f"@{name}", listening


def heard(listening: socket.socket) -> list[str]:
    messages = []
    with suppress(BlockingIOError):
        while True:
            messages.append(listening.recv(1000).decode())
    return messages


def test_a_session_is_ready_and_alive(
    home: Path, parcels: Parcels, ear: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    release, now = go_live(parcels.one, home), [100.0]
    variables = {"NOTIFY_SOCKET": ear[0], "WATCHDOG_USEC": "30000000"}
    monkeypatch.setattr(notify, "SUPERVISOR", Supervisor(variables, lambda: now[0]))
    with edgekit_runtime.load(APP) as session:
        assert heard(ear[1]) == [f"READY=1\nSTATUS={APP} {release.digest[:19]} by onnxruntime\nWATCHDOG=1"]
        for at, told in ((100, True), (101, False), (114.9, False), (115, True), (500, True)):
            now[0] = at
            session.predict(samples()[0])
            assert heard(ear[1]) == ["WATCHDOG=1"] * told
        now[0] = 900
        with pytest.raises(InvalidInput):
            session.predict({})
        assert heard(ear[1]) == [], "nothing was inferred"


@pytest.mark.parametrize("seconds", ["", "0", "x"])
def test_without_a_watchdog_it_is_only_ready(ear: tuple[str, socket.socket], seconds: str) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": ear[0], "WATCHDOG_USEC": seconds})
    supervisor.ready("here")
    supervisor.alive()
    assert heard(ear[1]) == ["READY=1\nSTATUS=here\nWATCHDOG=1"]


@pytest.mark.parametrize("name", ["", "relative", "/no/such/socket", "@nobody"])
def test_nobody_listens(name: str) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1"})
    supervisor.ready("here")
    supervisor.alive()


def test_one_that_does_not_read_stops_nothing(ear: tuple[str, socket.socket]) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": ear[0]})
    for _ in range(10_000):
        supervisor.ready("x" * 100)
