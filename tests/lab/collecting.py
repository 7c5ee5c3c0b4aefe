"""Collectors as people start them, devices that deliver to them, and a real Mosquitto between them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edgekit.collect import certificate, tokens
from edgekit.collect.certificate import Known
from edgekit.collect.tokens import Tokens
from edgekit.store import Store
from edgekit_courier import words
from edgekit_runtime.spool import Spool
from edgekit_runtime.windows import Window
from tests.lab.ports import free_port
from tests.lab.project import edgekit, until

WINDOW = Window("digits", "sha256:" + "a" * 64, "0f" * 16, 0, 1.7e9, 1.7e9 + 60, {690: 3}, {"invalid_input": 1})
needs_mosquitto = pytest.mark.skipif(shutil.which("mosquitto") is None, reason="no mosquitto here")
ACL = """\
user _collector
topic read edgekit/v1/+/windows

pattern write edgekit/v1/%u/windows
"""
"""As docs/collect.md has it."""
BROKER = """\
user root
listener {port} 127.0.0.1
certfile {folder}/server.pem
keyfile {folder}/server.pem
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/acl
persistence true
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
max_queued_messages 0
"""


@dataclass
class Process:
    """A program of this test, and what it says."""

    command: Sequence[str | Path]
    log: Path
    port: int
    started: subprocess.Popen[bytes] | None = None

    def start(self, said: str = "") -> None:
        """Until its port is open, or it has said that once more."""
        before = self.said.count(said) if said else 0
        with self.log.open("ab") as log:
            self.started = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: self._is_up(said, before), seconds=60)

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.started
        self.started.send_signal(number)
        return self.started.wait(60)

    @property
    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def _is_up(self, said: str, before: int) -> bool:
        assert self.started
        assert self.started.poll() is None, self.said
        if said:
            return self.said.count(said) > before
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def running(process: Process, said: str = "") -> Iterator[Process]:
    try:
        process.start(said)
        yield process
    finally:
        if process.started and process.started.poll() is None:
            process.kill()


def collector(folder: Path) -> Process:
    """Over HTTPS, on a port of this machine."""
    port = free_port()
    command = [sys.executable, "-m", "edgekit", "collect", "--listen", f"127.0.0.1:{port}"]
    return Process(command, folder / "collector.log", port)


def mqtt_collector(broker: Broker) -> Process:
    command = [sys.executable, "-m", "edgekit", "collect", "--mqtt", broker.url, "--ca", broker.folder / "server.pem"]
    return Process(command, broker.folder / "collector.log", broker.port)


@dataclass
class Courier:
    """A device by what it has on its disk."""

    home: Path
    name: str
    seq: int = field(default=0)

    def measures(self, number: int = 1) -> None:
        for _ in range(number):
            Spool(self.home / "reports/digits").append(replace(WINDOW, seq=self.seq))
            self.seq += 1

    def delivers(self) -> int:
        return int(words.deliver(self.home, once=True)["delivered"])


def enrolled(folder: Path, name: str, url: str, known: Known | None = None) -> Courier:
    """A device that has its letter, in a store that is this person's."""
    token, by = tokens.fresh(name), known or certificate.known(None)
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        Tokens(store).keep(token)
    home = folder / name
    home.mkdir()
    words.enrol(home, {"url": url, "token": token.text, "certificate": by.pem, "pinned": by.pinned})
    return Courier(home, name)


def counted() -> dict[str, int]:
    """How many calls the store has, by device."""
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        return {each.device: each.count for each in store.summaries()}


@dataclass
class Broker:
    """A Mosquitto with passwords of our making."""

    folder: Path
    port: int
    process: Process

    @property
    def url(self) -> str:
        return f"mqtts://127.0.0.1:{self.port}"

    @property
    def known(self) -> Known:
        return certificate.known(str(self.folder / "server.pem"))

    def learn(self) -> None:
        """Its password file as it has to be now."""
        (self.folder / "passwords").write_text(edgekit("collect", "passwords").stdout)
        if self.process.started:
            os.kill(self.process.started.pid, signal.SIGHUP)


@contextmanager
def mosquitto(folder: Path) -> Iterator[Broker]:
    folder.mkdir()
    port = free_port()
    (folder / "server.pem").write_bytes(certificate.make())
    (folder / "acl").write_text(ACL)
    (folder / "mosquitto.conf").write_text(BROKER.format(port=port, folder=folder))
    program = Process(["mosquitto", "-v", "-c", folder / "mosquitto.conf"], folder / "mosquitto.log", port)
    broker = Broker(folder, port, program)
    broker.learn()
    with running(program):
        yield broker
