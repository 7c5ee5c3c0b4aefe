"""Rules over a device that serves: a release that does worse is rolled back once, by the device, with the reason."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit import device as devices
from edgekit import transports
from edgekit.rules import enforce
from edgekit.rules.deed_store import Deeds
from edgekit.rules.deeds import Due
from edgekit.store import Store
from edgekit_runtime.histogram import index
from edgekit_runtime.spool import Spool
from edgekit_runtime.windows import Window
from tests.lab.project import Served, document, edgekit, project, served

__all__ = ["project", "served"]  # fixtures

FAST, SLOW = index(1_000_000), index(2_100_000)
ROLL_BACK = '[rules.slower]\ndo = "roll back"\n'


def calls(served: Served, release: str, bucket: int, *, ago_s: float, seq: int = 0, number: int = 1000) -> None:
    """What a runtime wrote about calls of a release that ended so long ago."""
    end = time.time() - ago_s
    window = Window("digits", release, f"{release[7:23]}", seq, end - 600, end, {bucket: number})
    Spool(served.home / "reports/digits").append(window)


@pytest.fixture
def slower(served: Served) -> Served:
    """The second release takes twice as long as the first one did."""
    calls(served, served.first.digest, FAST, ago_s=90_000)
    calls(served, served.second.digest, SLOW, ago_s=30)
    return served


def live() -> str:
    [device] = document("status")["devices"]
    return str(device["apps"][0]["current"]["digest"])


@pytest.mark.slow
def test_it_is_rolled_back_by_rule_and_a_second_time_not(project: Path, slower: Served) -> None:
    (project / "policy.toml").write_text(ROLL_BACK)
    check = document("policy", "check")
    assert [(each["rule"], each["do"]) for each in check["due"]] == []  # the store has nothing yet
    told = document("report", status=3)
    [alert] = told["alerts"]
    assert (alert["device"], alert["rule"], alert["level"]) == ("desk", "slower", "warning")
    [acted] = told["acted"]
    assert (acted["what"], acted["release"], acted["error"]) == ("rolled back", slower.second.digest, None)
    assert live() == slower.first.digest

    audit = [json.loads(line) for line in (slower.home / "audit.log").read_text().splitlines()]
    reason = f"rule slower: {alert['told']}"
    assert (audit[-1]["what"], audit[-1]["code"], audit[-1]["reason"]) == ("rollback", "by_rule", reason)
    [app] = document("why", "desk")["apps"]
    assert (app["left"]["release"], app["left"]["code"], app["left"]["reason"]) == (
        slower.second.digest,
        "by_rule",
        reason,
    )

    again = document("report", status=0)
    assert (again["acted"], [alert["rule"] for alert in again["closed"]]) == ([], ["slower"])
    assert live() == slower.first.digest
    calls(slower, slower.first.digest, SLOW, ago_s=1, seq=1, number=100_000)
    assert document("report")["acted"] == []
    assert live() == slower.first.digest


@pytest.mark.slow
def test_a_release_that_was_pushed_again_is_not_taken_back_again(project: Path, slower: Served) -> None:
    (project / "policy.toml").write_text(ROLL_BACK)
    document("report", status=3)
    document("push", slower.second.root, "--to", "desk")
    calls(slower, slower.second.digest, SLOW, ago_s=-1, seq=1)
    told = document("report")
    assert (told["acted"], [alert["rule"] for alert in told["alerts"]]) == ([], ["slower"])
    assert live() == slower.second.digest


@pytest.mark.slow
def test_without_a_policy_it_is_told(project: Path, slower: Served) -> None:
    ran = edgekit("report")
    assert "warning: desk: digits " in ran.stdout
    assert "slower: p95 is 2.1 times that of the release before (above 1.25, of 1000 calls)" in ran.stdout
    assert live() == slower.second.digest
    assert "warning: desk: digits " in edgekit("report", "--no-pull").stdout


@pytest.mark.slow
def test_check_shows_what_rules_would_do_and_does_nothing(project: Path, slower: Served) -> None:
    document("report")
    (project / "policy.toml").write_text(ROLL_BACK)
    told = document("policy", "check")
    assert [(each["rule"], each["device"]) for each in told["due"]] == [("slower", "desk")]
    assert [alert["rule"] for alert in told["alerts"]] == ["slower"]
    person = edgekit("policy", "check").stdout
    assert "would roll desk back from digits" in person
    assert live() == slower.second.digest


@pytest.mark.slow
@pytest.mark.parametrize("ahead_s", [3600.0, -90_000.0])
def test_not_on_what_was_told_by_a_clock_that_is_wrong_or_long_ago(
    project: Path, served: Served, ahead_s: float
) -> None:
    calls(served, served.first.digest, FAST, ago_s=190_000)
    calls(served, served.second.digest, SLOW, ago_s=-ahead_s)
    (project / "policy.toml").write_text(ROLL_BACK)
    assert edgekit("report", "--json").document["acted"] == []
    assert live() == served.second.digest


@pytest.mark.slow
def test_a_device_that_left_the_release_by_itself_is_left_alone(project: Path, slower: Served) -> None:
    document("report")
    document("rollback", "desk")
    (project / "policy.toml").write_text(ROLL_BACK)
    told = document("report")
    assert (told["acted"], told["alerts"], [alert["rule"] for alert in told["closed"]]) == ([], [], ["slower"])
    assert live() == slower.first.digest


def test_only_the_release_that_was_judged_is_left(project: Path, served: Served) -> None:
    due = Due("roll back", "slower", "desk", "digits", served.first.digest, "rule slower: it is")
    with Store("sqlite:///own.db") as store:
        done = enforce.roll_back(due, served.device, Deeds(store), lambda device: transports.connect(device.uri))
        assert done is not None
        assert done.error is not None
        assert (done.what, "is not live here any more" in str(done.error["message"])) == ("failed", True)
        assert enforce.roll_back(due, served.device, Deeds(store), lambda device: transports.connect("local:/")) is None
    with transports.connect(served.device.uri) as link:
        assert devices.app(link, "digits")["current"]["digest"] == served.second.digest


@pytest.mark.slow
def test_a_critical_alert_is_an_answer_of_no(project: Path, served: Served) -> None:
    window = Window(
        "digits", served.second.digest, "s", 0, time.time() - 600, time.time(), {FAST: 900}, {"internal": 100}
    )
    Spool(served.home / "reports/digits").append(replace(window))
    ran = edgekit("report", status=3)
    assert "critical: desk: digits " in ran.stdout
    assert "errors: 10.00% of the calls failed (above 0.01, of 1000 calls)" in ran.stdout


def test_a_mistake_in_the_policy_is_told_before_any_device_is_asked(project: Path, served: Served) -> None:
    (project / "policy.toml").write_text("[rules.slower]\nabvoe = 2\n")
    assert edgekit("report", status=2).line == (
        "edgekit: policy.toml: rules.slower.abvoe: unknown key — did you mean 'above'?"
    )
