"""`edgekit round`: what it prints, and its exit status; devices are folders of this machine, and really learn."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from edgekit import fleet
from edgekit.federated.rounds.shelf import Shelf
from edgekit.fleet import Device
from edgekit_train import tensor_file
from tests.flow.test_fleet import cluster
from tests.lab import faces
from tests.lab.bundles import TARGET
from tests.lab.project import document, edgekit, project
from tests.runtime.learners import shipped

__all__ = ["cluster", "project"]  # fixtures

NAMES = ("gate", "hall", "yard")


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(project.parent / "person" / "data"))
    faces.settle(project)
    faces.learning(project, *NAMES)
    return project


def test_a_round_from_the_model_and_the_next_one_from_that(here: Path) -> None:
    """And one from a file, and what a person reads of them."""
    ran = edgekit("round", "start", "--set", "epochs=20", "--clip", "3")
    begun, *rest = ran.stderr.splitlines()
    assert re.fullmatch(r"round 1: 3 devices, faces of model sha256:\w{12}, head by fedavg, from model", begun)
    assert rest == ["round 1: 3 of 3 updates"]
    *devices, ended = ran.stdout.splitlines()
    assert sorted(line.partition(":")[0] for line in devices) == ["gate", "hall", "yard"]
    assert all(
        re.search(r": 60 samples learned from, .* KiB in .* s; loss .* → .*; accuracy ", line) for line in devices
    )
    found = re.fullmatch(
        r"round 1: 3 updates of 180 samples, weights moved by \S+; "
        r"accuracy (\S+)% → (\S+)% on 200 evaluation samples",
        ended,
    )
    assert found
    assert float(found[2]) > float(found[1]) + 20
    [second] = document("round", "start", "--to", "gate", "--set", "epochs=1")["rounds"]
    assert (second["source"], second["result"]["before"]) == ("round 1", float(found[2]) / 100)
    (here / "zero.safetensors").write_bytes(
        tensor_file.dump({name: np.zeros_like(array) for name, array in shipped().items()}, {})
    )
    [third] = document("round", "start", "--from", "zero.safetensors", "--strategy", "median", "--rounds", "1")[
        "rounds"
    ]
    assert not any(array.any() for array in Shelf(third["key"]).start().weights.values())
    shown = edgekit("round", "show", "1").stdout.splitlines()
    assert shown[0].endswith("): done")
    assert shown[-1] == ended.removeprefix("round 1: ")
    assert document("round", "inspect", "gate") == document("round", "inspect", "3", "gate")
    assert [each["device"] for each in document("round", "inspect", "2")["updates"]] == ["gate"]


def test_a_round_that_halts_is_carried_on_or_ended(here: Path) -> None:
    fleet.add(here, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
    words = (
        "round",
        "start",
        "--strategy",
        "median",
        "--option",
        "liars=1",
        "--to",
        "gate",
        "--to",
        "hall",
        "--to",
        "gone",
    )
    ran = edgekit(*words, status=3)
    assert "edgekit: gone: pi@127.0.0.1:1: connection refused" in ran.stderr
    assert ran.stderr.splitlines()[-1] == (
        "edgekit: round 1: 2 of 3 updates; median needs 3 updates — "
        "'edgekit round resume' asks again, 'edgekit round abort' ends it"
    )
    again = edgekit("round", "resume", "--json", status=3)
    [halted] = json.loads(again.stdout)["rounds"]
    assert [each["state"] for each in halted["devices"]] == ["came", "came", "offline"]
    assert edgekit("round", "abort").stdout == "round 1: aborted\n"
    assert "round 1 was aborted" in edgekit("round", "resume", status=2).line
    assert not (here / "gate" / "rounds" / "faces" / halted["key"]).exists()


@pytest.mark.slow
def test_the_same_on_a_cluster(here: Path, cluster: str) -> None:
    fleet.add(here, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
    words = ("--executor", cluster, "--rounds", "2", "--quorum", "100%", "--set", "epochs=1")
    first, second = document("round", "start", *words)["rounds"]
    for found in (first, second):
        assert [each["state"] for each in found["devices"]] == ["came", "came", "came", "offline"]
        assert found["state"] == "done"


def test_what_cannot_be_is_said_before_any_device_is_asked(here: Path) -> None:
    for words, line in (
        (["start", "--strategy", "krum"], "krum needs 5 devices, and 3 are meant"),
        (["start", "--trainer", "own"], "where does 'own' start from?"),
        (["start", "--set", "a/b=1"], "no device can be asked that: no name: 'a/b'"),
        (["start", "--from", "7"], "no round 7 of the project"),
        (["inspect", "1"], "no round 1 of the project"),
        (["inspect", "gate"], "no round of the project"),
        (["inspect", "1", "gate", "hall"], "one device at a time, not 'hall' as well"),
    ):
        assert line in edgekit("round", *words, status=2).line
    assert not any((here / name / "rounds").exists() for name in NAMES)
