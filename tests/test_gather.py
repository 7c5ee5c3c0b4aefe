from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copy

import pytest

from edgekit.page.gather import REPORT_S, gather, lately
from edgekit.page.views import views
from edgekit.store import ALL, Alert, Clock, Store
from edgekit_runtime.windows import EMULATED, Window

NOW_S = 1.8e9 // 86400 * 86400 + 7200
DAY_S = 86400
RELEASE = "sha256:" + "a" * 64
WINDOW = Window("digits", RELEASE, "s", 0, 0, 0, {700: 4}, {}, {"infer": {690: 4}})


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables, which take longer to make than to copy."""
    path = tmp_path_factory.mktemp("empty") / "edgekit.db"
    Store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def store(empty: Path, tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{copy(empty, tmp_path)}") as opened:
        yield opened


def called(store: Store, device: str, *ago_s: float, session: str = "", app: str = "digits") -> None:
    ends = [NOW_S - ago for ago in ago_s]
    named = replace(WINDOW, session=session or f"{device}{app}", app=app)
    made = [replace(named, seq=i, start_s=end - 60, end_s=end) for i, end in enumerate(ends)]
    store.add(device, made, Clock(NOW_S, NOW_S))


class TestReport:
    def test_begins_with_what_there_is(self, store: Store) -> None:
        called(store, "desk", 2 * DAY_S, DAY_S, 10)
        found = gather(store, None, NOW_S)
        assert NOW_S - 2 * DAY_S - 3600 <= found.start_s <= NOW_S - 2 * DAY_S
        assert found.end_s == NOW_S - 10
        assert {each.device for each in found.whole} == {ALL}
        assert found.devices == {"desk"}
        assert {each.stage for each in found.parts} == {"infer"}

    def test_of_a_fleet_that_fell_silent_it_is_of_its_last_days(self, store: Store) -> None:
        called(store, "desk", 400 * DAY_S, 390 * DAY_S)
        found = gather(store, None, NOW_S)
        assert found.end_s == NOW_S - 390 * DAY_S
        assert sum(sum(each.buckets.values()) for each in found.whole) == 8

    def test_is_of_no_more_than_a_month(self, store: Store) -> None:
        called(store, "desk", 60 * DAY_S, 10)
        assert gather(store, None, NOW_S).start_s >= NOW_S - 10 - REPORT_S

    def test_of_some_devices_nothing_is_of_others(self, store: Store) -> None:
        called(store, "desk", 10)
        called(store, "hall", 10)
        store.raise_alerts(Alert(NOW_S, name, "", "", "hot", "warning", 1, 0, "hot") for name in ("desk", "hall"))
        found = gather(store, ["desk"], NOW_S)
        assert {each.device for each in (*found.whole, *found.parts, *found.each, *found.fleet, *found.alerts)} == {
            "desk"
        }
        assert [view.figures[3] for view in views(found)] == [("calls", "4")]

    def test_all_of_them_by_name_are_all(self, store: Store) -> None:
        called(store, "desk", 10)
        assert {each.device for each in gather(store, ["desk", "hall"], NOW_S).whole} == {ALL}

    def test_of_an_empty_store_there_is_nothing(self, store: Store) -> None:
        assert views(gather(store, None, NOW_S)) == []

    def test_emulated_calls_are_counted_and_not_timed(self, store: Store) -> None:
        called(store, "desk", 10, session=f"{EMULATED}s")
        [view] = views(gather(store, None, NOW_S))
        assert dict(view.figures)["calls"] == "4"
        assert dict(view.figures)["p95"] == "–"


class TestLately:
    def test_is_of_the_last_day_alone(self, store: Store) -> None:
        called(store, "desk", 25 * 3600, 600)
        called(store, "hall", 25 * 3600)
        called(store, "hall", 25 * 3600, app="brakes")
        [view] = views(lately(store, NOW_S))
        assert (view.app, dict(view.figures)["calls"], dict(view.figures)["devices"]) == ("digits", "4", "1")
        assert [row.devices for row in view.releases] == [1]
