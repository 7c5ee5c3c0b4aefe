"""Residents: releases change under those who ask, and nobody notices but by the answers; memory has its ceiling."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit_runtime import releases, switches
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.manifest import EngineNeed
from edgekit_server import memory, metrics
from edgekit_server.http import Refused
from tests.runtime.bundles import APP, Parcels, contents, go_live, samples, weights, write
from tests.runtime.server.house import SLOW, Got, House, row

X = samples()[0]
Open = Callable[..., House]
Made = Callable[..., Bundle]


def right(got: Got) -> bool:
    """Whether a release of the engine of moods gave its own answer, which it says was its own."""
    return bool(np.array_equal(got.y, row(1.0)[:, :3] * int(got.document["model_version"])))


class TestSwap:
    def test_nobody_is_dropped_or_gets_another_ones_answer(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house = open_house()
        house.ready()
        asked = [house.ask(row(1.0)) for _ in range(8)]
        new = go_live(moody(3), home)
        asked += [house.ask(row(SLOW)) for _ in range(8)]
        while house.residents.find(APP).version != "3":
            asked.append(house.ask(row(1.0)))
            house.first(asked[-1])
        asked += [house.ask(row(1.0)) for _ in range(8)]
        house.until(lambda: all(asked))
        assert {got[0].status for got in asked} == {200}
        assert all(right(got[0]) for got in asked if got[0].y[0, 0] < 100)
        assert {got[0].document["model_version"] for got in asked} == {"2", "3"}
        assert house.ready().digest == new.digest
        house.until(lambda: len(house.residents.find(APP).workers) == 1)

    def test_one_after_the_other_where_both_do_not_fit(
        self, home: Path, moody: Made, open_house: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_live(moody(2), home)
        house = open_house()
        house.ready()
        monkeypatch.setattr(memory, "available", lambda: 0)
        go_live(moody(3), home)
        house.until(lambda: not house.residents.find(APP).serving)
        asked = [house.ask(row(1.0)) for _ in range(20)]
        assert len(house.residents.find(APP).workers) == 1
        house.until(lambda: all(asked))
        assert all(right(got[0]) and got[0].document["model_version"] == "3" for got in asked)

    @pytest.mark.slow
    def test_the_old_one_serves_while_the_new_one_cannot(self, home: Path, moody: Made, open_house: Open) -> None:
        old = go_live(moody(2), home)
        house = open_house()
        house.ready()
        go_live(moody(3, engines=(EngineNeed("moody", providers=("dead",)),)), home)  # confirmed all too early
        house.until(lambda: house.residents.find(APP).failures == 2)
        assert house.answer(row(1.0)).document["model_version"] == "2"
        assert house.residents.find(APP).why == "it ended with SIGSEGV"
        switches.rollback(home, APP, "")
        assert house.ready().digest == old.digest


def test_one_that_runs_by_less_than_it_demands_serves_and_is_told(home: Path, moody: Made, open_house: Open) -> None:
    release = go_live(moody(2, engines=(EngineNeed("moody", providers=("fast",), threads=2),)), home)
    trouble = "cpu runs it, fast did not start"
    releases.mark(release, "good", proof={"share": 0.0, "engine": "moody 1", "provider": "cpu", "degraded": trouble})
    house = open_house()
    house.ready()
    assert right(house.answer(row(1.0)))
    [(_, _, state, why)] = house.residents.states()
    assert (state, why) == ("READY", f"degraded: {trouble}")
    told = metrics.text(house.residents, house.residents.ledger.all())
    assert f'edgekit_model_degraded{{model="{APP}",version="2"}} 1' in told


class TestMemory:
    def test_who_was_not_asked_for_longest_goes(
        self, home: Path, parcels: Parcels, open_house: Open, signer: object, tmp_path: Path
    ) -> None:
        go_live(parcels.one, home)
        go_live(parcels.other, home)
        house = open_house(memory_bytes=3 << 19)
        house.until(lambda: any(each.serving for each in house.residents))
        first = next(each for each in house.residents if each.serving)
        house.loop.turn()
        assert [each.state for each in house.residents if each is not first] == ["UNAVAILABLE"]
        for app, seed in (("other", 3), (APP, 1), ("other", 3)):
            np.testing.assert_allclose(house.answer(X, app).y, X @ weights(seed), rtol=1e-5)
            assert [each.app for each in house.residents if each.serving] == [app]

    @pytest.mark.slow
    def test_both_stay_where_there_is_room(self, home: Path, parcels: Parcels, open_house: Open) -> None:
        go_live(parcels.one, home)
        go_live(parcels.other, home)
        house = open_house(nice={"other": 5})
        house.until(lambda: all(each.serving for each in house.residents))
        mine = os.getpriority(os.PRIO_PROCESS, 0)
        nice = {app: os.getpriority(os.PRIO_PROCESS, house.ready(app).pid) - mine for app in (APP, "other")}
        assert nice == {APP: 0, "other": min(5, 19 - mine)}

    def test_what_is_coming_takes_its_memory_already(
        self, home: Path, parcels: Parcels, open_house: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_live(parcels.one, home)
        go_live(parcels.other, home)
        monkeypatch.setattr(memory, "available", lambda: memory.SPARE + memory.ENGINE * 3 // 2)
        house = open_house()
        assert sorted((each.wanted, len(each.workers)) for each in house.residents) == [(False, 0), (True, 1)]

    def test_what_is_predicted(self, parcels: Parcels, tmp_path: Path, signer: object) -> None:
        assert memory.ENGINE < memory.predicted(parcels.one) < memory.ENGINE + (1 << 20)
        weighed = {"candidates": [{"memory_mib": 1.0, "chosen": False}, {"memory_mib": 7.5, "chosen": True}]}
        given = write(tmp_path / "w", signer, contents(1, verdict=weighed))  # type: ignore[arg-type]
        assert memory.predicted(given) == memory.ENGINE + 7.5 * (1 << 20)

    def test_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert 0 < memory.available() < 1 << 62
        monkeypatch.setattr(memory, "available", lambda: memory.SPARE + 10)
        assert [memory.fits(need, 5, 0) for need in (10, 11)] == [True, False]
        assert [memory.fits(need, 5, 12) for need in (7, 8)] == [True, False]


class TestApps:
    def test_one_comes_and_is_unloaded_and_loaded(self, home: Path, parcels: Parcels, open_house: Open) -> None:
        house = open_house()
        with pytest.raises(Refused):
            house.ask(X)
        go_live(parcels.one, home)
        house.until(lambda: list(house.residents))
        house.ready()
        assert house.residents.states() == [(APP, "1", "READY", "")]
        house.residents.unload(APP)
        house.until(lambda: not house.residents.find(APP).workers)
        refused = house.ask(X)
        assert (refused[0].status, refused[0].error) == (503, f"{APP} is not served: it was unloaded")
        assert house.residents.states()[0][2:] == ("UNAVAILABLE", "it was unloaded")
        house.residents.find(APP).load()
        assert house.answer(X).status == 200

    @pytest.mark.slow
    def test_only_those_that_are_named(self, home: Path, parcels: Parcels, open_house: Open) -> None:
        go_live(parcels.other, home)
        house = open_house(APP)
        assert [(each.app, each.state) for each in house.residents] == [(APP, "UNAVAILABLE")]
        assert house.residents.find(APP).why == "no release of it is live"
        go_live(parcels.one, home)
        house.ready()
        with pytest.raises(Refused):
            house.residents.find("other")

    def test_the_end(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house = open_house()
        serving = house.ready()
        asked = [house.ask(row(SLOW)) for _ in range(3)]
        began = time.monotonic()
        house.close()
        assert time.monotonic() - began < 30
        assert {got[0].status for got in asked} == {200}
        assert serving.ended
        assert not Path(f"/proc/{serving.pid}").exists()
        assert releases.apps(home) == [APP]
