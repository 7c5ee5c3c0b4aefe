"""What is done for one device: from values that pickle to values that pickle, whatever the device does."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import msgspec

from edgekit import errand as errands
from edgekit.errand import FAILED, OFFLINE, PUSHED, WITHDRAWN, Errand, Outcome
from edgekit.fleet import Device
from edgekit.policy import Calls
from edgekit_runtime.spool import Spool
from edgekit_runtime.windows import EMULATED, Window
from tests.lab.project import Served, project, served

__all__ = ["project", "served"]  # fixtures


def errand(served: Served) -> Errand:
    """The release that is live already."""
    second = served.second
    return Errand(served.device, "digits", second.digest, str(second.root), previous=served.first.digest)


def over_a_wire(value: Errand) -> Errand:
    return pickle.loads(pickle.dumps(value))


def test_a_push_of_what_is_live(served: Served) -> None:
    outcome = errands.deliver(over_a_wire(errand(served)))
    assert outcome.facts
    assert (outcome.state, outcome.facts["release"], outcome.facts["bytes_sent"]) == (PUSHED, served.second.digest, 0)
    assert pickle.loads(pickle.dumps(outcome)) == outcome


def test_a_device_that_is_not_there_and_one_that_is_no_device(served: Served, project: Path) -> None:
    away = msgspec.structs.replace(served.device, uri="ssh://pi@127.0.0.1:1")
    outcome = errands.deliver(replace(errand(served), device=away))
    assert (outcome.state, outcome.error and outcome.error["code"]) == (OFFLINE, "connect")
    empty = Device("empty", f"local:{project / 'empty'}", served.device.target)
    outcome = errands.deliver(replace(errand(served), device=empty))
    assert outcome == Outcome(
        FAILED,
        error={
            "code": "device",
            "message": "empty: edgekit is not set up on this device",
            "hint": "run 'edgekit device setup empty' for it",
        },
    )


def test_a_bundle_that_was_built_anew_meanwhile(served: Served) -> None:
    outcome = errands.deliver(replace(errand(served), folder=str(served.first.root)))
    assert outcome.state == FAILED
    assert outcome.error
    assert "the bundle was built anew" in str(outcome.error["message"])


def test_a_device_that_went_back_by_itself_is_left_there(served: Served) -> None:
    left = replace(errand(served), release=served.first.digest, previous=served.second.digest)
    assert errands.withdraw(left) == Outcome(WITHDRAWN, {"release": served.second.digest})


class TestLook:
    def test_what_was_counted_of_both_releases(self, served: Served) -> None:
        spool = Spool(served.home / "reports" / "digits")
        for seq, (release, session) in enumerate(
            [(served.second, "a"), (served.second, "a"), (served.first, "b"), (served.first, f"{EMULATED}c")]
        ):
            spool.append(Window("digits", release.digest, session, seq, 1.0, 2.0, {690 + seq: 5}, {"engine": 1}))
        found = errands.look(errand(served))
        assert (found.live, found.left, found.silent) == (served.second.digest, None, None)
        assert found.now == Calls({690: 5, 691: 5}, {"engine": 2})
        assert found.before == Calls({0: 10}, {"engine": 2})  # no times of an emulator
        assert pickle.loads(pickle.dumps(found)) == found

    def test_a_device_that_is_silent(self, served: Served) -> None:
        away = msgspec.structs.replace(served.device, uri="ssh://pi@127.0.0.1:1")
        found = errands.look(replace(errand(served), device=away))
        assert found.silent
        assert found.silent.startswith("desk: pi@127.0.0.1:1: connection refused")
