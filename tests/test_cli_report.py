from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit import fleet
from edgekit.fleet import Device
from edgekit_runtime.spool import Spool
from edgekit_runtime.windows import Window
from tests.lab.bundles import TARGET
from tests.lab.project import EDGEKIT, desk, document, edgekit, local_device, project

__all__ = ["desk", "project"]  # fixtures

RELEASE = "sha256:" + "a" * 64
WINDOW = Window("digits", RELEASE, "0f" * 16, 0, 1_780_000_200.0, 1_780_000_260.0, {690: 3}, {"invalid_input": 1})


@pytest.fixture
def measured(project: Path, desk: Device) -> Device:
    """The desk, with two windows in its spool."""
    for seq in range(2):
        Spool(project / "desk/reports/digits").append(replace(WINDOW, seq=seq))
    return desk


class TestPulled:
    def test_once_however_often_it_is_asked(self, project: Path, measured: Device) -> None:
        for _ in range(2):
            told = document("report")
            [row] = told["reports"]
            assert (row["device"], row["app"], row["release"], row["count"]) == ("desk", "digits", RELEASE, 6)
            assert row["errors"] == {"invalid_input": 2}
            assert (row["first_s"], row["last_s"]) == (WINDOW.start_s, WINDOW.end_s)
            assert row["trend"]["p95_ms"][-1] == row["latency_ms"]["p95"]
            assert row["latency_ms"]["p50"] == pytest.approx(0.98, rel=0.02)
            assert told["failures"] == []
        assert (project.parent / "person/state/edgekit/edgekit.db").exists()

    def test_what_a_person_reads(self, project: Path, measured: Device) -> None:
        header, row, *_ = edgekit("report").stdout.splitlines()
        assert header.split("  ")[0] == "device"
        assert row.split() == ["desk", "digits", RELEASE[:19], "6", *row.split()[4:7], "▁", "invalid_input", "2"]

    def test_the_store_without_the_devices(self, project: Path, measured: Device) -> None:
        assert document("report", "--no-pull")["reports"] == []
        document("report")
        (project / "desk/env").unlink()
        assert document("report", "--no-pull")["reports"][0]["count"] == 6

    def test_of_the_devices_that_are_named(
        self, project: Path, measured: Device, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        local_device("gate", project, tmp_path_factory.getbasetemp())
        Spool(project / "gate/reports/cats").append(replace(WINDOW, app="cats"))
        assert [row["device"] for row in document("report")["reports"]] == ["desk", "gate"]
        assert [row["app"] for row in document("report", "gate")["reports"]] == ["cats"]

    @pytest.mark.slow
    def test_two_at_once(self, project: Path, measured: Device) -> None:
        command = [*EDGEKIT, "report", "--json"]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        told = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
        assert [each["reports"][0]["count"] for each in told] == [6, 6, 6]


class TestTrouble:
    def test_a_device_that_is_down_does_not_keep_the_others(self, project: Path, measured: Device) -> None:
        fleet.add(project, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
        ran = edgekit("report", "--json", status=1)
        assert ran.document["reports"][0]["count"] == 6
        [failure] = ran.document["failures"]
        assert (failure["device"], failure["error"]["code"]) == ("gone", "connect")
        person = edgekit("report", status=1)
        assert person.line.startswith("edgekit: gone: pi@127.0.0.1:1: connection refused — ")
        assert "digits" in person.stdout

    @pytest.mark.parametrize("url", ["nonsense", "sqlite://host/x", "postgresql+nodriver://u:secret@h/x"])
    def test_a_store_that_is_none(
        self, project: Path, measured: Device, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        monkeypatch.setenv("EDGEKIT_STORE", url)
        ran = edgekit("report", "--json", status=2)
        assert ran.document["error"]["code"] == "config"
        assert "EDGEKIT_STORE names no database" in ran.line
        assert "secret" not in ran.stderr

    def test_a_store_that_cannot_be_opened(
        self, project: Path, measured: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EDGEKIT_STORE", "sqlite:////nowhere/at/all.db")
        assert "the store cannot be opened: " in edgekit("report", status=1).line

    def test_a_store_that_is_locked_loses_nothing(
        self, project: Path, measured: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        document("report", "--no-pull")
        path = project.parent / "person/state/edgekit/edgekit.db"
        monkeypatch.setenv("EDGEKIT_STORE", f"sqlite:///{path}?timeout=0.2")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # others may read
            ran = edgekit("report", status=1)
        assert ran.line.startswith(
            "edgekit: desk: the report cannot be stored: (sqlite3.OperationalError) database is locked"
        )
        assert document("report")["reports"][0]["count"] == 6

    def test_a_store_that_is_read_only_loses_nothing(
        self, project: Path, measured: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        document("report", "--no-pull")
        path = project.parent / "person/state/edgekit/edgekit.db"
        monkeypatch.setenv("EDGEKIT_STORE", f"sqlite:///file:{path}?mode=ro&uri=true")
        assert "readonly database — nothing is lost: run it again" in edgekit("report", status=1).line
        monkeypatch.delenv("EDGEKIT_STORE")
        assert document("report")["reports"][0]["count"] == 6

    def test_a_device_that_lies(self, project: Path, measured: Device) -> None:
        (project / "desk/env").unlink()
        (project / "desk/env/bin").mkdir(parents=True)
        script = project / "desk/env/bin/python"
        script.write_text('#!/bin/sh\necho \'{"windows": [{"app": "<script>", "seq": 1e999}, 5, null]}\'\n')
        script.chmod(0o755)
        ran = edgekit("report", "--json", status=1)
        assert ran.document["failures"][0]["error"]["code"] == "command"
        script.write_text('#!/bin/sh\necho \'{"windows": [{"app": "<script>"}, 5, null]}\'\n')
        assert document("report")["reports"] == []

    def test_cut_in_the_middle_it_is_stored_once(self, project: Path, measured: Device) -> None:
        """The device's answer breaks off, for longer and longer; then it comes whole."""
        (project / "desk/env").rename(project / "desk/whole")
        (project / "desk/env/bin").mkdir(parents=True)
        script = project / "desk/env/bin/python"
        for length in (0, 40, 150, 300, 10_000, 10_000):
            script.write_text(f'#!/bin/sh\n"$EDGEKIT_HOME/whole/bin/python" "$@" | head -c {length}\n')
            script.chmod(0o755)
            told = document("report", status=0 if length == 10_000 else 1)
            assert [row["count"] for row in told["reports"]] == ([6] if length == 10_000 else [])


def test_the_store_is_the_one_of_the_environment(
    project: Path, measured: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_STORE", "sqlite:///own.db")
    document("report")
    assert (project / "own.db").exists()
    assert not (project.parent / "person/state").exists()
