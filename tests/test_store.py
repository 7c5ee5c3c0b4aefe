from __future__ import annotations

import math
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from edgekit.errors import ConfigError, EdgekitError
from edgekit.store import Store, Summary, tables
from edgekit_runtime.histogram import GAMMA
from edgekit_runtime.windows import Window
from tests.lab.databases import postgresql, postgresql_url, sqlite_url, url

RELEASE = "sha256:" + "a" * 64
NOON = 1_780_000_200.0
WINDOW = Window("digits", RELEASE, "s1", 0, NOON, NOON + 60, {690: 3}, {"invalid_input": 1})

__all__ = ["postgresql", "postgresql_url", "sqlite_url", "url"]  # fixtures


def windows(number: int, session: str = "s1") -> list[Window]:
    return [replace(WINDOW, session=session, seq=seq) for seq in range(number)]


class TestKeeping:
    def test_a_window_is_kept_once(self, url: str) -> None:
        with Store(url) as store:
            assert store.add("desk", windows(3)) == 3
            assert store.add("desk", windows(3)) == 0
            assert store.add("desk", windows(5)) == 2
        with Store(url) as store:
            assert [summary.count for summary in store.summaries()] == [15]

    def test_a_window_that_comes_twice_at_once(self, url: str) -> None:
        with Store(url) as store:
            assert store.add("desk", [WINDOW, WINDOW]) == 1

    def test_devices_do_not_mix(self, url: str) -> None:
        with Store(url) as store:
            store.add("desk", windows(1))
            store.add("gate", windows(2))
            assert [(each.device, each.count) for each in store.summaries()] == [("desk", 3), ("gate", 6)]
            assert [each.device for each in store.summaries(["gate", "none"])] == ["gate"]
            assert store.summaries([]) == []

    def test_an_emulator_s_times_are_no_latencies(self, url: str) -> None:
        with Store(url) as store:
            store.add("desk", [replace(WINDOW, session="emulated-1"), replace(WINDOW, seq=1)])
            told = [(each.emulated, each.count, each.p50 is None, each.p99 is None) for each in store.summaries()]
        assert sorted(told) == [(False, 3, False, False), (True, 3, True, True)]

    def test_a_summary(self, url: str) -> None:
        later = replace(WINDOW, seq=1, start_s=NOON + 1000, end_s=NOON + 1060, buckets={690: 1}, errors={"engine": 2})
        with Store(url) as store:
            store.add("desk", [WINDOW, later, replace(WINDOW, seq=2, release="sha256:" + "b" * 64, buckets={})])
            first, second = store.summaries()
        middle = 2 * GAMMA**690 / (GAMMA + 1) / 1e6
        errors = {"invalid_input": 1, "engine": 2}
        assert first == Summary("desk", "digits", RELEASE, 4, middle, middle, middle, errors, NOON, NOON + 1060)
        assert (second.count, second.p50, second.p99, second.errors) == (0, None, None, {"invalid_input": 1})

    @pytest.mark.parametrize("seed", range(5))
    def test_percentiles_over_many_windows_are_within_one_percent(self, url: str, seed: int) -> None:
        random = np.random.default_rng(seed)
        times = random.lognormal(math.log(2e6), 1.0, 20_000)
        parts = np.split(times, np.sort(random.integers(0, len(times), 40)))
        kept = [replace(WINDOW, seq=seq, buckets=histogram(part)) for seq, part in enumerate(parts)]
        with Store(url) as store:
            store.add("desk", kept)
            [summary] = store.summaries()
        assert summary.count == len(times)
        for share, shown in ((0.5, summary.p50), (0.95, summary.p95), (0.99, summary.p99)):
            true = np.quantile(times, share, method="lower") / 1e6
            assert shown == pytest.approx(true, rel=0.0101)


def histogram(times_ns: np.ndarray) -> dict[int, int]:
    index, number = np.unique(np.ceil(np.log(times_ns) / math.log(GAMMA)), return_counts=True)
    return {int(i): int(n) for i, n in zip(index, number, strict=True)}


class TestSeveralAtOnce:
    def test_threads_that_bring_the_same_windows(self, url: str) -> None:
        Store(url).close()
        new: list[int] = []

        def bring() -> None:
            with Store(url) as store:
                new.append(store.add("desk", windows(200)))

        threads = [threading.Thread(target=bring) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(new) == 200
        with Store(url) as store:
            assert store.summaries()[0].count == 600

    def test_two_that_make_the_store_at_the_same_moment(self, sqlite_url: str) -> None:
        """The other one does it after this one has looked, and before it makes the tables."""
        event.listen(tables.WINDOWS, "before_create", lambda *_, **__: Store(sqlite_url).close(), once=True)
        with Store(sqlite_url) as store:
            assert store.add("desk", windows(1)) == 1


class TestTrouble:
    @pytest.mark.parametrize(
        "url",
        [
            "nonsense",
            "nosuch://x",
            "sqlite://host/x",
            "postgresql://u:p@host:port/x",
            "postgresql+nodriver://u@h/x",
            " ",
        ],
    )
    def test_a_url_that_names_no_database(self, url: str) -> None:
        with pytest.raises(ConfigError, match="EDGEKIT_STORE names no database") as caught:
            Store(url)
        assert "sqlite:////path/to/file.db" in (caught.value.hint or "")
        assert "u:p" not in str(caught.value)

    def test_a_place_where_no_file_can_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(EdgekitError, match="the store cannot be opened"):
            Store(f"sqlite:///{tmp_path}/file/store.db")

    def test_a_file_that_is_no_database(self, tmp_path: Path, sqlite_url: str) -> None:
        (tmp_path / "store.db").write_bytes(b"no database" * 1000)
        with pytest.raises(EdgekitError, match="file is not a database"):
            Store(sqlite_url)

    def test_a_state_folder_that_cannot_be_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
        with pytest.raises(EdgekitError, match="cannot be made"):
            Store()

    def test_the_default_is_in_the_state_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        with Store() as store:
            store.add("desk", windows(1))
        assert (tmp_path / "state/edgekit/edgekit.db").exists()

    def test_a_store_that_is_locked_loses_nothing(self, tmp_path: Path, sqlite_url: str) -> None:
        with Store(f"{sqlite_url}?timeout=0.2") as store:
            with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                with pytest.raises(EdgekitError, match=r"cannot be stored: .*database is locked") as caught:
                    store.add("desk", windows(2))
                with pytest.raises(EdgekitError, match="cannot be read"):
                    store.summaries()
            assert "nothing is lost" in (caught.value.hint or "")
            assert store.add("desk", windows(2)) == 2

    def test_a_store_that_is_busy_for_a_moment_is_waited_for(self, tmp_path: Path, sqlite_url: str) -> None:
        with (
            Store(sqlite_url) as store,
            closing(sqlite3.connect(tmp_path / "store.db", check_same_thread=False)) as other,
        ):
            other.isolation_level = None
            other.execute("BEGIN EXCLUSIVE")
            timer = threading.Timer(0.5, other.execute, ["COMMIT"])
            timer.start()
            assert store.add("desk", windows(2)) == 2
            timer.join()

    def test_a_store_that_is_read_only_can_be_read(self, tmp_path: Path, sqlite_url: str) -> None:
        with Store(sqlite_url) as store:
            store.add("desk", windows(1))
        with Store(f"sqlite:///file:{tmp_path / 'store.db'}?mode=ro&uri=true") as store:
            assert len(store.summaries()) == 1
            with pytest.raises(EdgekitError, match=r"cannot be stored: .*readonly database"):
                store.add("desk", windows(2))

    def test_a_store_that_breaks_in_the_middle_keeps_all_or_nothing(self, url: str) -> None:
        with Store(url) as store:
            event.listen(store._engine, "before_cursor_execute", _refuse_slices)
            with pytest.raises(EdgekitError, match="cannot be stored: .*disk I/O"):
                store.add("desk", windows(3))
            event.remove(store._engine, "before_cursor_execute", _refuse_slices)
            assert (store.summaries(), store.fleet(), store.have("desk")) == ([], [], {})
            assert store.add("desk", windows(3)) == 3


def _refuse_slices(*event: object) -> None:
    if "INTO slices" in str(event[2]):
        raise OperationalError(str(event[2]), None, Exception("disk I/O error"))
