from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit import fleet
from edgekit.fleet import Device
from edgekit_runtime.manifest import EngineNeed
from tests.lab.bundles import TARGET, flip, make_bundle, of_another_model, part_of
from tests.lab.project import Served, desk, document, edgekit, local_device, project, served

__all__ = ["desk", "project", "served"]  # fixtures


@pytest.fixture
def nowhere(project: Path) -> Device:
    """A device that nobody reaches."""
    device = Device("gone", "ssh://pi@127.0.0.1:1", TARGET)
    fleet.add(project, device)
    return device


def test_what_a_person_reads(project: Path, desk: Device) -> None:
    made = make_bundle(project / f"bundles/digits-{TARGET}")
    ran = edgekit("push")
    first, second, *_ = ran.stdout.splitlines()
    assert first.startswith(f"desk: {made.digest[:19]} is live; ")
    assert second.startswith(f"desk: proven by {made.manifest.engines[0].name} ")
    assert second.endswith("agreement 100%")
    assert "desk: proving on the device" in ran.stderr.splitlines()
    assert "0.0 KiB of" in edgekit("push", "--to", "desk").stdout


def test_a_bundle_by_its_folder(project: Path, desk: Device) -> None:
    made = make_bundle(project / "elsewhere/one")
    [pushed] = document("push", "elsewhere/one")["devices"]
    assert pushed["release"] == made.digest


class TestErrors:
    """Each is one line, the exit status 1, and a code in the JSON."""

    def refused(self, *words: str, code: str, told: str, status: int = 1) -> None:
        ran = edgekit("push", *words, status=status)
        assert told in ran.line
        assert ran.line.startswith("edgekit: desk: ")
        [failed] = document("push", *words, status=status)["devices"]
        assert (failed["device"], failed["ok"], failed["release"], failed["proof"]) == ("desk", False, None, None)
        assert failed["error"]["code"] == code
        assert told.partition(" — ")[0] in failed["error"]["message"]

    def test_nothing_was_built(self, project: Path, desk: Device) -> None:
        told = f"no bundle for {TARGET} (built is nothing) — edgekit build --target {TARGET}"
        self.refused(code="bundle", told=told)

    def test_another_target(self, project: Path, desk: Device) -> None:
        make_bundle(project / "pi", target="raspberry-pi-5")
        told = f"desk: the bundle is for raspberry-pi-5, the device is {TARGET} — edgekit build --target {TARGET}"
        self.refused("pi", code="incompatible_target", told=told)

    def test_no_bundle(self, project: Path, desk: Device) -> None:
        (project / "empty").mkdir()
        self.refused("empty", code="bundle", told="empty: not a bundle")
        self.refused("nowhere", code="bundle", told="nowhere: not a bundle")

    def test_a_damaged_bundle(self, project: Path, desk: Device) -> None:
        flip(part_of(make_bundle(project / "one").root, "model"))
        self.refused(
            "one", code="digest_mismatch", told="the bytes are not the ones that were signed — this copy of it"
        )

    def test_not_set_up(self, project: Path, desk: Device) -> None:
        make_bundle(project / "one")
        (project / "desk/env").unlink()
        told = "desk: edgekit is not set up on this device — run 'edgekit device setup desk' for it"
        self.refused("one", code="device", told=told)

    def test_a_signer_that_is_not_trusted(self, project: Path, desk: Device) -> None:
        make_bundle(project / "one")
        signers = project / "desk/trust/allowed_signers"
        signers.write_text("")
        self.refused(
            "one", code="unknown_signer", told="a key that this device does not trust — run 'edgekit device setup desk'"
        )
        signers.unlink()
        self.refused(
            "one", code="unknown_signer", told="this device trusts no signer yet — run 'edgekit device setup desk'"
        )

    def test_an_engine_that_is_missing(self, project: Path, desk: Device) -> None:
        make_bundle(project / "one", format="tflite", engines=(EngineNeed("litert", ">=2.1"),))
        told = "the model needs litert, which is not installed there"
        self.refused("one", code="engine_not_installed", told=told)
        assert edgekit("push", "one", status=1).line.endswith(" — edgekit device setup desk --engine litert")

    def test_a_proof_that_fails(self, project: Path, served: Served) -> None:
        make_bundle(project / "bad", of_another_model(), sequence=3)
        self.refused(
            "bad", code="proof_failed", told="digits: not proven on this device: outputs differ from the host's by"
        )
        [shown] = document("status")["devices"]
        assert shown["apps"][0]["current"]["digest"] == served.second.digest

    def test_a_device_that_says_anything(self, project: Path, desk: Device) -> None:
        make_bundle(project / "one")
        python = project / "desk/env"
        python.unlink()
        (python / "bin").mkdir(parents=True)
        (python / "bin/python").write_text("#!/bin/sh\nprintf 'Ill\\033[31megal instruction\\n' >&2; exit 132\n")
        (python / "bin/python").chmod(0o755)
        told = "the device's push ended with status 132: Ill\ufffd[31megal instruction"
        self.refused("one", code="command", told=told)

    def test_a_fleet_that_is_wrong(self, project: Path) -> None:
        (project / "fleet.toml").write_text("[devices.desk]\nuri = 1\n")
        ran = edgekit("push", "--json", status=2)
        assert ran.document["error"]["code"] == "config"
        assert ran.line.startswith("edgekit: fleet.toml: devices.desk.")


class TestSeveral:
    def test_one_that_is_not_there_does_not_keep_the_others(
        self, project: Path, desk: Device, nowhere: Device, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        local_device("gate", project, tmp_path_factory.getbasetemp())
        made = make_bundle(project / f"bundles/digits-{TARGET}")
        ran = edgekit("push", "--to", "gone", "--to", "desk", "--to", "gate", "--to", "desk", "--json", status=1)
        results = ran.document["devices"]
        assert [(each["device"], each["ok"], each["release"]) for each in results] == [
            ("gone", False, None),
            ("desk", True, made.digest),
            ("gate", True, made.digest),
        ]
        assert results[0]["error"]["code"] == "connect"
        again = edgekit("push", "--to", "gone", "--to", "desk", status=1)
        assert again.line.startswith("edgekit: gone: pi@127.0.0.1:1: connection refused — ")
        assert "is live" in again.stdout

    def test_which_one(self, project: Path, desk: Device, nowhere: Device) -> None:
        assert "which device? — fleet.toml has desk, gone: name one" in edgekit("push", status=2).line
        assert "no device 'dest' in fleet.toml — did you mean 'desk'?" in edgekit("push", "--to", "dest", status=2).line

    def test_json_is_one_object_with_nothing_beside_it(self, project: Path, desk: Device) -> None:
        make_bundle(project / f"bundles/digits-{TARGET}")
        ran = edgekit("push", "--json")
        assert ran.stderr == ""
        assert len(ran.stdout.splitlines()) == 1
        assert json.loads(ran.stdout)["schema_version"] == 1
