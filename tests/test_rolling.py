"""How a rollout goes, whatever devices say: an executor that answers for them, and a real store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import rolling
from edgekit.errand import FAILED, OFFLINE, PUSHED, WITHDRAWN, Errand, Outcome, Terms
from edgekit.errors import ConfigError
from edgekit.fleet import Device
from edgekit.policy import Calls, Look
from edgekit.rolling import Ways
from edgekit.rollout import Part, Plan, Rollout, assign
from edgekit.rollout_store import Book
from edgekit.store import Store
from edgekit_runtime.windows import Window
from tests.lab import first_store
from tests.lab.project import until

RELEASE, BEFORE = "sha256:" + "a" * 64, "sha256:" + "b" * 64
LIVE = Outcome(PUSHED, {"release": RELEASE, "previous": BEFORE})
AWAY = Outcome(OFFLINE, error={"code": "connect", "message": "no answer", "hint": None})
NO = Outcome(FAILED, error={"code": "proof_failed", "message": "not proven", "hint": None})
WELL = Look(RELEASE)
Answer = Callable[[str, str], Any]


class Fleet(ThreadPoolExecutor):
    """Devices whose answers are known: to an errand's name and a device's, an answer, or an error to raise."""

    def __init__(self, answer: Answer, width: int = 1) -> None:
        super().__init__(width)
        self.answer = answer
        self.asked: list[tuple[str, str]] = []

    def submit(self, work: Callable[..., Any], errand: Errand, /) -> Future[Any]:  # type: ignore[override]
        return super().submit(self._do, work.__name__, errand.device.name)

    def _do(self, what: str, name: str) -> Any:
        self.asked.append((what, name))
        answer = self.answer(what, name)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def well(what: str, name: str) -> Any:
    return {"deliver": LIVE, "look": WELL, "withdraw": Outcome(WITHDRAWN, {"release": BEFORE})}[what]


def saying(**others: Any) -> Answer:
    """All is well but for what is said here, as deliver_d3=NO."""
    return lambda what, name: others.get(f"{what}_{name}", well(what, name))


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with Store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield Book(opened)


def begin(book: Book, number: int = 10, *, waves: tuple[int, ...] = (1, 3, 6), **plan: Any) -> Rollout:
    how = Plan(waves, **{"wait_s": 60.0, **plan})
    parts = assign([Part(f"d{i}", 1, "digits", RELEASE, "/bundle") for i in range(number)], how)
    return book.begin("/project", how, parts)


def ways(book: Book, fleet: Fleet, number: int = 10, **more: Any) -> Ways:
    known = {f"d{i}": Device(f"d{i}", "ssh://x", "pi") for i in range(number)}
    quiet: dict[str, Any] = {"part": lambda part: None, "line": lambda text: None, "pause": lambda seconds: None}
    return Ways(fleet, book, known, **{**quiet, **more})


def outcomes(rollout: Rollout) -> str:
    """A letter a device: waiting, pushed, done, failed, offline, Withdrawn."""
    return "".join("W" if part.state == WITHDRAWN else part.state[0] for part in rollout.parts)


def test_wave_by_wave_with_a_look_between(book: Book) -> None:
    fleet, pauses = Fleet(well), list[float]()
    told, lines = list[str](), list[str]()
    ended = rolling.carry_on(
        begin(book),
        ways(book, fleet, pause=pauses.append, part=lambda part: told.append(part.device), line=lines.append),
    )
    assert (ended.state, outcomes(ended)) == ("done", "dddddddddd")
    assert fleet.asked[:3] == [("deliver", "d0"), ("look", "d0"), ("deliver", "d1")]
    assert [what for what, _ in fleet.asked].count("look") == 4  # not after the last wave
    assert pauses == [60.0, 60.0]
    assert told == [f"d{i}" for i in range(10)]
    assert lines[:4] == ["wave 1 of 3: d0", "looking on for 60 s", "wave 1: 1 of 1 devices passed, 0 failed, 0 offline",
                         "wave 2 of 3: d1, d2, d3"]  # fmt: skip
    assert [(d.wave, d.go, bool(d.at_s)) for d in ended.decisions] == [(n, True, True) for n in (1, 2, 3)]
    assert ended.parts[0].previous == BEFORE


def test_without_wait_nobody_looks(book: Book) -> None:
    fleet = Fleet(well)
    rolling.carry_on(begin(book, wait_s=0.0), ways(book, fleet, pause=lambda seconds: pytest.fail("waits")))
    assert {what for what, _ in fleet.asked} == {"deliver"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (saying(deliver_d0=NO), "d0: not proven"),
        (saying(deliver_d0=RuntimeError("worker lost")), "d0: RuntimeError: worker lost"),
        (saying(look_d0=Look(BEFORE, left="crash loop")), "d0: the device left the release by itself: crash loop"),
        (saying(look_d0=Look(None, silent="no answer")), "d0: the device does not answer since the push: no answer"),
        (saying(look_d0=OSError("worker lost")), "d0: the device does not answer since the push: worker lost"),
        (saying(look_d0=Look(RELEASE, now=Calls({1: 9}, {"engine": 9}))), "d0: 9 of 18 calls failed, 0.00% before"),
    ],
)
def test_a_canary_that_fails_halts_all(book: Book, answer: Answer, reason: str) -> None:
    fleet = Fleet(answer)
    halted = rolling.carry_on(begin(book), ways(book, fleet))
    assert (halted.state, outcomes(halted)) == ("halted", "fwwwwwwwww")
    assert halted.decisions[-1].reasons[1:] == ("halted: any failure in the first wave", reason)
    assert {name for _, name in fleet.asked} == {"d0"}
    assert book.find("/project", None) == halted


def test_a_canary_that_is_offline_shows_nothing(book: Book) -> None:
    halted = rolling.carry_on(begin(book), ways(book, Fleet(saying(deliver_d0=AWAY))))
    assert (halted.state, outcomes(halted)) == ("halted", "owwwwwwwww")


def test_a_wave_that_is_lost_ends_before_all_have_it(book: Book) -> None:
    """Two of twenty may fail; some begin while it is found out. A device answers once all before it are noted."""
    failed = list[Part]()

    def answer(what: str, name: str) -> Any:
        if name in ("d0", "d1"):
            return well(what, name)
        until(lambda: len(failed) >= int(name[1:]) - 2)
        return NO

    def part(part: Part) -> None:
        failed.extend([part] if part.state == FAILED else [])

    fleet = Fleet(answer)
    halted = rolling.carry_on(begin(book, 22, waves=(2, 20)), ways(book, fleet, 22, part=part))
    assert halted.state == "halted"
    assert 3 <= outcomes(halted).count("f") <= 5
    assert outcomes(halted).startswith("dd")


def test_one_of_ten_may_fail_and_the_offline_ones_are_found_later(book: Book) -> None:
    away = saying(deliver_d2=AWAY, deliver_d5=NO, deliver_d9=AWAY)
    ended = rolling.carry_on(begin(book, max_failed=0.2), ways(book, Fleet(away)))
    assert (ended.state, outcomes(ended)) == ("done", "ddoddfdddo")
    again = Fleet(saying(deliver_d9=AWAY))
    ended = rolling.carry_on(ended, ways(book, again))
    assert (ended.state, outcomes(ended)) == ("done", "dddddddddo")
    assert sorted(again.asked) == [("deliver", "d2"), ("deliver", "d5"), ("deliver", "d9"), ("look", "d2")]
    assert ended.parts[5].error is None


def test_an_only_wave_goes_to_all_whoever_fails(book: Book) -> None:
    fleet = Fleet(lambda what, name: NO if name < "d8" else LIVE)
    ended = rolling.carry_on(begin(book, waves=(10,)), ways(book, fleet))
    assert (ended.state, outcomes(ended), ended.decisions) == ("done", "ffffffffdd", ())
    assert len(fleet.asked) == 10


def test_a_device_that_left_the_fleet_fails(book: Book) -> None:
    halted = rolling.carry_on(begin(book, 2, waves=(2,)), ways(book, Fleet(well), 1))
    assert outcomes(halted) == "df"
    assert halted.parts[1].error == {
        "code": "config",
        "message": "no device 'd1' in fleet.toml any more",
        "hint": "edgekit device add d1 …",
    }


def test_what_was_live_before_is_remembered_from_the_first_push(book: Book) -> None:
    halted = rolling.carry_on(begin(book), ways(book, Fleet(saying(look_d0=Look(None, silent="away")))))
    once_more = Outcome(PUSHED, {"release": RELEASE, "previous": None})
    ended = rolling.carry_on(halted, ways(book, Fleet(saying(deliver_d0=once_more))))
    assert (ended.state, ended.parts[0].previous) == ("done", BEFORE)


class TestAbort:
    def test_while_it_runs_the_next_device_does_not_get_it(self, book: Book) -> None:
        def answer(what: str, name: str) -> Any:
            if name == "d2":
                book.turn(running, "aborted")
            return well(what, name)

        running = begin(book)
        ended = rolling.carry_on(running, ways(book, Fleet(answer)))
        assert ended.state == "aborted"
        assert outcomes(ended)[:3] == "dpp"
        assert outcomes(ended)[4:] == "wwwwww"
        assert rolling.carry_on(ended, ways(book, Fleet(lambda what, name: pytest.fail("asks")))) == ended

    def test_devices_go_back_as_far_as_they_are_reached(self, book: Book) -> None:
        halted = rolling.carry_on(begin(book), ways(book, Fleet(saying(look_d1=Look(None, silent="away")))))
        assert outcomes(halted) == "dfppwwwwww"
        back = Fleet(saying(withdraw_d1=AWAY))
        ended = rolling.abort(halted, ways(book, back), back=True)
        assert (ended.state, outcomes(ended)) == ("aborted", "WoWWwwwwww")
        again = Fleet(well)
        assert outcomes(rolling.abort(ended, ways(book, again), back=True)) == "WWWWwwwwww"
        assert again.asked == [("withdraw", "d1")]

    def test_without_going_back_no_device_is_asked(self, book: Book) -> None:
        fleet = Fleet(well)
        assert rolling.abort(begin(book), ways(book, fleet), back=False).state == "aborted"
        assert fleet.asked == []


class Killed(BaseException):
    """The end of the process, as far as a test can have it without ending."""


class TestInterruption:
    @settings(max_examples=8, deadline=None)
    @given(st.integers(0, 40), st.sets(st.integers(0, 9)), st.integers(0, 3))
    def test_killed_after_any_step_it_ends_as_if_it_had_not_been(
        self, tmp_path_factory: pytest.TempPathFactory, steps: int, away: set[int], waves: int
    ) -> None:
        """A step is a transaction of the store; then everything is opened anew. (Of each wave somebody answers.)"""
        url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}"
        plan = ((10,), (1, 9), (1, 3, 6), (5, 5))[waves]
        answer = saying(**{f"deliver_d{i}": AWAY for i in away - {0, 1}})
        with Store(url) as opened, dying(opened, steps), pytest.raises(Killed):
            book = Book(opened)
            rolling.carry_on(begin(book, waves=plan), ways(book, Fleet(answer)))
            raise Killed
        with Store(url) as opened:
            book = Book(opened)
            try:
                found = book.find("/project", None)
            except ConfigError:
                assert steps == 0
                return
            before = [part.device for part in found.parts if part.state == "done"]
            fleet = Fleet(answer)
            ended = rolling.carry_on(found, ways(book, fleet))
        letters = "".join("o" if i in away - {0, 1} else "d" for i in range(10))
        assert (ended.state, outcomes(ended)) == ("done", letters)
        assert not {name for _, name in fleet.asked} & set(before)


@contextmanager
def dying(opened: Store, steps: int) -> Iterator[None]:
    """The store takes so many transactions more, and then the process ends."""
    real, left = opened.transaction, [steps]

    @contextmanager
    def transaction(what: str) -> Iterator[Any]:
        if not left[0]:
            raise Killed
        left[0] -= 1
        with real(what) as connection:
            yield connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened, "transaction", transaction)
        yield


class TestBook:
    def test_what_is_written_is_read_again(self, book: Book) -> None:
        begun = begin(book, terms=Terms(accept_new_host_key=True), max_failed=0.25)
        assert book.find("/project", begun.number) == begun == book.find("/project", None)
        assert begun.plan == Plan((1, 3, 6), 60.0, 0.25, Terms(True))
        changed = replace(begun.parts[3], state=FAILED, error={"code": "x", "message": "y", "hint": None})
        noted = book.note(begun, changed).parts[3]
        assert replace(noted, at_s=0.0) == changed
        assert noted.at_s > begun.started_s

    def test_projects_do_not_mix(self, book: Book) -> None:
        begun = begin(book)
        with pytest.raises(ConfigError, match="no rollout of the project in /other"):
            book.find("/other", None)
        with pytest.raises(ConfigError, match=f"no rollout {begun.number} of the project in /other"):
            book.find("/other", begun.number)

    def test_a_number_that_no_database_holds_is_none(self, book: Book) -> None:
        begin(book)
        with pytest.raises(ConfigError, match=f"no rollout {10**23} of the project in /project"):
            book.find("/project", 10**23)

    def test_a_store_of_an_older_edgekit_gets_the_tables(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'store.db'}"
        first_store.made(url, "desk", [Window("digits", "sha256:" + "a" * 64, "s1", 0, 1.78e9, 1.78e9 + 60, {690: 3})])
        with Store(url) as opened:
            assert begin(Book(opened)).number == 1


@pytest.mark.slow
def test_two_hundred_devices_leave_no_file_open(book: Book) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Fleet(well, 50) as fleet:
        ended = rolling.carry_on(begin(book, 200, waves=(1, 19, 180)), ways(book, fleet, 200))
    assert outcomes(ended) == "d" * 200
    assert book.find("/project", None) == ended
    assert len(os.listdir("/proc/self/fd")) <= before + 1
