"""Alerts are opened once and closed when they hold no more; what is due is due once, and not on a device that lies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from edgekit import rolling
from edgekit.advice.serving import Served, read
from edgekit.advice.serving_store import Servings
from edgekit.rollout import HALTED, RUNNING, Part, Plan, assign
from edgekit.rollout_store import Book
from edgekit.rules import enforce
from edgekit.rules.deed_store import Deeds
from edgekit.rules.deeds import AHEAD_S, FRESH_S, Due, due
from edgekit.rules.judging import Evidence, Rule
from edgekit.rules.watch import look, watch
from edgekit.store import Alert, Clock, Seen, Slice, Store
from edgekit_runtime.histogram import index
from edgekit_runtime.windows import Window
from tests.lab.databases import postgresql, postgresql_url, sqlite_url, url
from tests.test_rolling import Fleet, ways, well

__all__ = ["postgresql", "postgresql_url", "sqlite_url", "url"]  # fixtures

NOW = 1_800_000_000.0
A, B, C = ("sha256:" + letter * 64 for letter in "abc")
FAST, SLOW = index(10_000_000), index(21_000_000)
SLOWER = Rule("slower", "p95_rise", above=1.25, during_s=6 * 3600, do="roll back")
SEEN = Seen("pi", "digits", B, NOW - 7200, NOW - 60, 1000, 0, {})
ALERT = Alert(NOW, "pi", "digits", B, "slower", "warning", 2.1, 1.25, "p95 is 2.1 times that of the release before")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store(url) as opened:
        yield opened


def serve(store: Store, release: str, bucket: int, seq: int, *, ago_s: float, device: str = "pi") -> None:
    """An hour of a thousand calls that ended so long ago."""
    end = NOW - ago_s
    window = Window("digits", release, f"session-{release[-1]}", seq, end - 3600, end, {bucket: 1000})
    store.add(device, [window], Clock(NOW, NOW))


class TestWatch:
    def test_an_alert_is_opened_once_and_closed_when_it_holds_no_more(self, store: Store) -> None:
        serve(store, A, FAST, 0, ago_s=100_000)
        serve(store, B, SLOW, 0, ago_s=4000)
        first = watch(store, [SLOWER], ["pi"], NOW)
        assert [(a.device, a.release, a.rule) for a in first.raised] == [("pi", B, "slower")]
        second = watch(store, [SLOWER], ["pi"], NOW + 60)
        assert (second.raised, second.closed) == ((), ())
        assert [a.at_s for a in second.open] == [NOW]
        serve(store, C, FAST, 0, ago_s=100)
        third = watch(store, [SLOWER], ["pi"], NOW + 120)
        assert [a.rule for a in third.closed] == ["slower"]
        assert (third.open, store.alerts()) == ((), [])
        assert len(store.alerts(open_only=False)) == 1

    def test_what_two_apps_of_a_device_told_is_counted_once(self, store: Store) -> None:
        day = 24 * 3600
        for app, ago_s in (("digits", 100), ("cats", NOW % day + 1000)):
            end = NOW - ago_s
            for seq in range(2):
                window = Window(app, B, f"{app}-{seq}", seq, end - 3600 * seq - 60, end - 3600 * seq, {FAST: 50})
                store.add("pi", [window], Clock(NOW, NOW))
        evidence, _ = look(store, [SLOWER], ["pi"], NOW)
        assert {app: sum(s.buckets[FAST] for s in evidence.slices if s.app == app) for app in ("digits", "cats")} == {
            "digits": 100,
            "cats": 100,
        }

    def test_of_other_devices_none_is_closed(self, store: Store) -> None:
        store.raise_alerts([ALERT])
        assert watch(store, [SLOWER], ["other"], NOW).closed == ()
        assert store.alerts() == [ALERT]

    def test_of_a_rule_that_is_gone_it_is_closed(self, store: Store) -> None:
        store.raise_alerts([ALERT])
        assert watch(store, [], ["pi"], NOW).closed == (ALERT,)


class TestDue:
    def of(self, seen: Seen = SEEN, *done: Due, rule: Rule = SLOWER, slices: tuple[Slice, ...] = ()) -> list[str]:
        return [each.do for each in due([ALERT], [rule], Evidence(slices, [], [seen]), ())]

    def test_what_the_rule_says(self) -> None:
        assert self.of() == ["roll back"]
        assert self.of(rule=replace(SLOWER, do="hold")) == ["hold"]
        assert self.of(rule=replace(SLOWER, do="alert")) == []

    @pytest.mark.parametrize("last_s", [NOW - FRESH_S - 1, NOW + AHEAD_S + 1, 0.0])
    def test_not_of_a_device_whose_clock_is_wrong_or_that_told_it_long_ago(self, last_s: float) -> None:
        assert self.of(replace(SEEN, last_s=last_s)) == []

    def test_not_of_a_device_that_counted_what_nobody_can(self) -> None:
        busy = Slice(NOW - 3600, 3600, "pi", "digits", B, "call", {index(10**9): 10**8})
        assert self.of(slices=(busy,)) == []
        assert self.of(slices=(replace(busy, buckets={index(10**9): 10**4}),)) == ["roll back"]

    def test_two_rules_take_a_device_back_once(self) -> None:
        other = replace(ALERT, rule="errors", level="critical")
        rules = [SLOWER, replace(SLOWER, name="errors")]
        [one] = due([ALERT, other], rules, Evidence([], [], [SEEN]), ())
        assert one.rule == "errors"


class TestDeeds:
    DUE = Due("roll back", "slower", "pi", "digits", B, "rule slower: it is")

    def test_one_of_many_begins(self, store: Store) -> None:
        begun = list[bool]()
        threads = [threading.Thread(target=lambda: begun.append(Deeds(store).begin(self.DUE))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(begun) == [False] * 7 + [True]

    def test_what_was_done_or_has_begun_is_not_due_again(self, store: Store) -> None:
        deeds, evidence = Deeds(store), Evidence([], [], [SEEN])
        assert deeds.begin(self.DUE)
        assert due([ALERT], [SLOWER], evidence, deeds.done(["pi"])) == []
        deeds.end(self.DUE, "done", A)
        assert due([ALERT], [SLOWER], evidence, deeds.done(["pi"])) == []
        assert not deeds.begin(self.DUE)

    def test_nor_is_the_release_that_it_went_back_to(self, store: Store) -> None:
        deeds = Deeds(store)
        deeds.begin(self.DUE)
        deeds.end(self.DUE, "done", A)
        there = Evidence([], [], [replace(SEEN, release=A)])
        assert due([replace(ALERT, release=A)], [SLOWER], there, deeds.done(["pi"])) == []
        assert due([replace(ALERT, release=A)], [SLOWER], there, ()) != []

    @pytest.mark.parametrize("ended", ["away", None], ids=["away", "its host was killed"])
    def test_a_device_that_was_not_seen_to_go_back_is_tried_again_after_a_while(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, ended: str | None
    ) -> None:
        deeds = Deeds(store)
        deeds.begin(self.DUE)
        if ended:
            deeds.end(self.DUE, ended)
        assert (len(deeds.done(["pi"])), deeds.begin(self.DUE)) == (1, False)
        with monkeypatch.context() as later:
            later.setattr("edgekit.rules.deed_store.RETRY_S", 0.0)
            assert deeds.done(["pi"]) == []
            assert deeds.begin(self.DUE)
        assert not deeds.begin(self.DUE)


class TestHold:
    DUE = (replace(TestDeeds.DUE, do="hold"),)

    def begin(self, store: Store, release: str = B) -> int:
        plan = Plan((1, 2))
        parts = assign([Part(f"d{i}", 1, "digits", release, "/bundle") for i in range(3)], plan)
        return Book(store).begin("/project", plan, parts).number

    def test_running_rollouts_of_the_release_are_halted_with_the_reason(self, store: Store) -> None:
        held, other = self.begin(store), self.begin(store, C)
        [outcome] = enforce.hold(self.DUE, Book(store))
        assert outcome.told == f"rollout {held} is held: rule slower: it is, on pi"
        found = Book(store).find("/project", held)
        assert (found.state, found.reasons) == (HALTED, ("rule slower: it is, on pi",))
        assert Book(store).find("/project", other).state == RUNNING

    def test_one_that_is_under_way_begins_no_further_wave(self, store: Store) -> None:
        book, fleet = Book(store), Fleet(well)
        plan = Plan((1, 2), wait_s=60.0)
        begun = book.begin("/project", plan, assign([Part(f"d{i}", 1, "digits", A, "/bundle") for i in range(3)], plan))
        due = [replace(self.DUE[0], release=A)]
        ended = rolling.carry_on(begun, ways(book, fleet, 3, pause=lambda seconds: enforce.hold(due, Book(store))))
        assert ended.state == HALTED
        assert [name for what, name in fleet.asked if what == "deliver"] == ["d0"]
        assert "rule slower: it is, on pi" in ended.reasons

    def test_whoever_resumes_it_is_not_held_again_by_the_same_rule(self, store: Store) -> None:
        number, book = self.begin(store), Book(store)
        assert len(enforce.hold(self.DUE, book)) == 1
        book.turn(book.find("/project", number), RUNNING)
        assert enforce.hold(self.DUE, book) == []
        assert len(enforce.hold([replace(self.DUE[0], rule="errors", reason="rule errors: many")], book)) == 1


class TestServings:
    SAID = {
        "app": "digits", "release": B, "live": True, "target": "raspberry-pi-4", "source": A, "format": "onnx",
        "precision": "int8", "engine": "onnxruntime", "threads": 2, "sequence": 7, "host_p50_ms": 0.5,
    }  # fmt: skip

    def test_what_a_device_says_is_kept(self, store: Store) -> None:
        servings = Servings(store)
        servings.note(read("pi", [{**self.SAID, "release": A, "sequence": 6}]))
        servings.note(read("pi", [self.SAID, {**self.SAID, "of a newer runtime": 1}]))
        first, second = servings.all()
        assert (first.release, first.live, second.live) == (A, False, True)
        assert second == Served("pi", "digits", B, "raspberry-pi-4", "onnx", "int8", "onnxruntime", 2, True, A, 7, 0.5)
        assert servings.all(["other"]) == []

    @pytest.mark.parametrize(
        "lie",
        [{"threads": 0}, {"threads": 1e9}, {"release": "<b>"}, {"engine": "<script>"}, {"host_p50_ms": -1}, {"app": 5}],
    )
    def test_what_no_runtime_says_is_passed_over(self, lie: dict[str, object]) -> None:
        assert read("pi", [{**self.SAID, **lie}, None, 5]) == []
        assert read("pi", {"no": "list"}) == []
