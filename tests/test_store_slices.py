"""What a store answers from its roll-ups, against the windows themselves; on SQLite and a real PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest

from edgekit.store import ALL, Alert, Clock, Keep, Seen, Slice, Store, intake
from edgekit_runtime.histogram import merge
from edgekit_runtime.windows import Window
from tests.lab.databases import postgresql, postgresql_url, sqlite_url, url

__all__ = ["postgresql", "postgresql_url", "sqlite_url", "url"]  # fixtures

RELEASES = ["sha256:" + letter * 64 for letter in "ab"]
DAY = 1_780_012_800.0 - 1_780_012_800 % 86400
NOW = DAY + 5 * 86400
WINDOW = Window(
    "digits", RELEASES[0], "s1", 0, DAY, DAY + 60, {690: 3}, {"busy": 1}, {"infer": {600: 3}, "queue": {400: 1}},
    {"inputs_checked": 10, "inputs_clipped": 1}, {"temperature_c": 50.0, "throttled": 0.0}, {"input:x": (1, 2)},
)  # fmt: skip


def at(start_s: float, seq: int, **changes: object) -> Window:
    return replace(WINDOW, seq=seq, start_s=start_s, end_s=start_s + 60, **changes)  # type: ignore[arg-type]


class TestSlices:
    def test_of_an_hour(self, url: str) -> None:
        hot = {"temperature_c": 70.0, "throttled": 1.0}
        with Store(url) as store:
            store.add("desk", [at(DAY, 0), at(DAY + 60, 1, conditions=hot), at(DAY + 3600, 2)])
            told = store.slices(DAY, NOW, stages=("call", "infer"))
        assert [(each.start_s - DAY, each.stage, sum(each.buckets.values())) for each in told] == [
            (0, "call", 6), (0, "infer", 6), (3600, "call", 3), (3600, "infer", 3),
        ]  # fmt: skip
        assert told[0] == Slice(
            DAY, 3600, "desk", "digits", RELEASES[0], "call", {690: 6}, {"busy": 2},
            {"inputs_checked": 20, "inputs_clipped": 2},
            {"temperature_c": (50.0, 60.0, 70.0), "throttled": (0.0, 0.5, 1.0)}, {"input:x": (2, 4)},
        )  # fmt: skip
        assert told[1] == Slice(DAY, 3600, "desk", "digits", RELEASES[0], "infer", {600: 6})

    @pytest.mark.parametrize("seconds", [300, 3600, 86400])
    def test_they_hold_each_window_once_in_whatever_parts_and_order_it_came(self, url: str, seconds: int) -> None:
        chance = random.Random(seconds)
        windows = {
            (device, seq): at(DAY + chance.randrange(4 * 86400), seq, release=chance.choice(RELEASES),
                              buckets={chance.randrange(600, 620): chance.randrange(1, 5)})
            for device in ("desk", "gate") for seq in range(20)
        }  # fmt: skip
        with Store(url) as store:
            for _ in range(12):
                device = chance.choice(("desk", "gate"))
                some = chance.sample(range(20), 8)
                store.add(device, [windows[device, seq] for seq in some], Clock(NOW))
            for device in ("desk", "gate"):
                store.add(device, [windows[device, seq] for seq in range(20)], Clock(NOW))
            apart = store.slices(DAY, NOW, seconds=seconds, app="digits")
            together = store.slices(DAY, NOW, seconds=seconds, app="digits", together=True)
        assert [(each.start_s, each.device) for each in apart] == sorted((s.start_s, s.device) for s in apart)
        for start, release in {(each.start_s, each.release) for each in apart}:
            own = [w for w in windows.values() if w.release == release and start <= w.end_s - 30 < start + seconds]
            assert _buckets(apart, start, release) == merge(own) == _buckets(together, start, release)
        assert sum(sum(each.buckets.values()) for each in together) == sum(w.count for w in windows.values())
        assert {each.device for each in together} == {ALL}

    def test_only_what_is_asked_for(self, url: str) -> None:
        with Store(url) as store:
            own = [at(DAY, 0), at(DAY, 1, release=RELEASES[1]), at(DAY + 86400, 2, app="cats")]
            store.add("desk", own, Clock(NOW))
            store.add("gate", [at(DAY, 0)], Clock(NOW))
            assert len(store.slices(DAY, NOW)) == 4
            assert [each.app for each in store.slices(DAY, NOW, app="cats")] == ["cats"]
            assert [each.device for each in store.slices(DAY, NOW, devices=["gate", "none"])] == ["gate"]
            assert [each.release for each in store.slices(DAY, NOW, releases=[RELEASES[1]])] == [RELEASES[1]]
            assert [each.app for each in store.slices(DAY + 3600, NOW, seconds=300)] == ["cats"]
            assert len(store.slices(DAY + 3000, DAY + 3001)) == 3  # the slice in which that lies
            assert store.slices(DAY - 7200, DAY) == []

    def test_an_emulator_s_calls_are_apart(self, url: str) -> None:
        with Store(url) as store:
            store.add("desk", [at(DAY, 0), at(DAY, 0, session="emulated-1")])
            assert sorted(each.emulated for each in store.slices(DAY, NOW)) == [False, True]
            assert [sum(each.buckets.values()) for each in store.slices(DAY, NOW, together=True)] == [3]

    def test_a_board_that_thinks_it_is_1970(self, url: str) -> None:
        with Store(url) as store:
            assert store.add("desk", [at(100.0, 0), at(160.0, 1)], Clock(NOW, 1000.0)) == 2
            [told] = store.slices(NOW - 3600, NOW, seconds=3600)
            assert (told.buckets, store.fleet()[0].last_s) == ({690: 6}, NOW - 780)


def _buckets(slices: Iterable[Slice], start: float, release: str) -> dict[int, int]:
    return merge([each for each in slices if (each.start_s, each.release) == (start, release)])  # type: ignore[misc]


class TestFleet:
    def test_the_newest_release_of_each(self, url: str) -> None:
        hot = {"temperature_c": 71.0}
        with Store(url) as store:
            store.add("desk", [at(DAY + 600, 5, release=RELEASES[1], conditions=hot), at(DAY, 0)])
            store.add("desk", [at(DAY + 60, 1), at(DAY + 700, 6, release=RELEASES[1], conditions={})])
            assert store.fleet() == [Seen("desk", "digits", RELEASES[1], DAY + 600, DAY + 760, 6, 2, hot)]
            assert store.have("desk") == {"s1": 6}
            assert store.have("gate") == {}


class TestLies:
    def test_a_device_with_a_new_release_a_minute_is_kept_to_a_number(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(intake, "MOST_SERIES", 5)
        releases = [f"sha256:{n:064x}" for n in range(20)]
        with Store(url) as store:
            assert store.add("desk", [at(DAY, n, release=each) for n, each in enumerate(releases)]) == 5
            assert (
                store.add("desk", [at(DAY, 99, release=releases[0]), at(DAY, 100, release="sha256:" + "f" * 64)]) == 1
            )
            assert store.add("gate", [at(DAY, 0)]) == 1

    def test_absurd_numbers_do_not_stop_the_others(self, url: str) -> None:
        most = 1 << 40
        huge = {"buckets": dict.fromkeys(range(2501), most), "counters": {"c": most}, "errors": {"e": most}}
        conditions = {"temperature_c": 1e12}
        with Store(url) as store:
            for session in range(2):
                own = [at(DAY, seq, session=f"s{session}", conditions=conditions, **huge) for seq in range(2)]
                assert store.add("liar", own) == 2
            store.add("desk", [at(DAY, 0)])
            assert {each.device: each.count for each in store.summaries()}["desk"] == 3
            assert store.slices(DAY, NOW, together=True)[0].conditions["temperature_c"][2] == 1e12

    def test_new_names_in_every_window(self, url: str) -> None:
        with Store(url) as store:
            for seq in range(5):
                names = {f"n{seq}_{i}": 1 for i in range(100)}
                bins = dict.fromkeys(names, (1,))
                stages = {name: {1: 1} for name in names}
                told: dict[str, object] = {"errors": names, "counters": names, "drift": bins, "stages": stages}
                store.add("liar", [at(DAY, seq, **told)])
            [each] = store.slices(DAY, NOW)
            assert max(map(len, (each.errors, each.counters, each.drift))) <= 200
            every = {f"n{n}_{i}" for n in range(5) for i in range(100)}
            assert len(store.slices(DAY, NOW, stages=every)) <= 200

    def test_bins_of_another_profile_are_not_added(self, url: str) -> None:
        with Store(url) as store:
            store.add("desk", [at(DAY, 0), at(DAY, 1, drift={"input:x": (1, 2, 3)})])
            assert store.slices(DAY, NOW)[0].drift == {"input:x": (1, 2)}


class TestRetention:
    def test_what_is_old_goes_and_never_counts_again(self, url: str) -> None:
        with Store(url) as store:
            old = [at(DAY, seq) for seq in range(3)]
            store.add("desk", old, Clock(DAY + 60))
            store.prune(DAY + 13 * 86400)
            assert len(store.slices(DAY, NOW, seconds=300)) == 1
            store.prune(DAY + 61 * 86400, Keep())
            assert store.slices(DAY, NOW, seconds=300) == []
            assert store.have("desk") == {"s1": 2}
            assert store.add("desk", [*old, at(DAY + 60, 3)], Clock(DAY + 120)) == 1
            store.prune(DAY + 800 * 86400)
            assert store.slices(DAY, NOW) == []
            assert [sum(each.buckets.values()) for each in store.slices(DAY, NOW, seconds=86400)] == [12]
            assert store.summaries()[0].count == 12

    def test_add_does_it_once_a_day(self, url: str) -> None:
        with Store(url) as store:
            store.add("desk", [at(DAY, 0)], Clock(DAY + 60))
            store.add("desk", [at(DAY + 70 * 86400, 1)], Clock(DAY + 70 * 86400 + 60))
            assert [each.start_s for each in store.slices(0, 2e9, seconds=300)] == [DAY + 70 * 86400]


class TestAlerts:
    def test_one_is_open_at_a_time(self, url: str) -> None:
        hot = Alert(DAY, "desk", "digits", "", "hot", "warning", 81.0, 80.0, "desk: 81 °C")
        worse = replace(hot, at_s=DAY + 60, level="critical", value=95.0, told="desk: 95 °C")
        other = replace(hot, device="gate", at_s=DAY + 1)
        with Store(url) as store:
            assert store.raise_alerts([hot, other]) == [hot, other]
            assert store.raise_alerts([worse]) == []
            assert store.alerts() == [other, replace(worse, at_s=DAY)]
            assert (store.close_alerts([hot], DAY + 99), store.close_alerts([hot], DAY + 100)) == (1, 0)
            assert store.alerts() == [other]
            assert store.raise_alerts([hot]) == [hot]
            assert len(store.alerts(open_only=False)) == 3
