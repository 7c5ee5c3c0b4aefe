"""What an update has left out counts with it or not at all; so does all that a device keeps of rounds."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.signing import Signer
from edgekit_runtime import verify
from edgekit_runtime.errors import DeviceError
from edgekit_runtime.releases import Release
from edgekit_train import device_key, learning, tensor_file, update, words
from edgekit_train import task as tasks
from edgekit_train.clipping import norm
from edgekit_train.compression import Compression
from edgekit_train.round_files import RoundFiles
from edgekit_train.task import Task
from tests.runtime.learners import (
    APP,
    OTHER,
    ROUND,
    a_task,
    born,
    fitted,
    learned,
    live,
    send,
    shipped,
)
from tests.runtime.powercut import CUTS, REFUSALS, Loss, failing

__all__ = ["born", "live"]  # fixtures
MOST = 1 << 20


@pytest.mark.parametrize("how", [Compression(0.1, int8=False), Compression(0.25)], ids=["largest", "and int8"])
def test_what_was_left_out_goes_with_the_next_update(
    home: Path, live: Release, signer: Signer, how: Compression
) -> None:
    sent = [learned(home, signer, a_task(live, round=f"{number:032x}", compression=how)) for number in range(6)]
    left = RoundFiles(home, APP, ROUND).residual(a_task(live, compression=how))
    for name, array in fitted().delta.items():
        total = np.sum([each.delta[name] for each in sent], axis=0)
        np.testing.assert_allclose(total + left[name], 6 * array, atol=1e-3)
    assert all(np.count_nonzero(each.delta["head.0.weight"]) <= 6 for each in sent)


def test_the_newest_three_rounds_are_kept_and_one_is_forgotten_when_asked(
    home: Path, live: Release, signer: Signer
) -> None:
    places = [f"{number:032x}" for number in range(5)]
    for number, place in enumerate(places):
        learned(home, signer, a_task(live, round=place))
        os.utime(home / "rounds" / APP / place, (number, number))
    folder = home / "rounds" / APP
    assert sorted(path.name for path in folder.iterdir()) == places[2:]
    assert stat.S_IMODE((home / "rounds").stat().st_mode) == 0o700
    assert words.forget(home, APP, places[3]) == {"round": places[3], "forgotten": True}
    assert words.forget(home, APP, places[3]) == {"round": places[3], "forgotten": False}
    assert sorted(path.name for path in folder.iterdir()) == [places[2], places[4]]


def test_to_forget_what_never_was(home: Path) -> None:
    assert words.forget(home, APP, ROUND)["forgotten"] is False
    assert not (home / "rounds").exists()


def test_a_residual_survives_that_its_round_is_forgotten(home: Path, live: Release, signer: Signer) -> None:
    asked = a_task(live, compression=Compression(0.1))
    learned(home, signer, asked)
    before = RoundFiles(home, APP, ROUND).residual(asked)
    words.forget(home, APP, ROUND)
    after = RoundFiles(home, APP, ROUND).residual(asked)
    assert before.keys() == after.keys() == shipped().keys()


@pytest.mark.parametrize("damage", [b"x", tensor_file.dump(shipped(), {})], ids=["noise", "of no kind"])
def test_a_residual_that_is_damaged_or_of_no_kind_counts_as_none(
    home: Path, live: Release, signer: Signer, damage: bytes
) -> None:
    asked = a_task(live, compression=Compression(0.1))
    learned(home, signer, asked)
    [path] = (home / "rounds" / APP).glob("*.safetensors")
    path.write_bytes(damage)
    assert RoundFiles(home, APP, OTHER).residual(asked) == {}
    assert learned(home, signer, replace(asked, round=OTHER)).examples == 60


@pytest.mark.parametrize("before", [{}, {"clip": 90.0, "noise": 1e-6}], ids=["nothing hid", "less hides"])
def test_what_rounds_with_less_noise_have_left_out_is_not_told_around_the_noise(
    home: Path, live: Release, signer: Signer, before: dict[str, float]
) -> None:
    learned(home, signer, a_task(live, compression=Compression(0.05), **before))
    whole = Compression(1.0, int8=False)
    found = learned(home, signer, a_task(live, round=OTHER, clip=1e-3, noise=1e-6, compression=whole))
    assert norm(fitted().delta) > 0.1
    assert norm(found.delta) < 2e-3


KIND = {"clip": 1.0, "noise": 0.5, "compression": Compression(0.1)}


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"round": OTHER, "compression": Compression(1.0), "config": {"epochs": 1}, "weights": {}}, True),
        ({"family": "sha256:other"}, False),
        ({"trainer": "bias"}, False),
        ({"clip": 2.0}, False),
        ({"noise": 0.25}, False),
        ({"noise": None}, False),
        ({"clip": None, "noise": None}, False),
    ],
    ids=str,
)
def test_a_residual_goes_with_updates_of_its_kind_only(home: Path, change: dict[str, Any], kept: bool) -> None:
    asked = Task(APP, "sha256:0", ROUND, "pi-1", **KIND)
    files = RoundFiles(home, APP, ROUND)
    files.folder.mkdir(parents=True)
    files.learned(asked, b"", shipped())
    assert bool(RoundFiles(home, APP, OTHER).residual(replace(asked, **change))) == kept


def test_a_clip_without_noise_may_change(home: Path) -> None:
    asked = Task(APP, "sha256:0", ROUND, "pi-1", clip=1.0, compression=Compression(0.1))
    files = RoundFiles(home, APP, ROUND)
    files.folder.mkdir(parents=True)
    files.learned(asked, b"", shipped())
    assert files.residual(replace(asked, clip=0.9)).keys() == shipped().keys()


def test_a_round_of_another_trainer_in_between_costs_nothing(home: Path, live: Release, signer: Signer) -> None:
    """Nor does it send weights that it has not learned."""
    head = a_task(live, compression=Compression(0.1))
    learned(home, signer, head)
    left = RoundFiles(home, APP, ROUND).residual(head)
    biases = replace(head, trainer="bias", compression=Compression(int8=False))
    assert not learned(home, signer, replace(biases, round=OTHER)).delta["head.0.weight"].any()
    learned(home, signer, replace(head, trainer="moments", weights={}, round="0c" * 16))
    after = RoundFiles(home, APP, ROUND).residual(head)
    assert all(array.tobytes() == after[name].tobytes() for name, array in left.items())
    assert any(array.any() for array in left.values())


HOW = Compression(0.25)


def cut_everywhere(start: Path, home: Path, loss: Loss) -> None:
    """After the second of two rounds, cut anywhere and asked for again, nothing that was learned is lost or doubled."""
    wanted = {name: 2 * array for name, array in fitted().delta.items()}
    seen_done: set[bool] = set()
    for stop in range(1, 1000):
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(start, home, symlinks=True)
        with failing(home, start.with_name("backup"), loss, stop) as disk:
            try:
                words.learn(home, APP, OTHER)
            except (OSError, DeviceError):
                assert loss in REFUSALS
        files = RoundFiles(home, APP, OTHER)
        before = files.update.read_bytes() if files.update.exists() else None
        seen_done.add(before is not None)
        answer = words.learn(home, APP, OTHER)
        assert before in (None, files.update.read_bytes())
        assert answer["signature"].endswith("-----END SSH SIGNATURE-----\n")
        sent = [
            update.parse((home / "rounds" / APP / each / "update.safetensors").read_bytes(), MOST).delta
            for each in (ROUND, OTHER)
        ]
        left = files.residual(tasks.parse(files.task()[0], MOST))
        for name, array in wanted.items():
            np.testing.assert_allclose(sent[0][name] + sent[1][name] + left[name], array, atol=1e-3)
        assert not [path for path in home.rglob(".*.tmp") if "rounds" in path.parts]
        if not disk.failed:
            break
    assert seen_done == {True, False}


@pytest.fixture
def begun(home: Path, live: Release, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device that has had one round, and has the task of another."""
    learned(home, signer, a_task(live, compression=HOW))
    send(home, a_task(live, round=OTHER, compression=HOW), signer, OTHER)
    done = fitted()
    monkeypatch.setattr(learning, "_fitted", lambda *_: replace(done, metrics={}))  # the same each time
    monkeypatch.setattr(verify, "verify", cache(verify.verify))
    for name, said in (("sign", device_key.sign(home, "sha256:0")), ("public", device_key.public(home))):
        monkeypatch.setattr(device_key, name, lambda *_, said=said: said)
    monkeypatch.setattr(device_key, "fits_another", lambda *_: False)
    return home.rename(tmp_path / "start")


def test_a_cut_loses_nothing_of_what_was_learned(begun: Path, home: Path) -> None:
    cut_everywhere(begun, home, "killed")


@pytest.mark.slow
@pytest.mark.parametrize("loss", [each for each in (*CUTS, *REFUSALS) if each != "killed"])
def test_no_cut_loses_anything_of_what_was_learned(begun: Path, home: Path, loss: Loss) -> None:
    cut_everywhere(begun, home, loss)


@pytest.mark.parametrize("loss", ["killed", "all lost"])
def test_a_key_is_made_wholly_or_not_at_all(tmp_path: Path, loss: Loss) -> None:
    for stop in range(1, 100):
        home = tmp_path / str(stop)
        with failing(home, tmp_path / "backup", loss, stop) as disk:
            device_key.public(home)
        there = device_key.file(home).exists()
        before = device_key.public(home) if there else None
        assert device_key.public(home) == (before or device_key.public(home))
        assert sorted(path.name for path in (home / "trust").iterdir()) == ["device_key"]
        if not disk.failed:
            break


def test_a_key_that_is_broken_says_what_to_do(home: Path) -> None:
    device_key.file(home).write_text("x")
    with pytest.raises(DeviceError, match="the device's key does not work") as caught:
        words.key(home)
    assert "remove trust/device_key" in (caught.value.hint or "")
