"""How a round goes, whatever devices do and whenever the host is killed: with real trainers and a real store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgekit.errors import ConfigError, RoundError, TransportError
from edgekit.federated.rounds import beginning, contents, crowd, gathering, inviting, lines, running, signatures, states
from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.crowd import Crowd
from edgekit.federated.rounds.evaluating import Score
from edgekit.federated.rounds.key_book import KeyBook
from edgekit.federated.rounds.round import ABORTED, DECIDED, DONE, HALTED, LATE, RUNNING, Facts, Part, Plan, Round, Use
from edgekit.federated.rounds.shelf import Shelf
from edgekit.federated.rounds.tables import ROUNDS
from edgekit.federated.rounds.ways import Ways
from edgekit.federated.staleness import weight
from edgekit.federated.strategies import clipped, fedavg, named
from edgekit.federated.strategies import single_krum as krum
from edgekit.federated.strategy import State, Strategy
from edgekit.model import Model
from edgekit.store import Store
from edgekit.transports import Transport
from edgekit_runtime import durable
from edgekit_train import task as tasks
from edgekit_train import tensor_file
from edgekit_train import update as updates
from edgekit_train.update import Update, Weights
from tests.lab.databases import postgresql, postgresql_url, sqlite_url, url
from tests.lab.learners import AWAY, BROKEN, START, SUBJECT, Act, Learners, Signer, Told, nowhere, times, ways

__all__ = ["postgresql", "postgresql_url", "sqlite_url", "url"]  # fixtures

NAMES = [f"d{number}" for number in range(5)]
LETTERS = {"waiting": "w", "came": "c", "late": "l", "refused": "r", "failed": "f", "offline": "o"}


@pytest.fixture(autouse=True)
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of something else: a signature costs a process, and its check another."""
    monkeypatch.setattr(signatures, "check", lambda *words: None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


def begin(store: Store, names: list[str] = NAMES, weights: Weights = START, **plan: Any) -> Round:
    """A new round that begins with these weights."""
    given = beginning.Sources(Book(store), None, never)
    file = Path(Shelf("given").folder)
    file.mkdir(parents=True, exist_ok=True)
    (file / "start.safetensors").write_bytes(tensor_file.dump(weights, {}))
    how = Plan(**{"quorum": 1.0, "deadline_s": 60.0, **plan})
    return beginning.begin(SUBJECT, how, names, given, str(file / "start.safetensors"))


def never(model: Model) -> Weights:
    raise AssertionError


def letters(round_: Round) -> str:
    return "".join(LETTERS[part.state] for part in round_.parts)


def result(round_: Round) -> bytes:
    return states.dump(*Shelf(round_.key).result())


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([weights[name].ravel() for name in sorted(weights)])


def sent(round_: Round) -> list[updates.Update]:
    """What the devices of a round have sent, as it lies on the shelf."""
    return [
        updates.parse(Shelf(round_.key).update(part.device, part.facts.digest), 1 << 20)
        for part in round_.parts
        if part.facts
    ]


def test_devices_learn_and_what_they_send_is_combined(store: Store, tmp_path: Path) -> None:
    """With real keys."""
    told, signers = Told(), {name: Signer(tmp_path / name) for name in NAMES[:3]}
    ended = running.carry_on(begin(store, NAMES[:3]), ways(store, Learners(signers=signers), NAMES, told))
    assert (ended.state, letters(ended)) == (DONE, "ccc")
    want = fedavg().aggregate(State(START), sent(ended))
    assert result(ended) == states.dump(want, "fedavg")
    assert ended.result
    assert (ended.result.updates, ended.result.examples, ended.result.accuracy) == (3, 90, None)
    assert ended.result.moved == pytest.approx(np.linalg.norm(flat(want.weights)), abs=1e-5)
    assert [part.device for part in told.parts] != []
    assert told.lines == ["round 1: 3 of 3 updates"]
    assert Book(store).find("/project", None) == ended == told.rounds[-1]
    known = KeyBook(store, "/project")
    assert [known.known(name) for name in NAMES[:3]] == [signers[name].signed(b"").public for name in NAMES[:3]]


@pytest.mark.usefixtures("unsigned")
class TestRounds:
    def test_the_next_round_begins_where_the_last_one_ended(self, store: Store) -> None:
        told = Told()
        last = running.carry_on(begin(store, more=2), ways(store, Learners(), NAMES, told))
        assert [each.number for each in told.rounds] == [1, 2, 3]
        assert [each.plan.more for each in told.rounds] == [2, 1, 0]
        assert [each.follows for each in told.rounds] == [None, 1, 2]
        for before, after in zip(told.rounds, told.rounds[1:], strict=False):
            assert states.dump(Shelf(after.key).start(), "fedavg") == result(before)
        moved = [each.result.moved for each in told.rounds if each.result]
        assert moved == sorted(moved, reverse=True)  # it converges
        assert Book(store).last_done(SUBJECT) == last

    def test_updates_of_old_rounds_are_not_kept_but_what_they_came_to(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(running, "KEPT", 2)
        told, ready = Told(), ways(store, Learners(), NAMES)
        running.carry_on(begin(store, more=3), replace(ready, ended=told.rounds.append))
        assert [Shelf(each.key).has_updates for each in told.rounds] == [False, False, True, True]
        assert all(Shelf(each.key).result() for each in told.rounds)
        with pytest.raises(RoundError, match="the updates of round 1 are not kept any more"):
            contents.of(told.rounds[0], told.rounds[0].parts[0], ready.keys)

    def test_and_so_does_one_that_is_begun_later(self, store: Store) -> None:
        first = running.carry_on(begin(store), ways(store, Learners(), NAMES))
        sources = beginning.Sources(Book(store), None, never)
        again = beginning.begin(SUBJECT, Plan(), NAMES, sources, None)
        assert again.source == "round 1"
        assert states.dump(Shelf(again.key).start(), "fedavg") == result(first)
        other = replace(SUBJECT, family="sha256:other")
        with pytest.raises(ConfigError, match="names no model"):
            beginning.begin(other, Plan(), NAMES, sources, None)
        adam = beginning.begin(SUBJECT, Plan("fedadam"), NAMES, sources, "1")
        assert Shelf(adam.key).start().moments.keys() == {"first", "second"}

    def test_what_is_asked_is_what_the_plan_and_the_strategy_say(self, store: Store) -> None:
        pool = Learners()
        begun = begin(store, strategy="fedprox", options={"mu": 0.5}, config={"epochs": 1})
        asks = list(inviting.asks(begun, 1e9, ways(store, pool, NAMES)))
        found = tasks.parse(asks[0].task, 1 << 20)
        assert (found.config, found.device) == ({"proximal": 0.5, "epochs": 1}, "d0")
        assert asks[0].signature == "signed"

    def test_devices_that_fail_are_left_out_and_told(self, store: Store) -> None:
        acts = {"d1": AWAY, "d2": BROKEN, "d3": RuntimeError("worker lost"), "d4": times(1e6)}
        told = Told()
        ended = running.carry_on(begin(store), ways(store, Learners(acts), NAMES, told))
        assert (ended.state, letters(ended)) == (DONE, "coffr")
        assert [use.device for use in ended.used] == ["d0"]
        errors = {part.device: part.error["message"] for part in ended.parts if part.error}
        assert errors["d3"] == "RuntimeError: worker lost"
        assert errors["d4"].startswith("d4: norm: ")
        assert len(told.parts) == 5

    @pytest.mark.parametrize(
        ("lie", "plan", "broken"),
        [(nowhere, {}, 1), (times(1e6), {"clip": 1.0}, 1), (times(1e6), {}, 0), (AWAY, {}, 0)],
        ids=["not finite", "beyond its clip", "far, as an honest one may go", "away"],
    )
    def test_who_gives_himself_away_is_no_liar_to_reckon_with(
        self, store: Store, lie: Act, plan: dict[str, float], broken: int
    ) -> None:
        """Krum needs five devices while one of them may lie, and three of those that are honest."""
        pool = Learners({"d4": lie})
        ended = running.carry_on(begin(store, strategy="krum", **plan), ways(store, pool, NAMES))
        assert (ended.state, ended.broken, len(ended.used)) == ((DONE, 1, 4) if broken else (HALTED, 0, 0))
        if broken:
            assert result(ended) == states.dump(krum(0).aggregate(State(START), sent(ended)), "krum")
            Shelf(ended.key).drop_result()
            assert running._combined(replace(ended, state=DECIDED), ways(store, pool, NAMES)) == ended

    @pytest.mark.parametrize("plan", [{"clip": 0.5}, {"clip": 0.5, "strategy": "fedadam"}, {}])
    def test_where_there_is_a_clip_examples_are_nothing_to_lie_about(self, store: Store, plan: dict[str, Any]) -> None:
        def boast(update: updates.Update) -> updates.Update:
            return replace(times(-1)(update), examples=updates.MOST_COUNTED)

        ended = running.carry_on(begin(store, **plan), ways(store, Learners({"d4": boast}), NAMES))
        came = sent(ended)
        assert [each.examples for each in came] == [30] * 4 + [100_000]
        alike = [replace(each, examples=1) for each in came] if plan else came
        strategy = named(ended.plan.strategy, {})
        want = strategy.aggregate(strategy.init(START), alike)
        assert result(ended) == states.dump(want, strategy.name)

    def test_too_few_halt_it_and_a_resume_asks_who_is_missing(self, store: Store) -> None:
        away, reason = {"d1": AWAY, "d3": BROKEN}, "3 of 5 updates; krum needs 5 updates"
        halted = running.carry_on(begin(store, strategy="krum"), ways(store, Learners(away), NAMES))
        assert (halted.state, letters(halted), halted.reason) == (HALTED, "cocfc", reason)
        again = Learners()
        ended = running.carry_on(halted, ways(store, again, NAMES))
        assert (ended.state, letters(ended), ended.reason) == (DONE, "ccccc", None)
        assert sorted(again.asked) == ["d1", "d3"]

    def test_fewer_devices_than_the_strategy_needs_are_not_even_asked(self, store: Store) -> None:
        with pytest.raises(ConfigError, match="krum needs 5 devices, and 4 are meant"):
            begin(store, NAMES[:4], strategy="krum")

    def test_two_who_carry_it_on_come_to_what_the_first_has_decided(self, store: Store) -> None:
        """The second one hears of it as it notes a device."""
        begun, told = begin(store), Told()
        first = Learners({"d4": AWAY})

        def decide(round_: Round, part: Part) -> None:
            if not told.rounds:
                running.carry_on(begun, ways(store, first, NAMES, told))

        ended = running.carry_on(begun, replace(ways(store, Learners(), NAMES), part=decide))
        assert [each.state for each in told.rounds] == [DONE]
        assert (ended.state, ended.used) == (DONE, told.rounds[0].used)
        assert len(ended.used) == 4

    def test_a_device_that_left_the_fleet(self, store: Store) -> None:
        ended = running.carry_on(begin(store), ways(store, Learners(), NAMES[:4]))
        assert (ended.state, letters(ended)) == (DONE, "ccccf")

    def test_a_changed_key_is_refused_until_it_is_trusted(self, store: Store) -> None:
        keys = KeyBook(store, "/project")
        keys.pin("d0", "ssh-ed25519 AAAA")
        keys.pin("d0", "ssh-ed25519 BBBB")
        assert keys.known("d0") == "ssh-ed25519 AAAA"
        first = running.carry_on(begin(store), ways(store, Learners(), NAMES))
        assert letters(first) == "rcccc"
        told = (
            f"round {first.number} has no update of d0: what came was refused, and is not kept: signs with another key"
        )
        with pytest.raises(ConfigError, match=f"^{told} than before: SHA256:"):
            contents.chosen(first, "d0")
        assert [part.device for part in contents.chosen(first, None)] == NAMES[1:]
        assert not list(Shelf(first.key).folder.rglob("d0*"))
        keys.trust("d0", Signer().signed(b"").public)
        second = running.carry_on(begin(store), ways(store, Learners(), NAMES))
        assert letters(second) == "ccccc"

    def test_accuracy_before_and_after_is_kept(self, store: Store) -> None:
        judged: list[Weights] = []

        def judge(weights: Weights) -> Score:
            judged.append(weights)
            return Score(len(judged) / 4, 200)

        ended = running.carry_on(begin(store), replace(ways(store, Learners(), NAMES), judge=judge))
        assert ended.result
        assert (ended.result.before, ended.result.accuracy, ended.result.samples) == (0.25, 0.5, 200)
        assert flat(judged[0]).tolist() == flat(START).tolist()

    def test_where_nothing_can_be_judged_that_is_found_once_a_round(self, store: Store) -> None:
        """And told once; the weights after are no other than those before in that."""
        judged: list[Weights] = []
        running.carry_on(begin(store, more=1), replace(ways(store, Learners(), NAMES), judge=judged.append))
        assert len(judged) == 2


@pytest.mark.usefixtures("unsigned")
class TestStragglers:
    def test_the_quorum_does_not_wait(self, store: Store) -> None:
        slow, told = threading.Event(), Told()
        ended = running.carry_on(begin(store, quorum=0.8), ways(store, Learners({"d4": slow}), NAMES, told))
        slow.set()
        assert (letters(ended), ended.state, told.lines) == ("ccccw", DONE, ["round 1: 4 of 5 updates"])
        assert [use.device for use in ended.used] == NAMES[:4]

    def test_who_is_still_at_work_in_the_end_is_cut_off(self, store: Store) -> None:
        """Also who is only on the way there; and nobody else."""
        slow = threading.Event()
        pool, closed = Learners({"d4": slow}), list[str]()
        other, late = (cast("Transport", Way(name, closed)) for name in ("other", "late"))
        with lines.held("another", other):
            running.carry_on(begin(store, quorum=0.8), ways(store, pool, NAMES))
        slow.set()
        [crowd] = {ask.crowd for ask in pool.asks}
        with pytest.raises(TransportError, match="nobody waits any longer"), lines.held(crowd, late):
            raise AssertionError
        with lines.held("one", late):
            lines.cut("one")
        assert closed == ["late"]

    @pytest.mark.parametrize(("clip", "strategy"), [(None, fedavg()), (0.5, clipped(fedavg()))])
    def test_the_next_round_may_use_it_aged(self, clip: float | None, strategy: Strategy, store: Store) -> None:
        last = self.two_rounds(store, late=True, clip=clip)
        assert [(use.device, use.behind) for use in last.used] == [*((name, 0) for name in NAMES[:4]), ("d4", 1)]
        first = Book(store).find("/project", 1)
        late = updates.parse(Shelf(first.key).update("d4", last.used[-1].digest), 1 << 20)
        made = {name: array * np.float32(weight(1)) for name, array in late.delta.items()}
        begun = State(Shelf(first.key).result()[0].weights)
        want = strategy.aggregate(begun, [*sent(last), replace(late, delta=made)])
        assert result(last) == states.dump(want, "fedavg")

    def test_but_only_where_it_is_wanted(self, store: Store) -> None:
        last = self.two_rounds(store, late=False)
        assert [use.device for use in last.used] == NAMES[:4]

    def two_rounds(self, store: Store, *, late: bool, clip: float | None = None) -> Round:
        """In the first, the last device is late; in the second it is away, and another one waits for the late one."""
        slow, noted = threading.Event(), threading.Event()
        pool = Learners({"d4": slow})

        def ended(round_: Round) -> None:
            pool.acts = {"d3": noted, "d4": AWAY}
            slow.set()

        def part(round_: Round, part: Part) -> None:
            if part.state == LATE:
                noted.set()

        carried = replace(ways(store, pool, NAMES), ended=ended, part=part)
        plan = {"quorum": 0.8, "more": 1, "late": late, "clip": clip, "config": {"epochs": 1}}
        return running.carry_on(begin(store, **plan), carried)

    @pytest.mark.parametrize("fails", [False, True])
    def test_an_update_that_another_host_has_used_is_not_late_as_well(self, store: Store, fails: bool) -> None:
        """That one decides the first round with the last device; this one still waits for its answer, and goes on."""
        slow, answered, told = threading.Event(), threading.Event(), Told()

        def last(update: Update) -> Update:
            assert slow.wait(30)
            answered.set()
            if fails:
                raise RuntimeError("worker lost")
            return update

        def behind_the_last(update: Update) -> Update:
            assert answered.wait(30)
            return update

        def decide(round_: Round, part: Part) -> None:
            if book.find("/project", 1).state == RUNNING:
                other = ways(store, Learners(), NAMES)
                assert len(gathering.gathered(begun, Crowd(other.pool), other).used) == 5

        def ended(round_: Round) -> None:
            told.rounds.append(round_)
            pool.acts = {"d3": behind_the_last, "d4": AWAY}
            slow.set()

        book, pool = Book(store), Learners({"d4": last})
        begun = begin(store, more=1, late=True, config={"epochs": 1})
        running.carry_on(begun, replace(ways(store, pool, NAMES), part=decide, ended=ended))
        assert [[use.device for use in each.used] for each in told.rounds] == [NAMES, NAMES[:4]]
        assert book.find("/project", 1).parts == told.rounds[0].parts
        assert letters(told.rounds[0]) == "ccccc"

    def test_those_of_a_round_before_hold_up_the_next_one_no_longer_than_they_work(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As many as can be asked at once are still at work when it begins."""
        monkeypatch.setattr(crowd, "WIDTH", 2)
        slow = threading.Event()
        pool, told = Learners({"d3": slow, "d4": slow}), Told()

        def ended(round_: Round) -> None:
            told.rounds.append(round_)
            pool.acts = {}
            slow.set()

        running.carry_on(
            begin(store, deadline_s=4.0, more=1, config={"epochs": 1}), replace(ways(store, pool, NAMES), ended=ended)
        )
        assert [letters(each) for each in told.rounds] == ["cccww", "ccccc"]

    def test_the_deadline_ends_it_with_what_is_there(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """By a clock that stands still until all have come but for one."""
        slow, now, came = threading.Event(), [0.0], list[str]()
        monkeypatch.setattr(crowd, "time", SimpleNamespace(monotonic=lambda: now[0]))
        monkeypatch.setattr(gathering, "time", SimpleNamespace(monotonic=lambda: now[0]))

        def part(round_: Round, part: Part) -> None:
            came.append(part.device)
            now[0] = 60.0 if len(came) == 4 else 0.0

        carried = replace(ways(store, Learners({"d4": slow}), NAMES), part=part)
        ended = running.carry_on(begin(store, deadline_s=60.0), carried)
        slow.set()
        assert (ended.state, letters(ended)) == (DONE, "ccccw")


@dataclass
class Way:
    """A transport as far as it can be closed."""

    name: str
    closed: list[str]

    def close(self) -> None:
        self.closed.append(self.name)


class Killed(BaseException):
    """The end of the process, as far as a test can have it without ending."""


@contextmanager
def dying(store: Store, steps: int) -> Iterator[list[int]]:
    """So many transactions of the store and writes of files more, and then the process ends; what is left of them."""
    real, write, left = store.transaction, durable.write, [steps]

    def step() -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1

    @contextmanager
    def transaction(what: str) -> Iterator[Any]:
        step()
        with real(what) as connection:
            yield connection

    def written(path: Path, data: bytes, *mode: int) -> None:
        step()
        write(path, data, *mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "transaction", transaction)
        patch.setattr(durable, "write", written)
        yield left


class TestKilled:
    STEPS = 1000
    PLAN: dict[str, Any] = {"strategy": "fedadam", "more": 1, "quorum": 0.6, "config": {"epochs": 1}}

    @pytest.mark.parametrize("some", [20, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
    @pytest.mark.usefixtures("unsigned")
    def test_between_any_two_writes_it_ends_with_the_same_bytes(
        self, some: int, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Every twentieth of them, or every one, before its turn; then all is opened anew."""
        want, steps = self.whole(tmp_path_factory.mktemp("whole"))
        assert steps > 30
        for step in range(0, steps, some):
            folder = tmp_path_factory.mktemp("killed")
            assert self.killed_and_resumed(folder, step) in (want, None), f"killed after {step} steps"

    def whole(self, folder: Path) -> tuple[bytes, int]:
        with Store(f"sqlite:///{folder / 'store.db'}") as store, dying(store, self.STEPS) as left:
            ended = running.carry_on(self.begun(store), self.ways(store))
        assert (ended.state, ended.number) == (DONE, 2)
        return result(ended), self.STEPS - left[0]

    def killed_and_resumed(self, folder: Path, step: int) -> bytes | None:
        """None where it was killed before there was a round."""
        url = f"sqlite:///{folder / 'store.db'}"
        with Store(url) as store, dying(store, step), pytest.raises(Killed):
            running.carry_on(self.begun(store), self.ways(store))
            raise Killed
        with Store(url) as store:
            try:
                found = Book(store).find("/project", None)
            except ConfigError:
                return None
            ended = running.carry_on(found, self.ways(store))
            assert (ended.state, ended.number) == (DONE, 2)
            return result(ended)

    def begun(self, store: Store) -> Round:
        return begin(store, NAMES[:3], **self.PLAN)

    def ways(self, store: Store) -> Ways:
        """One device never answers: how many do is the same each time."""
        return ways(store, Learners({"d2": AWAY}), NAMES)


class TestAbort:
    @pytest.mark.usefixtures("unsigned")
    def test_while_it_runs_nothing_is_combined(self, store: Store) -> None:
        begun = begin(store)
        carried = ways(store, Learners(), NAMES)
        aborting = replace(carried, part=lambda round_, part: carried.book.turn(begun, ABORTED))
        ended = running.carry_on(begun, aborting)
        assert (ended.state, ended.used, ended.result) == (ABORTED, (), None)
        assert running.carry_on(ended, carried).state == ABORTED
        assert not (Shelf(begun.key).folder / "result.safetensors").exists()

    @pytest.mark.usefixtures("unsigned")
    def test_it_is_heard_of_while_a_device_hangs(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """Long before that one answers, or the deadline."""
        monkeypatch.setattr(crowd, "LOOK_S", 0.01)
        begun, hangs, told = begin(store, deadline_s=600.0), threading.Event(), Told()
        carried = ways(store, Learners({"d4": hangs}), NAMES)

        def abort(round_: Round, part: Part) -> None:
            told.parts.append(part)
            if len(told.parts) == 4:
                carried.book.turn(begun, ABORTED)

        ended = running.carry_on(begun, replace(carried, part=abort))
        hangs.set()
        assert (ended.state, letters(ended)) == (ABORTED, "ccccw")


class TestBook:
    def test_what_is_written_is_read_again(self, url: str) -> None:
        with Store(url) as store:
            config: dict[str, float | int | str] = {"epochs": 3, "rate": 0.5, "mode": "x"}
            begun = begin(store, strategy="median", options={"liars": 1}, clip=1.5, config=config)
            found = Book(store).find("/project", begun.number)
            assert found == begun == Book(store).find("/project", None)
            assert found.plan.config == config
            assert isinstance(found.plan.options["liars"], int)
            with pytest.raises(ConfigError, match="no round 7 of the project"):
                Book(store).find("/project", 7)
            with pytest.raises(ConfigError, match="no round of the project in /other"):
                Book(store).find("/other", None)

    def test_of_two_that_follow_the_same_round_there_is_one(self, url: str) -> None:
        with Store(url) as store:
            book, begun = Book(store), begin(store)
            assert book.after(begun) is None
            next_one = replace(begun, key="1" * 32, follows=begun.number)
            first, second = book.begin(next_one), book.begin(replace(next_one, key="2" * 32))
            assert first == second == book.after(begun)
            with store.transaction("count") as connection:
                assert len(connection.execute(ROUNDS.select()).all()) == 2

    def test_who_decides_first_has_decided(self, url: str) -> None:
        with Store(url) as store:
            book, begun = Book(store), begin(store)
            use = Use(begun.key, "d0", "sha256:1", 30)
            first = book.choose(begun, [use])
            assert book.choose(begun, []).used == first.used == (use,)
            assert book.turn(first, ABORTED).state == ABORTED
            assert book.choose(begun, []).state == ABORTED

    def test_nobody_undoes_what_somebody_else_has_decided(self, url: str) -> None:
        with Store(url) as store:
            book, begun = Book(store), begin(store)
            decided = book.choose(begun, [Use(begun.key, "d0", "sha256:1", 30)], 1)
            assert book.turn(begun, HALTED, "too few").state == DECIDED
            assert book.turn(begun, RUNNING) == decided
            noted = book.note(begun, Part("d1", "offline"))
            assert (noted.state, noted.used, noted.broken, noted.reason) == (DECIDED, decided.used, 1, None)
            assert book.turn(decided, HALTED, "it cannot be combined").reason == "it cannot be combined"

    @pytest.mark.parametrize(
        ("first", "second", "kept"),
        [
            ("came", "late", "came"),
            ("came", "failed", "came"),
            ("came", "waiting", "came"),
            ("came", "came", "came"),
            ("late", "offline", "late"),
            ("late", "late", "late"),
            ("refused", "late", "late"),
            ("failed", "came", "came"),
        ],
    )
    def test_a_sound_update_stays_whatever_is_heard_of_its_device_later(
        self, first: str, second: str, kept: str, url: str
    ) -> None:
        """Two hosts may hear of a device, and each knows what it has noted itself."""
        with Store(url) as store:
            book, begun = Book(store), begin(store)
            facts = Facts("sha256:1", 9, 30, 0.5)
            told = {state: Part("d1", state, facts if state in ("came", "late") else None) for state in LETTERS}
            book.note(begun, told[first], Part("d0", "offline"))
            noted = book.note(begun, Part("d2", "offline"), told[second])
            assert [noted.parts[1].state, noted.parts[1].facts, noted.parts[2].state] == [kept, facts, "offline"]

    def test_keys(self, url: str) -> None:
        with Store(url) as store:
            keys = KeyBook(store, "/project")
            assert keys.known("d0") is None
            keys.pin("d0", "one")
            keys.pin("d0", "two")
            assert (keys.known("d0"), KeyBook(store, "/other").known("d0")) == ("one", None)
            keys.trust("d0", "two")
            assert keys.known("d0") == "two"
