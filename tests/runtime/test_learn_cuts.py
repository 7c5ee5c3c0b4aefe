"""What an update has left out counts with it or not at all; so does all that a device keeps of rounds."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgekit.signing import Signer
from edgekit_runtime import verify
from edgekit_runtime.errors import DeviceError
from edgekit_runtime.releases import Release
from edgekit_train import device_key, learning, update, words
from edgekit_train.compression import Compression
from edgekit_train.round_files import RoundFiles
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
    left = RoundFiles(home, APP, ROUND).residual()
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
    learned(home, signer, a_task(live, compression=Compression(0.1)))
    before = RoundFiles(home, APP, ROUND).residual()
    words.forget(home, APP, ROUND)
    after = RoundFiles(home, APP, ROUND).residual()
    assert before.keys() == after.keys() == shipped().keys()


def test_a_damaged_residual_counts_as_none(home: Path, live: Release, signer: Signer) -> None:
    learned(home, signer, a_task(live, compression=Compression(0.1)))
    (home / "rounds" / APP / "residual.safetensors").write_bytes(b"x")
    assert learned(home, signer, a_task(live, round=OTHER, compression=Compression(0.1))).examples == 60


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
        for name, array in wanted.items():
            np.testing.assert_allclose(sent[0][name] + sent[1][name] + files.residual()[name], array, atol=1e-3)
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
