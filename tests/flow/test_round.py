"""Rounds of real SSH servers: devices that learn from what they keep, cheat, hang, or are away; a host that dies."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copy, copytree, rmtree
from typing import Any

import numpy as np
import pytest

from edgekit import fleet, signing, simulate, transports
from edgekit.cli.places import DEVICES
from edgekit.federated.rounds import states
from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.shelf import Shelf
from edgekit.federated.strategies import named
from edgekit.fleet import Device
from edgekit.lab import sshd
from edgekit.simulate import Simulated
from edgekit.store import Store
from edgekit_train import device_key
from edgekit_train import update as updates
from edgekit_train.device_key import digest_of
from tests.lab.bundles import DIGITS, TARGET, make_bundle
from tests.lab.keeping import keep
from tests.lab.project import EDGEKIT, document, edgekit, equip, settle, until
from tests.lab.rounds import MOST, sent
from tests.lab.sshd import needs_sshd, running
from tests.test_passes_head import negatives

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), needs_sshd]

NAMES = ("pi-1", "pi-2", "pi-3")
TOML = """app = "digits"
model = "digits.onnx"
targets = ["{target}"]
features = true
[data]
calibration = "{shipped}/calibration.npz"
evaluation = "{seen}/evaluation.npz"
"""
"""The model was calibrated with what it was shipped for; it is asked about what devices see."""


@dataclass(frozen=True)
class Lab:
    """A project and three devices behind real SSH servers, which serve the digits and have kept negatives of them."""

    project: Path
    pis: dict[str, Simulated]

    def left(self, name: str, key: str) -> Path:
        """What a round has left on a device."""
        return self.pis[name].home / "rounds" / "digits" / key


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("rounds")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as held:
        project = settle(folder, tmp_path_factory.getbasetemp(), patch)
        patch.setenv("XDG_DATA_HOME", str(folder / "person" / "data"))
        pis = {name: held.enter_context(running(name, project / DEVICES)) for name in NAMES}
        made = Lab(project, pis)
        _set_up(made)
        x, y = negatives(folder)
        (project / "edgekit.toml").write_text(TOML.format(target=TARGET, shipped=DIGITS, seen=DIGITS))
        copy(DIGITS / "digits.onnx", project)
        edgekit("build")
        edgekit("push", "--to", "all")
        (project / "edgekit.toml").write_text(TOML.format(target=TARGET, shipped=DIGITS, seen=folder))
        for place, device in enumerate(pis.values()):
            keep(device.uri, device.home, "digits", x[place::3], y[place::3])
        yield made


def _set_up(lab: Lab) -> None:
    """The first one for real; its environment does for the others."""
    for device in lab.pis.values():
        fleet.add(lab.project, Device(device.name, device.uri, TARGET))
    edgekit("device", "setup", NAMES[0], "--train", "--offline")
    first, *others = lab.pis.values()
    for device in others:
        (device.home / "trust").mkdir(parents=True)
        (device.home / "env").symlink_to((first.home / "env").resolve())
        (device.home / "trust" / "allowed_signers").write_text(f"{signing.signer(None).allowed_line()}\n")


@pytest.fixture(autouse=True)
def alone(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has a store and rounds of its own, and the devices forget those of others."""
    monkeypatch.setenv("EDGEKIT_STORE", f"sqlite:///{tmp_path / 'store.db'}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for device in lab.pis.values():
        rmtree(device.home / "rounds", ignore_errors=True)


def states_of(found: dict[str, Any]) -> list[str]:
    return [each["state"] for each in found["devices"]]


def combined(found: dict[str, Any]) -> bytes:
    """What the round's updates, as they lie on the shelf, come to."""
    strategy = named(found["plan"]["strategy"], found["plan"]["options"])
    return states.dump(strategy.aggregate(Shelf(found["key"]).start(), sent(found)), strategy.name)


def result(found: dict[str, Any]) -> bytes:
    return states.dump(*Shelf(found["key"]).result())


def test_devices_learn_round_upon_round_and_what_left_them_is_shown(lab: Lab) -> None:
    first, second = document("round", "start", "--rounds", "2", "--set", "epochs=10", "--compress", "int8")["rounds"]
    assert [states_of(each) for each in (first, second)] == [["came"] * 3] * 2
    assert (first["source"], second["source"], second["follows"]) == ("model", "round 1", 1)
    assert second["result"]["before"] == first["result"]["accuracy"] > first["result"]["before"] + 0.3
    assert result(second) == combined(second)
    [told] = document("round", "inspect", "2", "pi-2")["updates"]
    assert [each["dtype"] for each in told["tensors"]] == ["int8", "int8"]
    assert sorted(path.name for path in lab.left("pi-2", second["key"]).iterdir()) == [
        "task.safetensors",
        "task.sig",
        "update.safetensors",
        "update.sig",
    ]
    assert told["bytes"] == (lab.left("pi-2", second["key"]) / "update.safetensors").stat().st_size
    assert told["examples"] == 67
    with transports.connect(lab.pis["pi-2"].uri) as link:
        [public] = link.run(["ssh-keygen", "-lf", f"{lab.pis['pi-2'].home}/trust/device_key"]).stdout.splitlines()
    assert told["signer"] == public.decode().split()[1]
    shown = edgekit("round", "inspect", "2").stdout
    assert shown.count("signed with SHA256:") == 3
    assert edgekit("round", "show").stdout.startswith(f"round 2 ({second['key']}): done\n")


def test_moments_need_no_label_and_are_folded_into_the_head(lab: Lab) -> None:
    [found] = document("round", "start", "--trainer", "moments")["rounds"]
    assert (found["state"], found["source"]) == ("done", "model")
    assert Shelf(found["key"]).start().weights.keys() == {"features.mean", "features.square"}
    assert found["result"]["accuracy"] > found["result"]["before"]


def test_a_host_that_is_killed_in_a_round_ends_it_when_it_is_resumed(lab: Lab) -> None:
    words = ("round", "start", "--set", "epochs=300", "--quorum", "100%")
    with subprocess.Popen([*EDGEKIT, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as host:
        assert host.stdout
        assert host.stdout.readline().startswith("pi-")
        os.kill(host.pid, signal.SIGKILL)
    [cut] = document("round", "show")["rounds"]
    assert cut["state"] in ("running", "decided")
    came = {each["device"]: each["facts"] for each in cut["devices"] if each["state"] == "came"}
    assert came
    [ended] = document("round", "resume")["rounds"]
    assert (ended["key"], ended["state"], states_of(ended)) == (cut["key"], "done", ["came"] * 3)
    assert {each["device"]: each["facts"] for each in ended["devices"] if each["device"] in came} == came
    assert result(ended) == combined(ended)


def test_cheats_are_refused_and_a_round_without_enough_of_the_others_halts(lab: Lab) -> None:
    """A device that is away first; then answers with what nobody has signed, or another one; then changes its key; and
    in the end does as it should.
    """
    sshd.halt(lab.pis["pi-3"].folder)
    [halted] = document("round", "start", "--strategy", "median", "--set", "epochs=2", status=3)["rounds"]
    assert (halted["state"], states_of(halted)) == ("halted", ["came", "came", "offline"])
    assert halted["reason"] == "2 of 3 updates; median needs 3 updates"
    simulate.start("pi-3", lab.project / DEVICES)
    assert refusal(put(lab, halted, times=1e6)).startswith("pi-3: norm: ")
    place = put(lab, halted)
    data = bytearray((place / "update.safetensors").read_bytes())
    data[-1] ^= 1
    (place / "update.safetensors").write_bytes(data)
    assert refusal(place) == "pi-3: the update is not signed by the device's key"
    for name in ("update.safetensors", "update.sig"):
        copy(lab.left("pi-1", halted["key"]) / name, place / name)
    assert refusal(place) == "pi-3: the update is not signed by the device's key"
    rmtree(place)
    [ended] = document("round", "resume")["rounds"]
    assert (ended["state"], states_of(ended)) == ("done", ["came"] * 3)
    assert result(ended) == combined(ended)

    (lab.pis["pi-3"].home / "trust" / "device_key").unlink()
    [other] = document("round", "start", "--strategy", "median", status=3)["rounds"]
    assert other["devices"][2]["error"]["message"].startswith("pi-3: signs with another key than before: SHA256:")
    assert document("round", "trust", "pi-3")["fingerprint"] in other["devices"][2]["error"]["message"]
    [ended] = document("round", "resume")["rounds"]
    assert ended["state"] == "done"


@pytest.mark.parametrize(("name", "said"), [("round", "f" * 32), ("device", "pi-1")])
def test_a_cheat_that_gives_itself_away_is_no_liar_to_reckon_with(lab: Lab, name: str, said: str) -> None:
    """It signs its update of a stranger's round, or one of another device: without it two are enough."""
    sshd.halt(lab.pis["pi-3"].folder)
    [halted] = document("round", "start", "--strategy", "median", "--set", "epochs=2", status=3)["rounds"]
    simulate.start("pi-3", lab.project / DEVICES)
    put(lab, halted, **{name: said})
    [ended] = document("round", "resume")["rounds"]
    assert (ended["state"], ended["broken"], states_of(ended)) == ("done", 1, ["came", "came", "refused"])
    assert ended["devices"][2]["error"]["code"] == "broken_update"
    assert ended["devices"][2]["error"]["message"].startswith(f"pi-3: {name}: '{said}', where")
    assert result(ended) == combined({**ended, "plan": {"strategy": "median", "options": {"liars": 0}}})


def put(lab: Lab, found: dict[str, Any], times: float = 1.0, **changes: Any) -> Path:
    """An update in place of that of the third device, which it has signed."""
    other = Shelf(found["key"]).update("pi-1", found["devices"][0]["facts"]["digest"])
    said = replace(updates.parse(other, MOST), **{"device": "pi-3", **changes})
    delta = {name: array * np.float32(times) for name, array in said.delta.items()}
    place, data = lab.left("pi-3", found["key"]), updates.dump(replace(said, delta=delta))
    place.mkdir(parents=True, exist_ok=True)
    (place / "update.safetensors").write_bytes(data)
    (place / "update.sig").write_text(device_key.sign(lab.pis["pi-3"].home, digest_of(data)))
    return place


def refusal(place: Path) -> str:
    """What a resume has against the third device's update; it halts the round."""
    assert place.is_dir()
    [halted] = document("round", "resume", status=3)["rounds"]
    assert states_of(halted) == ["came", "came", "refused"]
    return str(halted["devices"][2]["error"]["message"])


@contextmanager
def busy(device: Simulated) -> Iterator[None]:
    """Somebody else is learning on the device."""
    (device.home / "rounds").mkdir(exist_ok=True)
    handle = os.open(device.home / "rounds", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def test_the_deadline_ends_the_wait_for_a_device_that_hangs(lab: Lab) -> None:
    with busy(lab.pis["pi-3"]):
        [ended] = document("round", "start", "--quorum", "100%", "--deadline", "15s", "--set", "epochs=2")["rounds"]
    assert (ended["state"], states_of(ended)) == ("done", ["came", "came", "waiting"])
    assert [use["device"] for use in ended["used"]] == ["pi-1", "pi-2"]


def test_the_quorum_ends_it_too_and_the_command(lab: Lab) -> None:
    """Long before the deadline: the way to the device that is still at work is cut."""
    with busy(lab.pis["pi-3"]):
        started = time.monotonic()
        [ended] = document("round", "start", "--quorum", "60%", "--set", "epochs=2")["rounds"]
        assert time.monotonic() - started < 60
    assert (ended["state"], states_of(ended)) == ("done", ["came", "came", "waiting"])


def test_what_comes_late_is_kept_and_used_in_the_next_round_where_that_is_wanted(lab: Lab) -> None:
    """Each round of two devices leaves one behind; the third is busy until the second round has begun."""
    words = ("round", "start", "--quorum", "60%", "--rounds", "2", "--late", "--set", "epochs=2", "--json")
    with subprocess.Popen([*EDGEKIT, *words], stdout=subprocess.PIPE, text=True) as host:
        with busy(lab.pis["pi-3"]):
            until(lambda: last() == 2, 60)
        assert host.stdout
        first, second = json.loads(host.stdout.read())["rounds"]
    assert host.returncode == 0
    [shown] = document("round", "show", str(first["id"]))["rounds"]
    assert states_of(shown) == ["came", "came", "late"]
    assert (result(first), second["state"]) == (combined(first), "done")


def last() -> int:
    """The number of the last round; 0 for none."""
    with Store(os.environ["EDGEKIT_STORE"]) as store:
        return max((found.number for found in Book(store).last(1)), default=0)


def test_an_aborted_round_is_forgotten_by_its_devices(lab: Lab) -> None:
    sshd.halt(lab.pis["pi-3"].folder)
    [halted] = document("round", "start", "--strategy", "median", status=3)["rounds"]
    simulate.start("pi-3", lab.project / DEVICES)
    assert lab.left("pi-1", halted["key"]).is_dir()
    [aborted] = document("round", "abort")["rounds"]
    assert aborted["state"] == "aborted"
    assert not lab.left("pi-1", halted["key"]).exists()
    assert "was aborted" in edgekit("round", "resume", status=2).line


def test_a_device_of_another_model_and_one_that_cannot_learn(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    home, first = tmp_path / "desk", lab.pis["pi-1"].home
    for name in ("apps", "blobs"):
        copytree(first / name, home / name, symlinks=True)
    equip(home, tmp_path_factory.getbasetemp())
    fleet.add(lab.project, Device("desk", f"local:{home}", TARGET))
    try:
        [found] = document("round", "start", "--quorum", "75%", "--set", "epochs=1")["rounds"]
        assert states_of(found) == ["came"] * 3 + ["failed"]
        assert found["devices"][3]["error"] == {
            "code": "device",
            "message": "desk: this device has no edgekit_train",
            "hint": "run 'edgekit device setup desk' for it, with --train",
        }
        (home / "env").unlink()
        (home / "env").symlink_to((first / "env").resolve())
        other = make_bundle(lab.project / "other", sequence=2_000_000_000, provenance={})
        edgekit("push", other.root, "--to", "desk")
        told = edgekit("round", "start", status=2).line
        assert "these devices serve 2 models: digits of model " in told
        assert f"digits of model {other.digest[:19]}: desk" in told
        assert document("round", "start", "--to", "!desk", "--set", "epochs=1")["rounds"][0]["state"] == "done"
    finally:
        fleet.remove(lab.project, "desk")
