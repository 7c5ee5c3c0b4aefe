"""Real SSH servers for tests: throw-away devices of ``edgekit.simulate``, and client configurations for them.

A test file imports the fixtures that it needs. `device` is one server for a whole file; a test that changes its server
takes one of its own from `running`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from edgekit import simulate
from edgekit.lab import sshd
from edgekit.simulate import Simulated

needs_sshd = pytest.mark.skipif(sshd.find() is None, reason="no OpenSSH server here: install openssh-server")


@contextmanager
def running(name: str, state: Path) -> Iterator[Simulated]:
    """A simulated device, stopped afterwards. It must be a real sshd: a quiet fall-back would prove nothing."""
    try:
        device = simulate.start(name, state)
        assert device.kind == "ssh", device.note
        yield device
    finally:
        simulate.stop(name, state)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    with running("pi-kitchen", tmp_path_factory.mktemp("devices")) as found:
        yield found


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and no agent. (`ssh -G` does not look at $HOME: a test names its configuration in the URI.)"""
    home = tmp_path / "person"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


def port(device: Simulated) -> int:
    return int(device.uri.partition("?")[0].rpartition(":")[2])


def client(device: Simulated, folder: Path, *lines: str) -> str:
    """The URI of a device under a changed configuration: these lines come first, so they win over the device's own."""
    config = folder / "ssh_config"
    config.write_text("\n".join([*lines, (device.folder / "ssh_config").read_text()]))
    return f"{device.uri.partition('?')[0]}?config={quote(str(config))}"


def reconfigure(device: Simulated, *lines: str) -> None:
    """Change the server: these lines win over its own. Sessions that are open stay as they are."""
    config, log = device.folder / "sshd_config", device.folder / "sshd.log"
    config.write_text("\n".join([config.read_text().partition("\n")[0], *lines, config.read_text()]))
    log.write_text("")
    os.kill(int((device.folder / "sshd.pid").read_text()), signal.SIGHUP)
    until = time.monotonic() + 10
    while "Server listening" not in log.read_text():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.01)


def keygen(*words: str | Path) -> str:
    """Run ssh-keygen and return what it printed."""
    return subprocess.run(["ssh-keygen", *words], check=True, capture_output=True, text=True).stdout


def new_key(file: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    keygen("-q", "-t", kind, "-N", passphrase, "-f", file)
    return file


def fingerprint(key: Path) -> str:
    """As ssh-keygen itself has it: ``SHA256:…``."""
    return keygen("-lf", key).split()[1]


def sessions(device: Simulated) -> list[int]:
    """The processes that the device's sshd has started for its connections, and theirs."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(status.parent.name)] = int(fields[1])
    found, server = [], int((device.folder / "sshd.pid").read_text())
    for pid in parents:
        above = pid
        while above in parents and above != server:
            above = parents[above]
        if above == server and pid != server:
            found.append(pid)
    return found
