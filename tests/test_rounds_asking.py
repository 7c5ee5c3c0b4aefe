"""What is done for one device of a round, whatever the device says: values that pickle go in and come out."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.federated.rounds import asking
from edgekit.federated.rounds.asking import Answer, Ask, Live
from edgekit.federated.rounds.round import CAME, FAILED, OFFLINE
from edgekit.fleet import Device

KEY = "0a" * 16
SAID = {"bytes": 7, "signature": "signed", "public": "key"}


def device(home: Path, said: Any = None, script: str = "") -> Device:
    """A device whose Python says that, to whatever it is asked."""
    python = home / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    answer = said if isinstance(said, str) else json.dumps(said)
    python.write_text(script or f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    python.chmod(0o755)
    return Device("pi", f"local:{home}", "pi")


def ask(of: Device, **changes: Any) -> Ask:
    asked = Ask(of, "faces", KEY, b"a task", "its signature", 100, 20.0)
    return pickle.loads(pickle.dumps(replace(asked, **changes)))


def learned(home: Path, said: Any) -> Answer:
    """An update of seven bytes is there."""
    place = home / "rounds" / "faces" / KEY
    place.mkdir(parents=True)
    (place / "update.safetensors").write_bytes(b"updated and more")
    answer = asking.learn(ask(device(home, said)))
    assert pickle.loads(pickle.dumps(answer)) == answer
    return answer


def test_the_task_is_put_there_and_the_update_fetched_as_far_as_was_told(tmp_path: Path) -> None:
    answer = learned(tmp_path, SAID)
    assert answer == Answer(CAME, b"updated", "signed", "key")
    place = tmp_path / "rounds" / "faces" / KEY
    assert ((place / "task.safetensors").read_bytes(), (place / "task.sig").read_text()) == (b"a task", "its signature")


def test_a_large_update_is_fetched_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, and not a byte more; of one that has become shorter what is there."""
    monkeypatch.setattr(asking, "PIECE", 3)
    assert learned(tmp_path / "a", SAID).update == b"updated"
    assert learned(tmp_path / "b", {**SAID, "bytes": 99}).update == b"updated and more"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({**SAID, "bytes": 101}, "pi: an update of 101 bytes, where at most 100 can be"),
        ({**SAID, "bytes": -1}, "pi: an update of -1 bytes, where at most 100 can be"),
        ({**SAID, "bytes": "7"}, "pi: says nothing of an update"),
        ({"bytes": 7}, "pi: says nothing of an update"),
        ([1], "pi: the device's learn ended with status 0"),
        ('{"bytes": NaN}', "pi: the device's learn ended with status 0"),
        ({"error": {"code": "training", "message": "no samples\u001b[2J", "hint": None}}, "pi: no samples\ufffd[2J"),
    ],
)
def test_a_device_that_says_something_else(tmp_path: Path, said: Any, message: str) -> None:
    answer = learned(tmp_path, said)
    assert answer.state == FAILED
    assert answer.error
    assert str(answer.error["message"]).startswith(message)


def test_a_device_that_is_away_is_not_set_up_or_does_not_learn(tmp_path: Path) -> None:
    away = asking.learn(ask(Device("pi", "ssh://pi@127.0.0.1:1", "pi")))
    assert (away.state, away.error and away.error["code"]) == (OFFLINE, "connect")
    empty = asking.learn(ask(Device("pi", f"local:{tmp_path / 'empty'}", "pi")))
    assert empty.error
    assert empty.error["message"] == "pi: edgekit is not set up on this device"
    lacks = device(tmp_path / "lacks", script="#!/bin/sh\necho $0: No module named edgekit_train >&2; exit 1\n")
    answer = asking.learn(ask(lacks))
    assert answer.error
    assert answer.error["message"] == "pi: this device has no edgekit_train"
    assert answer.error["hint"] == "run 'edgekit device setup pi' for it, with --train"


def test_a_device_that_hangs_is_given_up_when_its_time_is_over(tmp_path: Path) -> None:
    answer = asking.learn(ask(device(tmp_path, script="#!/bin/sh\nsleep 60\n"), for_s=1.0))
    assert answer.error
    assert answer.error["code"] == "timeout"


@pytest.mark.parametrize(
    ("apps", "found"),
    [
        ([{"app": "faces", "release": "sha256:1", "family": "a+b"}], Live("faces", "a+b")),
        ([{"app": "faces", "error": {"code": "digest", "message": "broken", "hint": None}}], "broken"),
        ([{"app": "faces", "error": {}}], "this device tells of an error, and not of which"),
        ([{"app": "faces", "error": {"code": "digest", "hint": 7}}], "this device tells of an error, and not of which"),
        ([], "pi: serves no app"),
        (None, "pi: serves no app"),
        ([7, "x"], "pi: serves no app"),
        ([{"app": name, "release": "x", "family": "y"} for name in ("a", "b")], "pi: serves several apps"),
    ],
)
def test_which_release_is_live(tmp_path: Path, apps: Any, found: Live | str) -> None:
    told = asking.look(device(tmp_path, {"apps": apps}), "")
    if isinstance(found, Live):
        assert told == found
    else:
        assert told.error
        assert told.error["message"] == found


def test_of_several_apps_the_one_that_is_named(tmp_path: Path) -> None:
    apps = [{"app": name, "release": f"sha256:{name}", "family": name} for name in ("a", "b")]
    of = device(tmp_path, {"apps": apps})
    assert asking.look(of, "b") == Live("b", "b")
    assert asking.look(of, "c").error == {
        "code": "config",
        "message": "pi: serves no c",
        "hint": "push to it first: edgekit push",
    }
