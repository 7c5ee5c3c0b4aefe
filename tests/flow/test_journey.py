"""The way of the README by its commands, to a folder and over a real sshd; a test starts where the last one ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import fleet, simulate, transports
from edgekit.lab import sshd
from tests.lab.bundles import DIGITS, TARGET
from tests.lab.project import environment, settle, started
from tests.lab.sshd import needs_sshd

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def document(*words: str | Path, status: int = 0) -> dict[str, Any]:
    return started(*words, "--json", status=status).document


@dataclass
class Journey:
    """Where we stand: the device and what the commands so far have said."""

    transport: str
    project: Path
    shared: Path
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return fleet.find(self.project, "desk").uri

    def build(self, *more: str) -> dict[str, Any]:
        data = ["--calibration", DIGITS / "calibration.npz", "--evaluation", DIGITS / "evaluation.npz"]
        return document("build", DIGITS / "digits.onnx", "--target", TARGET, *data, *more)

    def loop(self) -> str:
        """Run examples/digits/loop.py on the device, with the device's own environment."""
        home = self.said["setup"]["home"]
        with transports.connect(self.uri) as link:
            for file in ("loop.py", "evaluation.npz"):
                link.put(DIGITS / file, f"{home}/{file}")
            program = [f"{home}/env/bin/python", f"{home}/loop.py", f"{home}/evaluation.npz"]
            return link.run(program).check().stdout.decode()


TRANSPORTS = (
    pytest.param("local", marks=[] if sshd.find() is None else pytest.mark.slow),
    pytest.param("ssh", marks=needs_sshd),
)
"""One of them is quick: that over SSH, wherever there is a server."""


@pytest.fixture(scope="module", params=TRANSPORTS)
def journey(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    shared = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        project = settle(tmp_path_factory.mktemp(f"journey-{request.param}"), shared, patch)
        try:
            yield Journey(request.param, project, shared)
        finally:
            simulate.stop("desk", project / ".edgekit" / "devices")


def test_init_writes_both_files(journey: Journey) -> None:
    assert document("init")["written"] == ["edgekit.toml", "fleet.toml"]
    assert (journey.project / "edgekit.toml").exists()


def test_build_makes_a_signed_bundle(journey: Journey) -> None:
    built = journey.said["build"] = journey.build()
    assert built["verdict"]["ok"]
    assert DIGEST.fullmatch(built["digest"])
    shown = journey.said["show"] = document("bundle", "show", built["bundle"])
    assert (shown["digest"], shown["signed"]) == (built["digest"], True)


def test_a_device_comes_into_the_fleet(journey: Journey) -> None:
    if journey.transport == "ssh":
        made = document("device", "simulate", "desk")
        assert (made["running"], made["transport"], made["target"]) == (True, "ssh", TARGET)
        assert made["uri"].startswith("ssh://")
    else:  # it has the environment already that the first device of these tests got
        uri = f"local:{journey.project}/desk"
        (journey.project / "desk").mkdir()
        (journey.project / "desk" / "env").symlink_to(environment(journey.shared))
        added = document("device", "add", "desk", uri, "--target", TARGET)
        assert added["device"] == {"name": "desk", "uri": uri, "target": TARGET, "tags": [], "server": None}
    assert [each["name"] for each in document("device", "list")["devices"]] == ["desk"]


def test_probe_works_before_anything_is_set_up(journey: Journey) -> None:
    facts = document("device", "probe", "desk")["facts"]
    assert (facts["packages"]["edgekit-runtime"] is None) == (journey.transport == "ssh")
    assert facts["home"].startswith(str(journey.project))
    journey.said["setup"] = {"home": facts["home"]}


def test_setup_brings_everything_from_this_host(journey: Journey) -> None:
    done = document("device", "setup", "desk", "--offline")
    assert (done["installed"], done["trusted"]) == (journey.transport == "ssh", True)
    facts = document("device", "probe", "desk")["facts"]
    assert facts["engines"][done["engine"]] == done["engine_version"] is not None
    assert facts["python_executable"].startswith(journey.said["setup"]["home"])


def test_candidates_can_be_timed_there_before_anything_is_live(journey: Journey) -> None:
    built = journey.build("--on", "desk", "--output", "timed")
    assert "latency was measured on desk" in built["verdict"]["notes"]
    assert all(each["latency_ms"]["p50"] > 0 for each in built["candidates"])
    assert not document("status")["devices"][0]["apps"]
    with transports.connect(journey.uri) as link:
        left = link.run(["ls", journey.said["setup"]["home"]]).check().stdout.decode()
    assert "time-" not in left


def test_push_proves_and_switches(journey: Journey) -> None:
    [pushed] = document("push", "--to", "desk")["devices"]
    assert (pushed["ok"], pushed["release"], pushed["previous"]) == (True, journey.said["build"]["digest"], None)
    assert pushed["bytes_total"] > pushed["bytes_sent"] > 0
    assert (pushed["proof"]["vectors"], pushed["proof"]["agreement"]) == (16, 1.0)


def test_pushing_it_again_sends_nothing(journey: Journey) -> None:
    [pushed] = document("push", "--to", "desk")["devices"]
    assert (pushed["ok"], pushed["bytes_sent"], pushed["previous"]) == (True, 0, None)


def test_status_shows_it(journey: Journey) -> None:
    [shown] = document("status", "desk")["devices"]
    [app] = shown["apps"]
    assert (app["app"], app["current"]["digest"]) == ("digits", journey.said["build"]["digest"])
    assert (app["current"]["state"]["name"], app["previous"]) == ("trial", None)
    assert shown["home"] == journey.said["setup"]["home"]


def test_the_loop_on_the_device_is_as_right_as_the_build_said(journey: Journey) -> None:
    candidates = journey.said["build"]["candidates"]
    [chosen] = [candidate for candidate in candidates if candidate["chosen"]]
    assert journey.loop() == f"accuracy {chosen['accuracy']:.4f} over 400 samples\n"


def test_which_ends_its_trial(journey: Journey) -> None:
    [app] = document("why", "desk")["apps"]
    assert (app["current"]["state"]["name"], app["latency"]["calls"]) == ("good", 400)
    assert [(event["what"], event["code"]) for event in app["events"]] == [("activated", ""), ("confirmed", "served")]


def test_report_has_every_call_once(journey: Journey) -> None:
    for _ in range(2):
        told = document("report", "desk")
        assert told["failures"] == []
        [row] = told["reports"]
        assert (row["device"], row["app"], row["count"], row["errors"]) == ("desk", "digits", 400, {})
        assert row["release"] == journey.said["build"]["digest"]
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"] <= row["latency_ms"]["p99"]


def test_the_next_build_is_pushed_with_what_is_new_only(journey: Journey) -> None:
    again = journey.said["again"] = journey.build()
    assert again["digest"] != journey.said["build"]["digest"]
    [pushed] = document("push")["devices"]
    assert (pushed["release"], pushed["previous"]) == (again["digest"], journey.said["build"]["digest"])
    layers = [document("bundle", "show", again["bundle"])["layers"], journey.said["show"]["layers"]]
    shared = sum(layer["size"] for layer in layers[0] if layer in layers[1])
    assert 0 < pushed["bytes_sent"] < pushed["bytes_total"] - shared


def test_rollback_goes_back(journey: Journey) -> None:
    back = document("rollback", "desk")
    assert (back["app"], back["release"], back["state"]) == ("digits", journey.said["build"]["digest"], "good")
    [shown] = document("status")["devices"]
    assert shown["apps"][0]["current"]["digest"] == journey.said["build"]["digest"]
    assert journey.loop().startswith("accuracy ")


def test_run_gives_what_the_model_says(journey: Journey) -> None:
    with np.load(DIGITS / "evaluation.npz") as samples:
        image, label = samples["x"][:1], samples["labels"][0]
    np.savez(journey.project / "one.npz", x=image)
    done = document("run", "desk", "--input", "one.npz", "--output", "out.npz")
    logits = done["outputs"]["logits"]
    assert (logits["dtype"], logits["shape"]) == ("float32", [1, 10])
    assert int(np.argmax(logits["data"])) == label
    with np.load("out.npz") as kept:
        assert kept["logits"].tolist() == logits["data"]


@needs_sshd
def test_stop_leaves_nothing(journey: Journey) -> None:
    if journey.transport == "local":
        assert "no simulated device" in started("device", "simulate", "desk", "--stop", status=2).line
        return
    assert document("device", "simulate", "desk", "--stop") == {"schema_version": 1, "device": "desk", "running": False}
    assert document("device", "list")["devices"] == []
    assert not (journey.project / ".edgekit" / "devices" / "desk").exists()
