"""What a round is, when it is decided, and what is checked before an update is let in."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import plugins
from edgekit.errors import BrokenUpdate, ConfigError, RoundError
from edgekit.federated import strategies
from edgekit.federated.checks import Limits
from edgekit.federated.rounds import admission, beginning, deciding, spelling, states
from edgekit.federated.rounds.asking import Answer, Live
from edgekit.federated.rounds.round import (
    CAME,
    DECIDED,
    FAILED,
    HALTED,
    LATE,
    OFFLINE,
    REFUSED,
    RUNNING,
    WAITING,
    Facts,
    Part,
    Plan,
    Round,
)
from edgekit.federated.rounds.shelf import Shelf
from edgekit.federated.strategy import State, Strategy
from edgekit_train import family as families
from edgekit_train import packed
from edgekit_train import update as updates
from edgekit_train.compression import Compression, compress
from edgekit_train.device_key import digest_of
from edgekit_train.update import Update, Weights
from tests.lab.learners import START, SUBJECT, Signer

KEY = "0" * 32
FACTS = Facts("sha256:" + "1" * 64, 100, 10, 1.0)


def moved(by: float) -> Weights:
    return {name: array + np.float32(by) for name, array in START.items()}


def round_of(*states: str, key: str = KEY, **plan: Any) -> Round:
    parts = [
        Part(f"pi-{number}", state, FACTS if state in (CAME, LATE) else None) for number, state in enumerate(states)
    ]
    return Round(1, key, SUBJECT, Plan(**plan), RUNNING, 0.0, "model.onnx", tuple(parts))


def decided(round_: Round, least: int = 1, *, over: bool = False, before: Round | None = None) -> deciding.Decision:
    return deciding.decide(round_, deciding.uses(round_, before), least, over=over)


class TestDeciding:
    @pytest.mark.parametrize(
        ("came", "asked", "quorum", "enough"),
        [
            (4, 5, 0.8, True),
            (3, 5, 0.8, False),
            (1, 1, 0.8, True),
            (3, 3, 1.0, True),
            (2, 3, 0.6, True),
            (1, 10, 0.01, True),
        ],
    )
    def test_a_quorum_is_enough_not_to_wait(self, came: int, asked: int, quorum: float, enough: bool) -> None:
        found = decided(round_of(*[CAME] * came, *[WAITING] * (asked - came), quorum=quorum))
        assert found.state == (DECIDED if enough else RUNNING)

    def test_when_time_is_over_what_came_is_combined(self) -> None:
        found = decided(round_of(CAME, WAITING, OFFLINE), over=True)
        assert found == deciding.Decision(DECIDED, "1 of 3 updates")

    def test_too_few_for_the_strategy_halt_it(self) -> None:
        found = decided(round_of(CAME, CAME, REFUSED, FAILED, strategy="krum"), 5, over=True)
        assert found == deciding.Decision(HALTED, "2 of 4 updates; krum needs 5 updates")
        assert decided(round_of(WAITING), over=True) == deciding.Decision(
            HALTED, "0 of 1 update; fedavg needs 1 update"
        )

    def test_a_quorum_that_is_too_few_for_the_strategy_waits(self) -> None:
        assert decided(round_of(*[CAME] * 4, WAITING, strategy="krum"), 5).state == RUNNING
        assert decided(round_of(*[CAME] * 5, strategy="krum"), 5).state == DECIDED

    @given(
        st.lists(st.sampled_from([CAME, WAITING, FAILED, OFFLINE, REFUSED]), min_size=1),
        st.integers(1, 9),
        st.booleans(),
    )
    def test_what_is_decided_has_what_the_strategy_needs(self, states: list[str], least: int, over: bool) -> None:
        found = decided(round_of(*states), least, over=over)
        assert (found.state == DECIDED) <= (states.count(CAME) >= least)
        assert (found.state == RUNNING) <= (not over)


class TestLateUpdates:
    BEFORE = round_of(CAME, LATE, LATE, key="1" * 32)

    def test_those_of_the_round_before_are_used_where_they_are_wanted(self) -> None:
        found = deciding.uses(round_of(CAME, CAME, WAITING, late=True), self.BEFORE)
        assert [(use.device, use.key, use.behind) for use in found] == [
            ("pi-0", KEY, 0),
            ("pi-1", KEY, 0),
            ("pi-2", "1" * 32, 1),
        ]

    def test_not_of_who_has_sent_something_else_since_sound_or_not(self) -> None:
        """Whoever is found out may not have its way by what it sent before that."""
        found = deciding.uses(round_of(CAME, REFUSED, WAITING, late=True), self.BEFORE)
        assert [use.device for use in found] == ["pi-0", "pi-2"]

    def test_and_nowhere_else(self) -> None:
        assert len(deciding.uses(round_of(CAME, CAME, WAITING), self.BEFORE)) == 2
        assert deciding.uses(round_of(WAITING, LATE, late=True), None) == ()

    def test_alone_they_make_no_round_but_they_count_for_the_strategy(self) -> None:
        assert decided(round_of(WAITING, WAITING, WAITING, late=True), before=self.BEFORE, over=True).state == HALTED
        both = round_of(CAME, WAITING, WAITING, late=True)
        assert decided(both, 3, before=self.BEFORE, over=True) == deciding.Decision(
            DECIDED, "1 of 3 updates and 2 of the round before"
        )
        assert decided(both, 3, before=self.BEFORE).state == RUNNING


class TestSpelling:
    def test_settings(self) -> None:
        assert spelling.settings(["rate=0.05", "epochs=3", "mode=fast", "decay=1e-3"]) == {
            "rate": 0.05,
            "epochs": 3,
            "mode": "fast",
            "decay": 0.001,
        }
        assert [type(value) for value in spelling.settings(["a=3", "b=3.0"]).values()] == [int, float]

    @pytest.mark.parametrize("word", ["rate", "=3", "rate="])
    def test_no_settings(self, word: str) -> None:
        with pytest.raises(ConfigError, match="is no setting"):
            spelling.settings([word])

    def test_an_option_of_a_strategy_is_a_number(self) -> None:
        assert spelling.numbers(["liars=2"]) == {"liars": 2}
        with pytest.raises(ConfigError, match="liars=two: no number"):
            spelling.numbers(["liars=two"])

    def test_a_deadline_is_a_second_to_a_week(self) -> None:
        assert [spelling.deadline(text) for text in ("1", "10m", "168h")] == [1, 600, 604800]
        for text in ("0s", "0.5s", "169h"):
            with pytest.raises(ConfigError, match=f"'{text}' is no deadline of a round — write 10m: from 1s to 168h"):
                spelling.deadline(text)

    def test_compression(self) -> None:
        assert spelling.compression("int8") == Compression(1.0, True)
        assert spelling.compression("1%") == Compression(0.01, True)
        with pytest.raises(ConfigError, match="write int8, or 1%"):
            spelling.compression("zip")


class TestStates:
    def test_weights_and_moments_come_back(self) -> None:
        state = State(START, {"first": np.arange(15, dtype=np.float32)})
        found, strategy = states.parse(states.dump(state, "fedadam"))
        assert strategy == "fedadam"
        for part, want in ((found.weights, state.weights), (found.moments, state.moments)):
            assert part.keys() == want.keys()
            assert all(np.array_equal(part[name], want[name]) for name in want)
        assert states.dump(found, "fedadam") == states.dump(state, "fedadam")

    @pytest.mark.parametrize("data", [b"", b"\0" * 40, updates.dump(Update("a", "b", KEY, "c", 1, START))])
    def test_other_files_are_refused(self, data: bytes) -> None:
        with pytest.raises(RoundError):
            states.parse(data)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("device"))


class TestAdmission:
    SENT = Update(
        "digits", SUBJECT.family, KEY, "pi-0", 30, {name: array + np.float32(0.1) for name, array in START.items()}
    )

    def admitted(self, answer: Answer, known: str | None = None) -> Update:
        expected = admission.expected(round_of(WAITING), START)
        return admission.admitted("pi-0", answer, expected, known)[0]

    def test_a_sound_update(self, signer: Signer) -> None:
        answer = signer.signed(updates.dump(self.SENT))
        assert self.admitted(answer, known=answer.public) == self.SENT == self.admitted(answer)
        assert self.admitted(replace(answer, signature=answer.signature.replace("\n", " "))) == self.SENT  # out of JSON
        facts = admission.facts(answer, self.SENT)
        assert (facts.bytes, facts.examples) == (len(answer.update), 30)
        assert facts.norm == pytest.approx(0.1 * math.sqrt(15))

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"round": "f" * 32}, f"pi-0: round: '{'f' * 32}', where '{KEY}' was asked"),
            ({"device": "pi-9"}, "pi-0: device: 'pi-9', where 'pi-0' was asked"),
            ({"app": "other"}, "pi-0: app: 'other'"),
            ({"examples": 1 << 30}, "examples: 1073741824, where 1 to 100000 can be"),
            ({"delta": {"head.0.bias": START["head.0.bias"]}}, "names: 'head.0.weight' missing"),
            ({"delta": {name: array + np.float32(np.nan) for name, array in START.items()}}, "not finite"),
            (
                {"delta": {name: array + np.float32(1e3) for name, array in START.items()}},
                "norm: 3.87e+03, where at most 10",
            ),
        ],
    )
    def test_what_is_not_what_was_asked(self, signer: Signer, changes: dict[str, Any], reason: str) -> None:
        with pytest.raises(RoundError) as caught:
            self.admitted(signer.signed(updates.dump(replace(self.SENT, **changes))))
        assert reason in caught.value.message

    def test_another_key_and_another_signature(self, signer: Signer, tmp_path: Path) -> None:
        answer, other = signer.signed(updates.dump(self.SENT)), Signer(tmp_path).signed(b"else")
        with pytest.raises(RoundError, match="signs with another key than before") as caught:
            self.admitted(answer, known=other.public)
        assert caught.value.hint == "where it was set up anew: edgekit round trust pi-0"
        for changed in (
            replace(answer, public=other.public),
            replace(answer, signature=other.signature),
            replace(answer, signature="nothing"),
            replace(answer, update=answer.update[:-1] + b"\1"),
        ):
            with pytest.raises(RoundError, match="pi-0: the update is not signed by the device's key"):
                self.admitted(changed)
        with pytest.raises(RoundError, match="tells no public key"):
            self.admitted(replace(answer, public='x" ssh-ed25519'))

    def test_rubbish_and_too_much_of_it(self, signer: Signer) -> None:
        with pytest.raises(RoundError, match="pi-0: no update: "):
            self.admitted(signer.signed(b"rubbish"))
        with pytest.raises(RoundError, match="100000 bytes, where at most"):
            self.admitted(Answer(CAME, b"\0" * 100_000))

    @pytest.mark.parametrize(
        ("changes", "known"),
        [
            ({"round": "f" * 32}, True),
            ({"delta": {name: array[:1] for name, array in START.items()}}, True),
            ({"delta": {name: array + np.float32(1e3) for name, array in START.items()}}, False),  # nothing clips it
            ({"examples": 1 << 30}, False),
        ],
    )
    def test_what_gives_a_device_away(self, signer: Signer, changes: dict[str, Any], known: bool) -> None:
        with pytest.raises(RoundError) as caught:
            self.admitted(signer.signed(updates.dump(replace(self.SENT, **changes))))
        assert isinstance(caught.value, BrokenUpdate) == known

    def test_only_what_it_has_signed_itself(self, signer: Signer, tmp_path: Path) -> None:
        """Rubbish by its key; what is under another key, or under none, is perhaps not of it."""
        with pytest.raises(BrokenUpdate):
            self.admitted(signer.signed(b"rubbish"))
        with pytest.raises(RoundError) as caught:
            self.admitted(Signer(tmp_path).signed(b"rubbish"), known=signer.signed(b"").public)
        assert not isinstance(caught.value, BrokenUpdate)

    @given(st.floats(0.01, 10), st.sampled_from([None, 1.0, 0.1]), st.integers(0, 99))
    def test_what_a_device_clips_and_compresses_is_within_the_limits(
        self, clip: float, share: float | None, seed: int
    ) -> None:
        """Ten times, with the error fed back, and always in the same direction: the worst that it comes to."""
        how = None if share is None else Compression(share)
        limits = admission.limits(Plan(clip=clip, compression=how), START)
        rng = np.random.default_rng(seed)
        random = {name: rng.standard_normal(array.shape).astype(np.float32) for name, array in START.items()}
        length = math.sqrt(sum(float(np.square(array).sum()) for array in random.values()))
        delta = {name: array * np.float32(clip / length) for name, array in random.items()}
        residual: dict[str, Any] = {}
        for _ in range(10):
            sent = delta
            if how:
                done = compress(delta, how, residual, rng)
                sent, residual = done.delta, done.residual
            assert math.sqrt(sum(float(np.square(array).sum()) for array in sent.values())) <= limits.norm

    def test_the_file_of_all_numbers_and_their_places_fits(self) -> None:
        whole = {
            name: packed.Packed(array.reshape(-1), array.shape, None, np.arange(array.size, dtype=np.uint32))
            for name, array in self.SENT.delta.items()
        }
        data = updates.dump(replace(self.SENT, metrics={f"m{i}": 1 / 3 for i in range(100)}), whole)
        assert len(data) < admission.most_bytes(START)
        assert admission.limits(Plan(), START) == Limits(10.0, 100_000)


class TestShelf:
    @pytest.fixture(autouse=True)
    def person(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    def test_an_update_that_was_changed_is_not_the_one_that_came(self, tmp_path: Path) -> None:
        shelf, data = Shelf(KEY), b"what came"
        shelf.keep("pi-0", data, "signature")
        assert (shelf.update("pi-0", digest_of(data)), shelf.signature("pi-0")) == (data, "signature")
        (tmp_path / "edgekit" / "rounds" / KEY / "updates" / "pi-0.safetensors").write_bytes(b"else")
        with pytest.raises(RoundError, match="the update of pi-0 is not the one that came"):
            shelf.update("pi-0", digest_of(data))

    def test_what_is_not_there_is_told_with_its_place(self, tmp_path: Path) -> None:
        with pytest.raises(RoundError, match=f"{tmp_path}/edgekit/rounds/{KEY}/start.safetensors: No such file"):
            Shelf(KEY).start()


def test_a_strategy_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(share: float = 0.5) -> Strategy:
        return replace(strategies.fedavg(), name=f"mine {share}")

    monkeypatch.setattr(plugins, "names", lambda group: ["mine"] if group == "edgekit.strategies" else [])
    monkeypatch.setattr(plugins, "load", lambda group, name: mine)
    assert strategies.named("mine", {"share": 0.25}).name == "mine 0.25"
    with pytest.raises(ConfigError, match="mine: unknown option 'liars'"):
        strategies.named("mine", {"liars": 1})
    with pytest.raises(ConfigError, match="known: fedavg, .*, bulyan, mine"):
        strategies.named("other", {})


class TestAgreed:
    A, B = (Live("digits", families.named(f"sha256:{each * 64}", f"sha256:{'c' * 64}")) for each in "ab")
    AWAY = Live(error={"code": "connect", "message": "pi: no answer", "hint": None})

    def test_the_model_that_all_serve_who_answer(self) -> None:
        assert beginning.agreed({"pi-1": self.AWAY, "pi-2": self.A, "pi-3": self.A}) == self.A

    def test_the_same_model_whose_inputs_are_prepared_otherwise_is_another(self) -> None:
        odd = replace(self.A, family=families.named(f"sha256:{'a' * 64}", f"sha256:{'d' * 64}"))
        with pytest.raises(ConfigError, match=r"model sha256:a{12}, inputs sha256:c{12}: pi-1; .* inputs sha256:d{12}"):
            beginning.agreed({"pi-1": self.A, "pi-2": odd})

    def test_several_are_told_by_name(self) -> None:
        with pytest.raises(
            ConfigError, match=r"serve 2 models: digits of model sha256:a.*: pi-1; digits of model sha256:b.*: pi-2"
        ):
            beginning.agreed({"pi-1": self.A, "pi-2": self.B})

    def test_nobody_answers(self) -> None:
        with pytest.raises(RoundError, match="pi: no answer"):
            beginning.agreed({"pi": self.AWAY})
