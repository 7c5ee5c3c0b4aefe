from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import address, fleet
from edgekit.errors import EdgekitError
from edgekit.fleet import Device
from tests.lab.project import desk, document, project

__all__ = ["desk", "project"]  # fixtures

PI = Device("kitchen", "ssh://pi@kitchen", "pi")


@pytest.fixture
def pi(tmp_path: Path) -> Device:
    """By a name that ~/.ssh/config knows better."""
    config = tmp_path / "config"
    config.write_text("Host kitchen\n  HostName kitchen.example.org\n")
    return Device("kitchen", f"ssh://pi@kitchen?config={config}", "pi")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--listen 0.0.0.0:8000 --token-file /t", "kitchen.example.org:8000"),
        ("digits:5 --listen=[::]:9000", "kitchen.example.org:9000"),
        ("--listen 192.0.2.7:80", "192.0.2.7:80"),
        ("--listen [2001:db8::7]:80", "[2001:db8::7]:80"),
        ("--listen 127.0.0.1:80", ""),
        ("--listen localhost:80", ""),
        ("--listen 8001", ""),
        ("--listen 0.0.0.0:80 --socket /run/edgekit/s", ""),
        ("", ""),
    ],
)
def test_where_others_reach_it(pi: Device, words: str, told: str) -> None:
    assert address.of_server(pi, words.split()) == told


@pytest.mark.parametrize(
    ("words", "told"),
    [("", "127.0.0.1:8000"), ("--listen 0.0.0.0:80", "127.0.0.1:80"), ("--socket /s", "")],
)
def test_a_device_that_is_this_machine_is_reached_where_it_is(words: str, told: str) -> None:
    assert address.of_server(Device("desk", "local:/d", "x"), words.split()) == told


@pytest.mark.parametrize("words", ["--listen kitchen", "--listen 0.0.0.0:x", "--listen"])
def test_no_address(words: str) -> None:
    with pytest.raises(EdgekitError, match="no address to listen at"):
        address.of_server(PI, words.split())


class TestFleet:
    TEXT = '# ours\n[devices.kitchen] # by the window\nuri = "ssh://kitchen"\ntarget = "pi"\n'

    def test_is_written_once_and_taken_out(self, tmp_path: Path) -> None:
        file = tmp_path / "fleet.toml"
        file.write_text(self.TEXT)
        fleet.serve(tmp_path, "kitchen", "kitchen:8000")
        assert file.read_text() == f'{self.TEXT}server = "kitchen:8000"\n'
        [device] = fleet.load(tmp_path)
        assert device.server == "kitchen:8000"
        fleet.serve(tmp_path, "kitchen", "kitchen:8001")
        assert fleet.load(tmp_path)[0].server == "kitchen:8001"
        fleet.serve(tmp_path, "kitchen", "")
        assert file.read_text() == self.TEXT

    @pytest.mark.parametrize(
        "wrong", ["kitchen", "http://kitchen:80", "kitchen:port", "a b:80", "kitchen:8000/metrics"]
    )
    def test_is_an_address(self, tmp_path: Path, wrong: str) -> None:
        (tmp_path / "fleet.toml").write_text(f'{self.TEXT}server = "{wrong}"\n')
        with pytest.raises(EdgekitError, match="server"):
            fleet.load(tmp_path)

    @pytest.mark.slow
    def test_is_told_by_whoever_sets_the_server_up(self, project: Path, desk: Device) -> None:
        document("device", "setup", "desk", "--service", "edgekit-runtime serve --listen 8123")
        assert fleet.load(project)[0].server == "127.0.0.1:8123"
