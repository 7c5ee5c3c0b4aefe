from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgekit import simulate, transports
from edgekit.errors import ConfigError, ConnectError, DeviceError
from edgekit.lab import login, sshd
from edgekit.simulate import Simulated
from tests.lab.sshd import needs_sshd, own_home, port, running

__all__ = ["own_home"]  # a fixture
pytestmark = pytest.mark.usefixtures("own_home")


def home_of(device: Simulated) -> Path:
    with transports.connect(device.uri) as link:
        return Path(link.run(["sh", "-c", 'printf %s "$EDGEKIT_HOME"']).stdout.decode())


def process_of(device: Simulated) -> int:
    return int((device.folder / "sshd.pid").read_text())


def alive(pid: int) -> bool:
    """A process that has ended and is not yet waited for has an empty command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def crash(device: Simulated) -> int:
    pid = process_of(device)
    os.kill(pid, signal.SIGKILL)
    while alive(pid):
        time.sleep(0.01)
    time.sleep(0.1)  # its socket goes a moment later
    return pid


@needs_sshd
class TestSshd:
    def test_a_device_and_nothing_left_of_it(self, tmp_path: Path, own_home: Path) -> None:
        state = tmp_path / "a state with 100 %h"
        with running("pi-1", state) as device:
            assert (device.name, device.kind, device.home) == ("pi-1", "ssh", state / "pi-1" / "home")
            assert "sshd" in device.note
            assert home_of(device) == device.home
            with transports.connect(device.uri) as link:
                assert link.run(["sh", "-c", "echo ~"]).stdout.decode().strip() == str(device.folder / "account")
            pid = process_of(device)
        assert not alive(pid)
        assert list(state.iterdir()) == []
        assert list(own_home.iterdir()) == []
        simulate.stop("pi-1", state)

    def test_openssh_itself_gets_there(self, tmp_path: Path) -> None:
        with running("pi-1", tmp_path) as device:
            command = ["ssh", "-F", str(device.folder / "ssh_config"), "pi-1", "echo $EDGEKIT_HOME"]
            assert subprocess.check_output(command, text=True).strip() == str(device.home)

    def test_only_its_own_key_opens_it(self, tmp_path: Path) -> None:
        with running("pi-1", tmp_path) as one, running("pi-2", tmp_path) as two:
            assert port(one) != port(two)
            shutil.copy(one.folder / "client_key", two.folder / "client_key")
            with pytest.raises(ConnectError, match="login refused"):
                transports.connect(two.uri)

    def test_started_twice(self, tmp_path: Path) -> None:
        with running("pi-1", tmp_path) as device:
            pid = process_of(device)
            assert simulate.start("pi-1", tmp_path) == device
            assert process_of(device) == pid

    def test_started_again_after_a_crash(self, tmp_path: Path) -> None:
        with running("pi-1", tmp_path) as device:
            before = crash(device)
            (device.home / "something").write_text("kept")
            assert simulate.start("pi-1", tmp_path) == device  # the same port, the same keys
            assert process_of(device) != before
            assert (device.home / "something").read_text() == "kept"

    @pytest.mark.parametrize("stale", ["this process", "999999999", "no number", ""])
    def test_a_stale_pid_file_names_nobody(self, tmp_path: Path, stale: str) -> None:
        with running("pi-1", tmp_path) as device:
            crash(device)
            (device.folder / "sshd.pid").write_text(stale.replace("this process", str(os.getpid())))
            assert simulate.start("pi-1", tmp_path).kind == "ssh"

    def test_a_port_that_somebody_else_took(self, tmp_path: Path) -> None:
        with running("pi-1", tmp_path) as device:
            crash(device)
            with taken(port(device)):
                again = simulate.start("pi-1", tmp_path)
                assert port(again) != port(device)
                assert home_of(again) == device.home

    def test_a_port_that_is_taken_at_the_last_moment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        free = login.free_port
        with taken(0) as other:
            monkeypatch.setattr(login, "free_port", lambda wanted: other if not wanted else free(0))
            with running("pi-1", tmp_path) as device:
                assert port(device) != other

    def test_an_account_that_may_not_log_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(login, "_SERVER", login._SERVER.replace("AllowUsers {user}", "DenyUsers {user}"))
        device = simulate.start("pi-1", tmp_path)
        assert device.kind == "local"
        assert "login refused" in device.note
        assert not (device.folder / "sshd.pid").exists()
        assert home_of(device) == device.home

    def test_a_configuration_that_sshd_refuses(self, tmp_path: Path) -> None:
        with pytest.raises(DeviceError, match="pi-1: sshd does not accept its configuration"):
            simulate.start("pi-1", tmp_path / 'a "quoted" folder')

    @pytest.mark.parametrize("delay", [0.15, 0.2, 0.25, 0.3, 0.4, 0.6])
    def test_interrupted(self, tmp_path: Path, delay: float) -> None:
        program = (
            f"from edgekit import simulate; from pathlib import Path; simulate.start('pi-1', Path({str(tmp_path)!r}))"
        )
        with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as process:
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
        simulate.stop("pi-1", tmp_path)
        listing = subprocess.run(["ps", "-ww", "-e", "-o", "command"], capture_output=True, text=True, check=True)
        assert str(tmp_path / "pi-1") not in listing.stdout
        assert not (tmp_path / "pi-1").exists()


@contextmanager
def taken(number: int) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", number)) as listener:
        yield listener.getsockname()[1]


class TestFolder:
    @pytest.fixture(autouse=True)
    def no_sshd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sshd, "find", lambda: None)

    def test_without_sshd(self, tmp_path: Path) -> None:
        device = simulate.start("pi-1", tmp_path / "a state with 100 %h")
        assert (device.kind, device.home) == ("local", device.folder / "home")
        assert "no sshd on this machine" in device.note
        assert home_of(device) == device.home
        assert simulate.start("pi-1", tmp_path / "a state with 100 %h") == device
        simulate.stop("pi-1", tmp_path / "a state with 100 %h")
        assert not device.folder.exists()

    @pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", "a b", "a\nb", "ä"])
    def test_names_that_are_none(self, tmp_path: Path, name: str) -> None:
        for act in (simulate.start, simulate.stop):
            with pytest.raises(ConfigError, match="is no name for a device"):
                act(name, tmp_path)

    def test_a_folder_of_somebody_else(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat").touch()
        for act in (simulate.start, simulate.stop):
            with pytest.raises(ConfigError, match="was not made by"):
                act("photos", tmp_path)
        assert [file.name for file in (tmp_path / "photos").iterdir()] == ["cat"]

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="cannot be made"):
            simulate.start("pi-1", tmp_path / "file")
