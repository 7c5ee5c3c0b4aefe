"""A fleet from one host: fifty real SSH servers at once, one device that hangs, and the same work on a Dask cluster.

The figures are printed: pytest -s.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit import fleet
from edgekit.fleet import Device
from tests.lab.bundles import TARGET, make_bundle
from tests.lab.ports import free_port
from tests.lab.project import EDGEKIT, document, equip, local_device, project, until
from tests.lab.sshd import needs_sshd, running

__all__ = ["project"]  # a fixture

pytestmark = pytest.mark.slow

FIFTY = 50
MEMORY_MIB = 300
OPEN_FILES = 400


@dataclass(frozen=True)
class Used:
    """What one command took: wall time, the most memory and open files at any moment."""

    status: int
    seconds: float
    memory_mib: float
    files: int


def measured(*words: str) -> Used:
    """Its peak is asked for as it runs: what ``wait4`` tells has that of the process that started it in it."""
    started, files, peak = time.monotonic(), 0, 0
    with subprocess.Popen([*EDGEKIT, *words], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with suppress(OSError, IndexError):  # it ends
                files = max(files, len(os.listdir(f"/proc/{process.pid}/fd")))
                peak = int(Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1].split()[0])
            time.sleep(0.05)
    return Used(process.returncode, time.monotonic() - started, peak / 1024, files)


@pytest.fixture
def hanging(project: Path) -> Iterator[Device]:
    """Somebody who takes the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        device = Device("hanging", f"ssh://pi@127.0.0.1:{listener.getsockname()[1]}", TARGET)
        fleet.add(project, device)
        yield device


@needs_sshd
@pytest.mark.timeout(1500)
def test_fifty_at_once_and_one_that_hangs(
    project: Path, hanging: Device, tmp_path_factory: pytest.TempPathFactory
) -> None:
    make_bundle(project / f"bundles/digits-{TARGET}")
    with ExitStack() as held:
        for number in range(FIFTY):
            device = held.enter_context(running(f"pole-{number}", project / ".edgekit" / "devices"))
            equip(device.home, tmp_path_factory.getbasetemp())
            fleet.add(project, Device(device.name, device.uri, TARGET, ("pole",)))
        one = measured("push", "--to", "pole-0")
        ten = measured("push", "--to", "pole-[1-9]", "--to", "pole-10")
        rest = measured("push", "--to", "all")
        again = measured("push", "--to", "pole")
        shown = document("rollout", "show", "2")
    for name, used in (
        ("1 device", one),
        ("10 devices", ten),
        ("50 and one that hangs", rest),
        ("50, no change", again),
    ):
        print(f"{name}: {used.seconds:.1f} s, {used.memory_mib:.0f} MiB, {used.files} open files")
    assert (one.status, ten.status, rest.status, again.status) == (0, 0, 1, 0)
    outcomes = {each["device"]: each["outcome"] for each in shown["devices"]}
    assert outcomes.pop("hanging") == "offline"
    assert set(outcomes.values()) == {"done"}
    assert len(outcomes) == FIFTY
    assert max(rest.memory_mib, again.memory_mib) < MEMORY_MIB
    assert max(rest.files, again.files) < OPEN_FILES


@pytest.fixture
def cluster(project: Path) -> Iterator[str]:
    """A scheduler and two workers, each a process of its own."""
    pytest.importorskip("distributed")
    host, port = "127.0.0.1", str(free_port())
    address = f"{host}:{port}"
    dask, worker = (sys.executable, "-m", "dask"), ("--nthreads", "4", "--no-nanny", "--no-dashboard")
    commands = [(*dask, "scheduler", "--host", host, "--port", port, "--no-dashboard")]
    commands += [(*dask, "worker", f"tcp://{address}", "--name", f"w{i}", *worker) for i in range(2)]
    logs = [project / f"{i}.log" for i in range(3)]
    with ExitStack() as held:
        for command, log in zip(commands, logs, strict=True):
            process = subprocess.Popen(command, stdout=held.enter_context(log.open("wb")), stderr=subprocess.STDOUT)
            held.callback(process.wait)
            held.callback(process.terminate)
        until(lambda: all("Registered to" in log.read_text() for log in logs[1:]), 60)
        yield f"dask://{address}"


@pytest.mark.timeout(600)
def test_the_same_rollout_on_a_cluster(project: Path, cluster: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = make_bundle(project / f"bundles/digits-{TARGET}")
    for number in range(6):
        local_device(f"pole-{number}", project, tmp_path_factory.getbasetemp())
    fleet.add(project, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
    words = ("push", "--to", "all", "--waves", "1,50%", "--wait", "1s", "--executor", cluster)
    ended = document(*words, status=1)
    outcomes = {each["device"]: (each["outcome"], each["release"]) for each in ended["devices"]}
    assert outcomes.pop("gone") == ("offline", None)
    assert set(outcomes.values()) == {("done", made.digest)}
    assert [decision["go"] for decision in ended["rollout"]["decisions"]] == [True, True, True]


@pytest.mark.timeout(120)
def test_a_cluster_that_is_not_there(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("distributed")
    make_bundle(project / f"bundles/digits-{TARGET}")
    local_device("desk", project, tmp_path_factory.getbasetemp())
    failed = document("push", "--executor", "dask://127.0.0.1:1", status=1)
    assert failed["error"]["code"] == "connect"
