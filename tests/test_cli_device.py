from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import fleet, simulate, target
from edgekit.cli import setup as command
from edgekit.fleet import Device
from edgekit.simulate import Simulated
from tests.lab.bundles import TARGET, make_bundle
from tests.lab.project import desk, document, edgekit, pi, project
from tests.lab.sshd import needs_sshd, new_key

__all__ = ["desk", "pi", "project"]  # fixtures


class TestAdd:
    def test_it_is_written_and_listed(self, project: Path) -> None:
        words = [
            "device",
            "add",
            "kitchen",
            "ssh://pi@kitchen.local",
            "--target",
            "pi",
            "--tag",
            "site=a",
            "--tag",
            "b",
        ]
        assert "next: edgekit device setup kitchen" in edgekit(*words).stdout
        told = {"name": "kitchen", "uri": "ssh://pi@kitchen.local", "target": "pi", "tags": ["site=a", "b"]}
        entry = {**told, "server": None}
        assert document("device", "list")["devices"] == [entry]
        shown = edgekit("device", "list").stdout
        assert all(word in shown for word in ("kitchen", "ssh://pi@kitchen.local", "site=a b"))

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["Kitchen", "ssh://pi", "--target", "pi"], "fleet.toml: devices.Kitchen: "),
            (
                ["kitchen", "kitchen.local", "--target", "pi"],
                "'kitchen.local' is no device URI — write ssh://user@host",
            ),
            (["kitchen", "ssh://pi:secret@x", "--target", "pi"], "must not hold a password"),
            (["kitchen", "local:", "--target", "pi"], "'local:' is no device URI"),
            (["kitchen", "ssh://pi", "--target", "raspbery-pi-5"], "no target profile 'raspbery-pi-5' — did you mean"),
            (["kitchen", "ssh://pi"], "Missing option '--target'"),
        ],
    )
    def test_what_is_wrong_is_told_in_one_line(self, project: Path, words: list[str], told: str) -> None:
        ran = edgekit("device", "add", *words, "--json", status=2)
        assert told in ran.line
        assert ran.document["error"]["code"] in ("config", "usage")
        assert not (project / "fleet.toml").exists()

    def test_a_duplicate(self, project: Path, desk: Device) -> None:
        before = (project / "fleet.toml").read_bytes()
        assert (
            "has a device 'desk' already"
            in edgekit("device", "add", "desk", "ssh://x", "--target", "pi", status=2).line
        )
        assert (project / "fleet.toml").read_bytes() == before


class TestProbe:
    def test_a_table(self, project: Path, desk: Device) -> None:
        shown = edgekit("device", "probe").stdout
        assert ["home", str(project / "desk")] in [line.split() for line in shown.splitlines()]
        assert "edgekit-runtime 0.1.0" in shown

    @pytest.mark.parametrize("words", [["x"], []])
    def test_which_device(self, project: Path, words: list[str]) -> None:
        assert "fleet.toml has no devices" in edgekit("device", "probe", *words, status=2).line

    def test_a_device_that_is_not_there(self, project: Path) -> None:
        fleet.add(project, Device("gone", "ssh://pi@127.0.0.1:1", "pi"))
        line = edgekit("device", "probe", "gone", status=1).line
        assert line.startswith("edgekit: gone: pi@127.0.0.1:1: connection refused — ")


class TestSetup:
    def test_a_target_of_another_architecture(self, project: Path) -> None:
        other = "raspberry-pi-5" if "x86" in TARGET else "generic-x86-64"
        fleet.add(project, Device("desk", f"local:{project}/desk", other))
        line = edgekit("device", "setup", status=1).line
        assert line.startswith(f"edgekit: desk: the device is {os.uname().machine}, {other} is ")
        assert "fleet.toml" in line

    def test_an_engine_that_the_target_does_not_have(self, project: Path, desk: Device) -> None:
        line = edgekit("device", "setup", "--engine", "torch", status=2).line
        assert f"{TARGET} has no engine 'torch' — it has {target.load(TARGET).engines[0].name}" in line

    def test_a_signing_key_that_is_not_there(self, project: Path, desk: Device) -> None:
        (project / "edgekit.toml").write_text('signing_key = "nowhere"\n')
        assert "nowhere: no such signing key" in edgekit("device", "setup", status=2).line

    def test_the_key_of_the_project_is_the_one_to_trust(self, project: Path, desk: Device) -> None:
        new_key(project / "mine")
        (project / "edgekit.toml").write_text('signing_key = "mine"\n')
        made = document("device", "setup", "--offline")
        assert (made["trusted"], made["installed"]) == (True, False)
        assert document("device", "setup", "--offline")["trusted"] is False
        kind, blob = (project / "mine.pub").read_text().split()[:2]
        assert f'namespaces="edgekit" {kind} {blob}' in (project / "desk/trust/allowed_signers").read_text()

    def test_the_engine_of_the_bundle_that_was_built_is_chosen(self, project: Path) -> None:
        assert command._engine_of_bundle(TARGET) is None
        made = make_bundle(project / "bundles/digits")
        assert command._engine_of_bundle(TARGET) == made.manifest.engines[0].name
        assert command._engine_of_bundle("raspberry-pi-5") is None

    def test_help_says_what_becomes_of_other_engines(self) -> None:
        assert "stays beside it" in " ".join(edgekit("device", "setup", "--help").stdout.split())


@needs_sshd
class TestSimulate:
    @pytest.fixture(autouse=True)
    def stopped(self, project: Path) -> Iterator[None]:
        yield
        for name in ("desk", "gate"):
            simulate.stop(name, project / ".edgekit/devices")

    def test_started_listed_and_stopped(self, project: Path) -> None:
        assert "a real sshd" in edgekit("device", "simulate", "desk", "--target", TARGET).stdout
        assert [each["target"] for each in document("device", "list")["devices"]] == [TARGET]
        assert "stopped and removed" in edgekit("device", "simulate", "desk", "--stop").stdout
        assert document("device", "list")["devices"] == []

    def test_starting_it_again_keeps_what_was_written_to_it(self, project: Path) -> None:
        document("device", "simulate", "desk")
        text = (project / "fleet.toml").read_text()
        (project / "fleet.toml").write_text(f'# mine\n{text}tags = ["site=lab"] # yes\n')
        again = document("device", "simulate", "desk")
        assert again["running"]
        assert (project / "fleet.toml").read_text() == f'# mine\n{text}tags = ["site=lab"] # yes\n'

    def test_what_is_wrong_starts_nothing(self, project: Path) -> None:
        fleet.add(project, Device("kitchen", "ssh://pi", "pi"))
        for words, told in (
            (["Desk"], "devices.Desk"),
            (["../x"], "devices"),
            (["desk", "--target", "nothing"], "no target profile 'nothing'"),
            (["kitchen"], "has a device 'kitchen' already"),
            (["desk", "--stop"], "no simulated device 'desk'"),
            (["desk", "--fault", "cut"], "desk has no card"),
        ):
            assert told in edgekit("device", "simulate", *words, status=2).line
        assert not (project / ".edgekit").exists()
        assert [each.name for each in fleet.load(project)] == ["kitchen"]

    def test_a_fleet_that_cannot_be_read_stops_nothing(self, project: Path) -> None:
        document("device", "simulate", "desk")
        (project / "fleet.toml").write_text("broken")
        edgekit("device", "simulate", "desk", "--stop", status=2)
        assert (project / ".edgekit/devices/desk/sshd.pid").exists()


@needs_sshd
class TestHostKeys:
    """What ssh would refuse is refused in one line, with the device's name."""

    def test_an_unknown_key_is_accepted_only_on_demand(self, project: Path, pi: Simulated) -> None:
        (pi.folder / "known_hosts").unlink()
        self.relax(pi)
        ran = edgekit("device", "probe", "pi", "--json", status=1)
        assert ran.line.startswith("edgekit: pi: ")
        assert "the host key is unknown" in ran.line
        assert "--accept-new-host-key" in ran.line
        assert ran.document["error"]["code"] == "host_key"
        document("device", "probe", "pi", "--accept-new-host-key")
        document("device", "probe", "pi")

    def test_a_changed_key_is_never_accepted(self, project: Path, pi: Simulated) -> None:
        new_key(project / "other")
        port = pi.uri.partition("?")[0].rpartition(":")[2]
        kind, blob = (project / "other.pub").read_text().split()[:2]
        (pi.folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {blob}\n")
        for flags in ([], ["--accept-new-host-key"]):
            ran = edgekit("device", "probe", "pi", *flags, status=1)
            assert "THE HOST KEY HAS CHANGED" in ran.line

    def test_a_login_key_that_is_not_let_in(self, project: Path, pi: Simulated) -> None:
        (pi.folder / "client_key").unlink()
        (pi.folder / "client_key.pub").rename(pi.folder / "kept.pub")
        new_key(pi.folder / "client_key")
        (pi.folder / "kept.pub").replace(pi.folder / "client_key.pub")
        line = edgekit("device", "probe", "pi", status=1).line
        assert line.startswith("edgekit: pi: ")
        assert "login refused" in line

    def test_a_device_that_was_switched_off(self, project: Path, pi: Simulated) -> None:
        os.kill(int((pi.folder / "sshd.pid").read_text()), signal.SIGTERM)
        line = edgekit("device", "probe", "pi", status=1).line
        assert "connection refused" in line

    def relax(self, device: Simulated) -> None:
        """The simulation's own configuration insists on known keys; a person's does not."""
        config = device.folder / "ssh_config"
        config.write_text(config.read_text().replace("StrictHostKeyChecking yes", "StrictHostKeyChecking ask"))


def test_no_command_of_the_group_needs_more_than_click_to_explain_itself() -> None:
    program = (
        "import sys; sys.argv = ['edgekit', 'device', 'setup', '--help']\n"
        "from edgekit.cli import main\n"
        "try: main()\n"
        "except SystemExit: print({'numpy', 'paramiko', 'sqlalchemy', 'msgspec'} & set(sys.modules))"
    )
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert said.endswith("set()\n")
