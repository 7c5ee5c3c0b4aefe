"""Secure rounds of real processes, one behind a real SSH server: exact whoever drops out when, or refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import numpy as np
import pytest

from edgekit import fleet, transports
from edgekit.cli.places import DEVICES
from edgekit.device import TRAIN
from edgekit.federated.rounds.shelf import Shelf
from edgekit.fleet import Device
from edgekit_train import update as updates
from edgekit_train.update import Update, Weights
from tests.lab import faces
from tests.lab.bundles import TARGET
from tests.lab.dropping import PARTY, drops, lacks, sleeps
from tests.lab.project import document, edgekit, settle
from tests.lab.rounds import MOST, sent
from tests.lab.sshd import needs_sshd, running
from tests.runtime.learners import APP

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), needs_sshd]

LOCAL = ("d0", "d1", "d2", "d3")
WORDS = ("round", "start", "--from", "model", "--clip", "0.5", "--set", "epochs=2", "--quorum", "100%")


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Of five devices that serve the app and have kept samples."""
    folder = tmp_path_factory.mktemp("secure")
    with pytest.MonkeyPatch.context() as patch:
        project = settle(folder, tmp_path_factory.getbasetemp(), patch)
        with running("far", project / DEVICES) as far:
            faces.settle(project)
            faces.learning(project, *LOCAL)
            copytree(project / "d0", far.home, symlinks=True, dirs_exist_ok=True)
            fleet.add(project, Device("far", far.uri, TARGET))
            yield {**{name: project / name for name in LOCAL}, "far": far.home}


@pytest.fixture(autouse=True)
def alone(homes: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has a store of its own, and devices that know nobody."""
    monkeypatch.setenv("EDGEKIT_STORE", f"sqlite:///{tmp_path / 'store.db'}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for home in homes.values():
        drops(home, None)
        rmtree(home / "rounds", ignore_errors=True)
        (home / "trust" / "peers").unlink(missing_ok=True)


def came(found: dict[str, Any]) -> set[str]:
    return {each["device"] for each in found["devices"] if each["state"] == "came"}


def mean(said: list[Update]) -> Weights:
    """Of all alike."""
    return {name: np.mean([each.delta[name] for each in said], axis=0) for name in said[0].delta}


def together(found: dict[str, Any]) -> Weights:
    """What a secure round came to."""
    [use] = found["used"]
    return updates.parse(Shelf(found["key"]).update(use["device"], use["digest"]), MOST).delta


@pytest.fixture(scope="module")
def plain(homes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Update]:
    """What devices say in a round without masks: they learn the same in every round that begins alike."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_STORE", f"sqlite:///{folder / 'store.db'}")
        patch.setenv("XDG_DATA_HOME", str(folder))
        [found] = document(*WORDS)["rounds"]
        assert came(found) == {*homes}
        return {each.device: each for each in sent(found)}


@pytest.mark.parametrize("when", [None, *PARTY])
def test_it_is_the_mean_of_all_who_were_added(
    when: str | None, homes: dict[str, Path], plain: dict[str, Update]
) -> None:
    drops(homes["d2"], when)
    [found] = document(*WORDS, "--secure")["rounds"]
    added = {*homes} - ({"d2"} if when in PARTY[:3] else set())
    assert (found["state"], came(found)) == ("done", added)
    assert (found["result"]["updates"], found["used"][0]["device"]) == (len(added), ".together")
    want = mean([plain[name] for name in sorted(added)])
    for name, array in together(found).items():
        assert array == pytest.approx(want[name], abs=1e-5)
    for name, home in homes.items():
        place = home / "rounds" / APP
        assert {path.name for path in (place / found["key"]).iterdir()} == {"task.safetensors", "task.sig"}
        assert (place / "given").exists() == (name in added)


def test_a_hidden_layer_is_learned_in_a_sum_as_without_one(homes: dict[str, Path]) -> None:
    [plain] = document(*WORDS, "--trainer", "mlp")["rounds"]
    [found] = document(*WORDS, "--trainer", "mlp", "--secure")["rounds"]
    assert (found["state"], came(found)) == ("done", {*homes})
    want, learned = mean(sent(plain)), together(found)
    assert {name: array.shape for name, array in learned.items()} == {
        "head.0.bias": (32,),
        "head.0.weight": (8, 32),
        "head.1.bias": (3,),
        "head.1.weight": (32, 3),
    }
    for name, array in learned.items():
        assert array == pytest.approx(want[name], abs=1e-5)
        assert array.any()
    [told] = document("round", "inspect", str(found["id"]), "far")["updates"]
    assert [(each["name"], each["shape"]) for each in told["tensors"]] == [("vector", [8 * 32 + 32 + 32 * 3 + 3])]


def test_what_left_a_device_is_a_vector_as_good_as_random(homes: dict[str, Path]) -> None:
    [found] = document(*WORDS, "--secure")["rounds"]
    [told] = document("round", "inspect", str(found["id"]), "far")["updates"]
    assert (told["masked"], told["examples"], told["norm"], told["metrics"]) == (True, 0, 0.0, {})
    [tensor] = told["tensors"]
    assert (tensor["name"], tensor["dtype"], tensor["shape"]) == ("vector", "uint32", [8 * 3 + 3])
    assert set(told["said"]) == {"format", "kind", "letter"}
    assert (found["result"]["updates"], found["result"]["examples"], found["used"][0]["examples"]) == (5, 0, 0)
    shown = edgekit("round", "show").stdout
    assert "masked" in shown
    assert "\n5 updates, weights moved by " in shown
    with transports.connect(f"local:{homes['d0']}") as link:
        asked = link.run(["sh", "-c", TRAIN, "edgekit", "learn", APP, found["key"]])
    assert b"is told only as a part of a secure sum" in asked.stdout


def test_where_too_few_are_left_nothing_is_told_and_nobody_answers_twice(homes: dict[str, Path]) -> None:
    """Two of five end before they have confirmed: what the others have sent stays masked for good."""
    for name in ("d1", "d2"):
        drops(homes[name], "confirm")
    [lost] = document(*WORDS, "--secure", status=3)["rounds"]
    assert (lost["state"], came(lost), lost["result"]) == ("halted", set(), None)
    assert "3 devices are left" in lost["reason"]
    assert {each["error"]["hint"] for each in lost["devices"]} == {"start another round"}
    assert not any("AAAA" in each["error"]["message"] for each in lost["devices"])  # no letter
    for name in ("d1", "d2"):
        drops(homes[name], None)
    ran = edgekit("round", "resume", status=3)
    assert ran.stderr.splitlines()[-1].endswith(" — start another round, 'edgekit round abort' ends this one")
    [again] = document("round", "resume", status=3)["rounds"]
    errors = {each["error"]["message"] for each in again["devices"]}
    assert len(errors) == 5
    assert all("has given its part of this round already" in each for each in errors), errors
    assert document("round", "abort")["rounds"][0]["state"] == "aborted"
    assert all((home / "rounds" / APP / "given").read_text() == f"{lost['key']}\n" for home in homes.values())
    [fresh] = document(*WORDS, "--secure")["rounds"]
    assert came(fresh) == {*homes}


def test_before_anything_was_given_a_round_that_halted_can_be_resumed(homes: dict[str, Path]) -> None:
    for name in ("d1", "d2", "d3"):
        drops(homes[name], "advert")
    told = edgekit(*WORDS, "--secure", status=3).stderr.splitlines()[-1]
    assert told.endswith(" — 'edgekit round resume' asks again, 'edgekit round abort' ends it")
    [halted] = document("round", "show")["rounds"]
    assert "2 devices are left" in halted["reason"]
    for home in homes.values():
        drops(home, None)
    [ended] = document("round", "resume")["rounds"]
    assert (ended["key"], ended["state"], came(ended)) == (halted["key"], "done", {*homes})


@pytest.mark.parametrize("name", ["d1", "far"])
def test_who_is_still_learning_when_the_others_have_is_left_out(name: str, homes: dict[str, Path]) -> None:
    sleeps(homes[name])
    begun = time.monotonic()
    [found] = document(*WORDS[:-1], "80%", "--secure")["rounds"]
    assert time.monotonic() - begun < 50
    assert came(found) == {*homes} - {name}
    [late] = [each for each in found["devices"] if each["device"] == name]
    assert late["error"]["message"] == f"{name}: was still learning when the others went on"


def test_a_device_that_shows_another_key_than_before_is_refused(homes: dict[str, Path]) -> None:
    """By the host; and where the host takes it, as one that lies would, by the other devices."""
    assert len(document(*WORDS, "--secure")["rounds"][0]["devices"]) == 5
    known = (homes["far"] / "trust" / "peers").read_text().splitlines()
    assert [line.split()[0] for line in known] == list(LOCAL)
    (homes["d3"] / "trust" / "device_key").unlink()
    [without] = document(*WORDS, "--secure")["rounds"]
    assert came(without) == {*homes} - {"d3"}
    assert "signs with another key than before" in without["devices"][3]["error"]["message"]
    document("round", "trust", "d3")
    [refused] = document(*WORDS, "--secure", status=3)["rounds"]
    assert "d3 has another key than this device knows" in refused["devices"][0]["error"]["message"]
    assert "trust/peers" in refused["devices"][0]["error"]["hint"]
    for name in ("d0", "d1", "d2", "far"):
        peers = homes[name] / "trust" / "peers"
        peers.write_text("".join(line for line in peers.read_text().splitlines(True) if not line.startswith("d3 ")))
    assert came(document(*WORDS, "--secure")["rounds"][0]) == {*homes}


def test_a_device_without_cryptography_takes_no_part(homes: dict[str, Path]) -> None:
    lacks(homes["d1"])
    [found] = document(*WORDS, "--secure")["rounds"]
    assert came(found) == {*homes} - {"d1"}
    assert "secure aggregation needs 'cryptography'" in found["devices"][1]["error"]["message"]
    [plain] = document(*WORDS)["rounds"]
    assert came(plain) == {*homes}


def test_noise_goes_on_the_sum_and_the_ledger_says_what_it_spends(homes: dict[str, Path]) -> None:
    budget = ("--privacy", "central", "--epsilon", "8", "--delta", "1e-3")
    first, second = document(*WORDS[:2], *WORDS[4:], "--secure", *budget, "--rounds", "2")["rounds"]
    assert [came(each) for each in (first, second)] == [{*homes}] * 2
    assert 7.9 < second["privacy"]["spent"] <= 8
    shown = edgekit("round", "show").stdout
    assert "central privacy: ε = 8 of 8 spent at δ = 0.001" in shown or "ε = 7.99" in shown
    refused = edgekit(*WORDS, "--secure", *budget, status=3)
    assert "the privacy budget does not allow another round" in refused.line
    assert document("round", "show")["rounds"][0]["id"] == second["id"]
