"""A store that an older edgekit made, and one of a newer one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import inspect, text, update

from edgekit.errors import EdgekitError
from edgekit.store import Store, tables
from edgekit_runtime.windows import Window
from tests.lab import first_store
from tests.lab.databases import postgresql, postgresql_url, sqlite_url, url

__all__ = ["postgresql", "postgresql_url", "sqlite_url", "url"]  # fixtures

NOON = 1_780_000_200.0
WINDOW = Window("digits", "sha256:" + "a" * 64, "s1", 0, NOON, NOON + 60, {690: 3, 700: 1}, {"invalid_input": 1})
OLD = [
    *(replace(WINDOW, seq=seq, start_s=NOON + 60 * seq, end_s=NOON + 60 * seq + 60) for seq in range(600)),
    replace(WINDOW, session="s2", start_s=5.0, end_s=65.0),
]


def test_the_first_one_keeps_its_windows_and_gets_slices(url: str) -> None:
    first_store.made(url, "desk", OLD)
    for _ in range(2):
        with Store(url) as store:
            [summary] = store.summaries()
            assert (summary.count, summary.errors, summary.first_s) == (2404, {"invalid_input": 601}, NOON)
            assert store.have("desk") == {"s1": 599, "s2": 0}
            assert len(store.slices(NOON, NOON + 600 * 60, seconds=3600)) == 11
            assert store.add("desk", OLD) == 0
            assert not inspect(store._engine).has_table("windows")


def test_nothing_is_lost_where_it_breaks_off(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first_store.made(url, "desk", OLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgekit.store.migration._windows", lambda rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Store(url)
    with Store(url) as store:
        assert store.summaries()[0].count == 2404


def test_one_of_a_newer_edgekit_is_left_alone(url: str) -> None:
    with Store(url) as store, store.transaction("") as connection:
        connection.execute(update(tables.SCHEMA).values(version=99))
    with pytest.raises(EdgekitError, match="made by a newer edgekit"):
        Store(url)


def test_a_table_of_another_program_beside_ours_stays(url: str) -> None:
    with Store(url) as store, store.transaction("") as connection:
        connection.execute(text("CREATE TABLE theirs (x INTEGER)"))
    with Store(url) as store:
        assert inspect(store._engine).has_table("theirs")
