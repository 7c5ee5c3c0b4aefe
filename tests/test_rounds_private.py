"""Rounds that hide devices: what goes together, who takes part, what is spent, and that it stops at the budget."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgekit.cli import passing
from edgekit.errors import ConfigError, EdgekitError, PrivacySpent, RoundError
from edgekit.federated.paired import Paired
from edgekit.federated.privacy.central import Central
from edgekit.federated.privacy.ledger import Budget, Ledger, Step, local
from edgekit.federated.rounds import beginning, fitting, inviting, private, running, signatures, summing
from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.ledger_book import LedgerBook
from edgekit.federated.rounds.measures import CENTRAL, LOCAL, Privacy
from edgekit.federated.rounds.round import CAME, DECIDED, DONE, HALTED, RUNNING, Facts, Part, Plan, Result, Round, Use
from edgekit.federated.rounds.shelf import Shelf
from edgekit.federated.vectors import layout_of
from edgekit.store import Store
from edgekit_train import task as tasks
from edgekit_train import tensor_file
from edgekit_train.compression import Compression
from edgekit_train.fixed_point import Encoding
from edgekit_train.update import Update
from tests.lab.databases import postgresql, postgresql_url, sqlite_url, url
from tests.lab.learners import START, SUBJECT, Learners, ways

__all__ = ["postgresql", "postgresql_url", "sqlite_url", "url"]  # fixtures

NAMES = [f"d{number}" for number in range(5)]
HIDDEN = Privacy(CENTRAL, 8, 1e-3, 0.5, 2.0, tuple(NAMES))
CENTRALLY = Plan(clip=1.0, quorum=1.0, deadline_s=60, privacy=HIDDEN)


@pytest.fixture(autouse=True)
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(signatures, "check", lambda *words: None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


def begin(store: Store, plan: Plan) -> Round:
    file = Shelf("given").folder / "start.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(tensor_file.dump(START, {}))
    return beginning.begin(SUBJECT, plan, NAMES, beginning.Sources(Book(store), None, lambda model: START), str(file))


def a_round(plan: Plan, key: str = "a" * 32, **changes: Any) -> Round:
    return replace(Round(1, key, SUBJECT, plan, RUNNING, 0.0, "model", tuple(map(Part, NAMES))), **changes)


class TestWhatGoesTogether:
    @pytest.mark.parametrize(
        "plan",
        [
            Plan(),
            Plan(clip=1.0, adaptive=True),
            CENTRALLY,
            replace(CENTRALLY, adaptive=True),
            replace(CENTRALLY, secure=True, privacy=replace(HIDDEN, rate=1.0)),
            replace(CENTRALLY, compression=Compression()),
            replace(CENTRALLY, strategy="fedadam"),
            Plan("krum", clip=1.0, privacy=Privacy(LOCAL, 8, 1e-3)),
            Plan(clip=1.0, secure=True),
        ],
    )
    def test_these_do(self, plan: Plan) -> None:
        fitting.check(plan, 5, "head")

    @pytest.mark.parametrize(
        ("plan", "why"),
        [
            (Plan(privacy=HIDDEN), "no more than a clip"),
            (Plan(secure=True), "no more than a clip"),
            (Plan(clip=1.0, privacy=Privacy(LOCAL, 8, 1e-3, 0.5)), "--sample hides devices"),
            (replace(CENTRALLY, late=True), "came late"),
            (replace(CENTRALLY, quorum=0.8), "push another one out"),
            (replace(CENTRALLY, quorum=0.8, secure=True, privacy=replace(HIDDEN, rate=1.0)), "push another one out"),
            (Plan(clip=1.0, secure=True, late=True), "came late"),
            (Plan(clip=1.0, adaptive=True, privacy=Privacy(LOCAL, 8, 1e-3)), "--clip auto"),
            (Plan(clip=1.0, adaptive=True, secure=True), "--clip auto"),
            (Plan(clip=1.0, adaptive=True, noise=0.1), "--clip auto"),
            (Plan(clip=1.0, secure=True, privacy=Privacy(LOCAL, 8, 1e-3)), "no local noise"),
            (Plan(clip=1.0, secure=True, noise=0.1), "no local noise"),
            (Plan(clip=1.0, secure=True, compression=Compression()), "no small form"),
            (replace(CENTRALLY, secure=True), "know who else takes part"),
        ],
    )
    def test_these_do_not(self, plan: Plan, why: str) -> None:
        with pytest.raises(ConfigError, match=why):
            fitting.check(plan, 5, "head")

    @pytest.mark.parametrize("trainer", ["moments", "signature"])
    def test_a_proximal_term_is_for_trainers_that_have_one(self, trainer: str) -> None:
        fitting.check(Plan("fedprox"), 5, "mlp")
        with pytest.raises(ConfigError, match=f"fedprox asks for a proximal term, and {trainer} has none"):
            fitting.check(Plan("fedprox"), 5, trainer)

    @pytest.mark.parametrize(
        ("trainer", "config", "why"),
        [
            ("head", {"rate": "abc"}, "trainer head: rate is 'abc' — give a number from 1e-08 to 1000"),
            ("bias", {"rate": 1e9}, "trainer bias: rate is 1000000000.0 — give a number from 1e-08 to 1000"),
            ("mlp", {"epochs": 1.5}, "trainer mlp: epochs is 1.5 — give a whole number from 1 to 1000"),
            ("mlp", {"seed": float("nan")}, "trainer mlp: seed is nan — give a whole number"),
            ("head", {"hidden": 64}, "trainer head: unknown setting 'hidden' — known: epochs, batch, rate"),
            ("moments", {"rate": 0.1}, "trainer moments: unknown setting 'rate' — moments need none"),
            ("signature", {"momentum": 0.5}, "trainer signature: setting 'momentum' is not one of a training"),
            ("signature", {"rate": "abc"}, "trainer signature: rate is 'abc'"),
        ],
    )
    def test_a_setting_that_no_device_takes(self, trainer: str, config: dict[str, float | int | str], why: str) -> None:
        """A device would say the same, after its noise is paid for."""
        with pytest.raises(ConfigError, match=re.escape(why)):
            fitting.check(Plan(config=config, clip=1.0, privacy=Privacy(LOCAL, 8, 1e-3)), 5, trainer)

    def test_one_that_the_strategy_asks_for(self) -> None:
        with pytest.raises(ConfigError, match="trainer head: proximal is -1 — give a number from 0 to 1000"):
            fitting.check(Plan("fedprox", {"mu": -1}), 5, "head")

    def test_settings_that_devices_take_and_those_of_other_trainers_whatever_they_are(self) -> None:
        for trainer, config in (
            ("mlp", {"hidden": 64, "rate": 0.5, "epochs": 3}),
            ("signature", {"epochs": 3, "rate": 0.5, "seed": 7, "most_bytes": 4096}),
            ("own", {"rate": "abc", "leaves": 3}),
        ):
            fitting.check(Plan(config=config), 5, trainer)  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["median", "trimmed-mean", "krum", "multi-krum", "bulyan"])
    def test_robust_rules_see_no_sums(self, name: str) -> None:
        for plan in (CENTRALLY, Plan(clip=1.0, secure=True)):
            with pytest.raises(RoundError, match=f"{name} and .* exclude each other"):
                fitting.check(replace(plan, strategy=name), 9, "head")

    def test_a_sum_of_two_hides_nobody(self) -> None:
        with pytest.raises(ConfigError, match="a sum of 2"):
            fitting.check(Plan(clip=1.0, secure=True), 2, "head")


class TestTheNoise:
    def test_it_is_what_the_budget_asks_for_so_many_rounds(self) -> None:
        asked = replace(CENTRALLY, more=29, privacy=replace(HIDDEN, noise=0.0))
        found = private.settled(asked, NAMES, Ledger(Budget(8, 1e-3)))
        assert found.privacy
        assert found.privacy.noise == pytest.approx(1.59, abs=0.01)
        assert found.privacy.among == tuple(NAMES)
        assert found.noise is None

    def test_what_was_planned_with_goes_on(self) -> None:
        spent = Ledger(Budget(8, 1e-3)).entered(Step(0.5, 3.3))
        found = private.settled(replace(CENTRALLY, privacy=replace(HIDDEN, noise=0.0)), NAMES, spent)
        assert private.step(found) == Step(0.5, 3.3)

    def test_with_that_of_the_last_round(self, store: Store) -> None:
        book = LedgerBook(store)
        for number, noise in enumerate((3.0, 2.5, 3.0)):
            plan = replace(CENTRALLY, privacy=replace(HIDDEN, noise=noise))
            book.enter(a_round(plan, f"{number:032x}"))
        found = private.settled(
            replace(CENTRALLY, privacy=replace(HIDDEN, noise=0.0)), NAMES, book.ledger(SUBJECT, HIDDEN)
        )
        assert private.step(found) == Step(0.5, 3.0)

    def test_or_what_is_given(self) -> None:
        found = private.settled(replace(CENTRALLY, noise=4.5), NAMES, Ledger(Budget(8, 1e-3)))
        assert private.step(found) == Step(0.5, 4.5)
        assert found.noise is None

    def test_but_none_that_protects_nothing(self) -> None:
        for plan in (replace(CENTRALLY, noise=0.01), Plan(clip=1.0, noise=0.1, privacy=Privacy(LOCAL, 8, 1e-3))):
            with pytest.raises(ConfigError, match="protects nothing"):
                private.settled(plan, NAMES, Ledger(Budget(8, 1e-3)))

    def test_local_noise_is_the_devices(self) -> None:
        asked = Plan(clip=2.0, privacy=Privacy(LOCAL, 4, 1e-3), more=29)
        found = private.settled(asked, NAMES, Ledger(Budget(4, 1e-3)))
        assert found.noise == pytest.approx(20, rel=0.02)  # ten times the clip, as the guide says
        assert found.noise
        assert private.step(found) == local(found.noise, 2.0)
        again = private.settled(replace(asked, noise=7.0), NAMES, Ledger(Budget(4, 1e-3)))
        assert (again.noise, private.step(again)) == (7.0, local(7.0, 2.0))

    def test_the_sum_is_of_clipped_deltas_and_divided_by_how_many_are_expected(self) -> None:
        """Of a hundred sums the mean is known to a tenth of the noise, and their spread to a seventh."""
        update = Update("digits", "sha256:0", "a" * 32, "d0", 90, {name: np.ones_like(a) for name, a in START.items()})
        layout, rule = layout_of(START), private.strategy(CENTRALLY).rule
        sums = np.array([rule(layout, [update, replace(update, device="d1")]) for _ in range(400)]) * 2.5
        length = np.sqrt(layout.size)
        assert sums.mean() == pytest.approx(2 / length, abs=0.15)
        assert sums.std() == pytest.approx(2.0, rel=0.1)

    def test_of_a_secure_sum_as_well(self) -> None:
        mean = Update("digits", "sha256:0", "a" * 32, "x", 4, {name: np.full_like(a, 5) for name, a in START.items()})
        rule = private.strategy(replace(CENTRALLY, secure=True)).rule
        sums = np.array([rule(layout_of(START), [mean]) for _ in range(400)]) * 2.5
        assert (sums.mean(), sums.std()) == (pytest.approx(20, abs=0.15), pytest.approx(2.0, rel=0.1))

    def test_which_is_for_clips_that_were_written_in_fixed_point(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of 2^20 devices a step is a 2048th of the clip, and a device moves the sum by half of it in every number."""
        found = list[float]()
        monkeypatch.setattr(Central, "released", lambda self, total: found.append(self.clip) or total)
        many = replace(HIDDEN, among=tuple(map(str, range(1 << 20))))
        mean = Update("digits", "sha256:0", "a" * 32, "x", 4, START)
        private.strategy(replace(CENTRALLY, secure=True, privacy=many)).rule(layout_of(START), [mean])
        numbers = layout_of(START).size
        assert found == [pytest.approx((1 + numbers**0.5 / 2 / 2047) * (1 + 2**-3), rel=1e-6)]


class TestWhoTakesPart:
    def test_each_by_a_coin_each_round_anew(self) -> None:
        draws = [private.drawn(CENTRALLY, ["d0"]) for _ in range(300)]
        assert len(set(map(tuple, draws))) > 15
        assert np.mean([len(each) for each in draws]) == pytest.approx(2.5, abs=0.35)

    def test_all_where_nothing_is_sampled(self) -> None:
        assert private.drawn(Plan(), NAMES[:3]) == NAMES[:3]
        assert private.drawn(replace(CENTRALLY, privacy=replace(HIDDEN, rate=1.0)), []) == NAMES


class TestTheClip:
    def facts(self, clipped: float) -> Facts:
        return Facts("sha256:0", 9, 1, 0.5, {"clipped": clipped})

    def ended(self, clipped: list[float], plan: Plan) -> Round:
        parts = tuple(Part(name, CAME, self.facts(each)) for name, each in zip(NAMES, clipped, strict=False))
        used = tuple(Use("a" * 32, part.device, "sha256:0", 1) for part in parts)
        return a_round(plan, parts=parts, used=used)

    def test_it_grows_while_most_are_cut_and_shrinks_while_none_is(self) -> None:
        plan = Plan(clip=2.0, adaptive=True)
        assert private.next_clip(self.ended([1.0, 1.0, 1.0, 0.0], plan)) == pytest.approx(2 * np.exp(0.05))
        assert private.next_clip(self.ended([0.0] * 4, plan)) == pytest.approx(2 * np.exp(-0.1))
        assert private.next_clip(self.ended([0.0] * 4, replace(plan, adaptive=False))) is None

    def test_with_noise_on_the_count_the_sum_has_a_little_more(self) -> None:
        plan = replace(CENTRALLY, adaptive=True)
        assert private._central(plan).noise == pytest.approx(2.0 / 0.75**0.5)
        found = [private.next_clip(self.ended([0.0, 0.0, 1.0, 1.0], plan)) or 0.0 for _ in range(50)]
        assert len(set(found)) > 5  # half of them are as far as it may go

    def test_whatever_the_noise_it_moves_by_a_tenth_at_most(self) -> None:
        plan = replace(CENTRALLY, adaptive=True, privacy=replace(HIDDEN, noise=100.0))
        found = [private.next_clip(self.ended([0.0] * 4, plan)) or 0.0 for _ in range(50)]
        assert (min(found), max(found)) == (pytest.approx(np.exp(-0.1)), pytest.approx(np.exp(0.1)))

    def test_the_next_round_has_it(self) -> None:
        ended = a_round(Plan(clip=1.0, adaptive=True, more=3), result=Result(1, 1, 0.5, clip=1.1))
        assert (private.following(ended).clip, private.following(ended).more) == (1.1, 2)
        fixed = a_round(Plan(clip=1.0, more=3), result=Result(1, 1, 0.5))
        assert private.following(fixed).clip == 1.0


@pytest.mark.parametrize(("plan", "counts"), [(CENTRALLY, (0, 0)), (Plan(clip=1.0), (5, 90))])
def test_a_bundle_does_not_say_how_many_took_part_where_noise_hides_it(plan: Plan, counts: tuple[int, int]) -> None:
    ended, chain = a_round(plan, result=Result(5, 90, 0.5)), SimpleNamespace(rounds=lambda round_: 1)
    told = passing._origin(ended, "sha256:a", cast("Any", chain), Paired(100, 90, 0, 5))["round"]
    assert (told["devices"], told["examples"]) == counts


class TestTheLedger:
    def test_a_round_is_entered_once(self, url: str) -> None:
        with Store(url) as store:
            book = LedgerBook(store)
            for key in "aab":
                book.enter(a_round(CENTRALLY, key * 32))
            assert book.ledger(SUBJECT, HIDDEN).entries == ((Step(0.5, 2.0), 2),)
            assert book.ledger(SUBJECT, replace(HIDDEN, kind=LOCAL)).entries == ()
            assert book.ledger(replace(SUBJECT, app="other"), HIDDEN).entries == ()
            assert book.ledger(replace(SUBJECT, family="sha256:new"), HIDDEN).entries != ()

    def test_it_holds_whatever_budget_was_asked_before(self, store: Store) -> None:
        book, small = LedgerBook(store), replace(HIDDEN, epsilon=1.5)
        for number in range(3):
            book.enter(a_round(CENTRALLY, f"{number:032x}"))
        spent = book.ledger(SUBJECT, small).spent
        assert spent > 1.5
        with pytest.raises(PrivacySpent, match=r"ε = .* of 1.5 \(δ = 0.001\) is spent"):
            book.allow(a_round(replace(CENTRALLY, privacy=small)))
        book.allow(a_round(replace(CENTRALLY, privacy=small), f"{0:032x}"))  # it is entered already
        book.allow(a_round(CENTRALLY))
        assert book.ledger(SUBJECT, small).spent == spent

    def test_a_store_that_is_gone(self, store: Store) -> None:
        store.close()
        Path(store._engine.url.database or "").write_bytes(b"no database" * 100)
        with pytest.raises(EdgekitError, match="cannot be kept"):
            LedgerBook(store).enter(a_round(CENTRALLY))


class TestRounds:
    def test_they_go_on_until_the_budget_is_spent(self, store: Store) -> None:
        """Each is entered before its weights are there, and the one that is refused is not begun."""
        plan = replace(CENTRALLY, more=9, privacy=replace(HIDDEN, rate=1.0, noise=1.2))
        book = LedgerBook(store)
        allowed = Ledger(Budget(8, 1e-3)).left(private.step(plan))
        assert 1 < allowed < 9
        with pytest.raises(PrivacySpent, match="does not allow another round"):
            running.carry_on(begin(store, plan), ways(store, Learners(), NAMES))
        assert Book(store).find("/project", None).number == allowed
        assert book.ledger(SUBJECT, HIDDEN).entries == ((Step(1.0, 1.2), allowed),)
        with pytest.raises(PrivacySpent):
            book.settle(plan, SUBJECT, NAMES)

    def test_a_round_that_nobody_was_drawn_for_is_noise(self, store: Store) -> None:
        plan = replace(CENTRALLY, privacy=replace(HIDDEN, rate=1e-9))
        ended = running.carry_on(begin(store, plan), ways(store, Learners(), NAMES))
        assert (ended.state, ended.parts) == (DONE, ())
        assert ended.result
        assert (ended.result.updates, ended.result.moved > 1) == (0, True)

    def test_one_that_nobody_answers_halts_and_is_not_spent(self, store: Store) -> None:
        ended = running.carry_on(
            begin(store, replace(CENTRALLY, privacy=replace(HIDDEN, rate=1.0))),
            ways(store, Learners({name: RuntimeError("away") for name in NAMES}), NAMES),
        )
        assert ended.state == HALTED
        assert LedgerBook(store).ledger(SUBJECT, HIDDEN).entries == ()

    def test_local_noise_is_spent_before_devices_are_asked(self, store: Store) -> None:
        plan = Plan(clip=1.0, noise=9.0, privacy=Privacy(LOCAL, 8, 1e-3, noise=4.5))
        ended = running.carry_on(
            begin(store, plan), ways(store, Learners({name: RuntimeError("away") for name in NAMES}), NAMES)
        )
        assert ended.state == HALTED
        assert plan.privacy
        assert LedgerBook(store).ledger(SUBJECT, plan.privacy).entries == ((Step(1.0, 4.5), 1),)

    def test_noise_is_drawn_once_whoever_combines_the_round_again(self, store: Store) -> None:
        """From two draws of the noise upon one sum, more could be told than was entered."""
        carried = ways(store, Learners(), NAMES)
        ended = running.carry_on(begin(store, replace(CENTRALLY, privacy=replace(HIDDEN, rate=1.0))), carried)
        before = (Shelf(ended.key).folder / "result.safetensors").read_bytes()
        running._combined(replace(ended, state=DECIDED), carried)
        assert (Shelf(ended.key).folder / "result.safetensors").read_bytes() == before

    def test_a_round_that_was_not_begun_after_all_is_not_entered(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = Plan(clip=1.0, noise=9.0, quorum=1.0, privacy=Privacy(LOCAL, 8, 1e-3, noise=4.5), more=1)
        carried = ways(store, Learners(), NAMES)
        monkeypatch.setattr(carried.book, "begin", lambda new: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            running.carry_on(begin(store, plan), carried)
        assert plan.privacy
        assert LedgerBook(store).ledger(SUBJECT, plan.privacy).entries == ((Step(1.0, 4.5), 1),)

    def summed(self, store: Store, monkeypatch: pytest.MonkeyPatch, total: np.ndarray) -> Round:
        """What comes of a round of five devices whose vectors add up to that."""
        begun = begin(store, Plan(clip=1.0, secure=True))
        parts = tuple(Part(name, CAME, Facts("sha256:0", 9, 0, 0.0, masked=True)) for name in NAMES)
        monkeypatch.setattr(summing, "summed", lambda *words: summing.Sum(parts, {}, {}, total, None))
        return running.carry_on(begun, ways(store, Learners(), NAMES))

    def test_a_sum_of_garbage_halts_the_round(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        ended = self.summed(store, monkeypatch, np.full(private.size(START), 0xABCDEF01, np.uint32))
        assert ended.state == HALTED
        assert (ended.reason or "").startswith("secure aggregation: a mean of norm 2.5")

    @pytest.mark.parametrize(("times", "state"), [(1.0, DONE), (1.01, HALTED), (3.5, HALTED)])
    def test_a_mean_that_is_longer_than_the_clip_is_none_of_devices_that_clip(
        self, times: float, state: str, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Four are honest, and as long as their clip; the fifth says what makes the mean so many times as long."""
        encoding, size = private.encoding(Plan(clip=1.0, secure=True), 5), private.size(START)
        honest = encoding.encode({"all": np.full(size, size**-0.5 * (1 - 1e-6), np.float32)})
        lie = np.rint((5 * times - 4) * size**-0.5 * encoding.scale)
        total = (4 * honest.astype(np.int64) + int(lie)).astype(np.uint32)
        ended = self.summed(store, monkeypatch, total)
        assert (ended.state, bool(ended.result)) == (state, state == DONE)
        if ended.result:
            assert ended.result.moved == pytest.approx(1, abs=1e-5)
            assert (ended.result.updates, ended.result.examples) == (5, 0)
        else:
            why = f"secure aggregation: a mean of norm {times:.3g}, where devices that clip come to 1 at most"
            assert ended.reason == why

    @pytest.mark.parametrize(("quorum", "enough"), [(0.2, 3), (0.4, 3), (0.8, 4)])
    def test_a_sum_waits_for_as_many_as_it_needs_whatever_the_quorum(
        self, quorum: float, enough: int, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heard = list[int]()

        def lost(asks: object, terms: summing.Terms, until: float) -> summing.Sum:
            heard.append(terms.enough)
            return summing.Sum((), {}, {}, None, "nobody")

        monkeypatch.setattr(summing, "summed", lost)
        running.carry_on(begin(store, Plan(clip=1.0, secure=True, quorum=quorum)), ways(store, Learners(), NAMES))
        assert heard == [enough]

    def test_a_sum_that_is_lost_once_devices_have_given_their_part_is_not_asked_for_again(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its host was killed before it had the sum on the shelf."""
        begun, carried = begin(store, Plan(clip=1.0, secure=True)), ways(store, Learners(), NAMES)
        given = carried.book.note(begun, Part("d1", CAME, Facts("sha256:0", 9, 0, 0.0, masked=True)))
        monkeypatch.setattr(summing, "summed", lambda *words: 1 / 0)
        ended = running.carry_on(given, carried)
        assert (ended.state, [part.device for part in ended.of(CAME)]) == (HALTED, ["d1"])
        assert "the sum is lost" in (ended.reason or "")

    def test_devices_are_asked_to_clip_and_a_secure_task_says_how_to_write(self, store: Store) -> None:
        begun = begin(store, replace(CENTRALLY, privacy=replace(HIDDEN, rate=1.0), secure=True))
        asks = list(inviting.asks(begun, 1e9, ways(store, Learners(), NAMES)))
        asked = tasks.parse(asks[0].task, 1 << 20)
        assert (asked.clip, asked.noise, asked.secure) == (1.0, None, private.encoding(begun.plan, 5))
        assert asked.secure == Encoding(1.0, 5)
        with pytest.raises(RoundError, match="a secure sum of 9000000 devices"):
            private.encoding(Plan(clip=1.0, secure=True), 9_000_000)

    def test_an_adaptive_clip_is_kept_from_round_to_round_and_release_to_release(self, store: Store) -> None:
        plan = Plan(clip=0.05, adaptive=True, quorum=1.0, deadline_s=60, more=1)
        ended = running.carry_on(begin(store, plan), ways(store, Learners(), NAMES))
        assert ended.result
        assert ended.plan.clip
        assert 0.05 < ended.plan.clip < (ended.result.clip or 0)  # all learn more than that
        assert Book(store).last_clip(replace(SUBJECT, family="sha256:new")) == ended.result.clip
        assert Book(store).last_clip(replace(SUBJECT, trainer="bias")) is None

    def test_a_round_with_a_clip_of_its_own_does_not_make_it_forget_the_adaptive_one(self, url: str) -> None:
        with Store(url) as store:
            for plan in (Plan(clip=0.05, adaptive=True), Plan(clip=3.0), Plan()):
                running.carry_on(begin(store, replace(plan, deadline_s=20)), ways(store, Learners(), NAMES))
            assert Book(store).last_clip(SUBJECT) == Book(store).find("/project", 1).result.clip > 0.05
