"""The courier, without a network: what it brings, what it remembers, and what a cut at any moment costs."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_courier import delivery, letter, rounds, taken, tls, words
from edgekit_courier.errors import Undelivered, Unwelcome
from edgekit_courier.letter import Letter
from edgekit_courier.parcels import Parcel
from edgekit_courier.taken import Taken
from edgekit_runtime import durable
from edgekit_runtime.errors import DeviceError
from edgekit_runtime.spool import Spool
from edgekit_runtime.windows import Window, dump
from tests.runtime.powercut import CUTS, REFUSALS, Loss, failing

WINDOW = Window("digits", "sha256:" + "a" * 64, "0f" * 16, 0, 1.7e9, 1.7e9 + 60, {690: 3}, {"invalid_input": 1})
LETTER = {"url": "https://collector:8443/at", "token": "kitchen.1." + "s" * 43, "certificate": "", "pinned": False}
Key = tuple[str, int]
QUICK = ("all lost", "disk full")
LOSSES = [
    pytest.param(loss, marks=() if loss in QUICK else pytest.mark.slow) for loss in sorted(CUTS) + sorted(REFUSALS)
]


class Collector:
    """Stands at the other end: takes each window, or what it is told to do about a parcel."""

    def __init__(self) -> None:
        self.came: list[list[Key]] = []
        self.troubles: list[Exception] = []
        self.dislikes: set[int] = set()

    @property
    def has(self) -> set[Key]:
        return {key for keys in self.came for key in keys}

    def send(self, parcel: Parcel) -> None:
        if self.troubles:
            raise self.troubles.pop()
        if self.dislikes & {window.seq for window in parcel.windows}:
            raise Unwelcome("no")
        self.came.append([(window.session, window.seq) for window in parcel.windows])

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    made = Collector()
    monkeypatch.setattr(delivery.https, "Post", lambda letter: made)
    return made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    words.enrol(tmp_path / "home", LETTER)
    return tmp_path / "home"


def spool(home: Path, *seqs: int, session: str = WINDOW.session, app: str = "digits") -> set[Key]:
    for seq in seqs:
        Spool(home / "reports" / app).append(replace(WINDOW, app=app, session=session, seq=seq))
    return {(session, seq) for seq in seqs}


class TestDelivery:
    def test_each_window_once(self, home: Path, collector: Collector) -> None:
        first = spool(home, 0, 1) | spool(home, 0, session="1f" * 16, app="faces")
        assert (delivery.deliver(home), delivery.deliver(home)) == (3, 0)
        second = spool(home, 2)
        assert delivery.deliver(home) == 1
        assert sorted(key for keys in collector.came for key in keys) == sorted(first | second)

    def test_nobody_is_called_on_for_nothing(self, home: Path, collector: Collector) -> None:
        collector.troubles = [Undelivered("nobody there")]
        assert delivery.deliver(home) == 0
        with pytest.raises(Undelivered):
            delivery.deliver(home, greet=True)

    def test_what_was_not_taken_stays(self, home: Path, collector: Collector) -> None:
        wanted = spool(home, 0)
        collector.troubles = [Undelivered("nobody there")]
        with pytest.raises(Undelivered):
            delivery.deliver(home)
        assert delivery.deliver(home) == 1
        assert collector.has == wanted

    def test_a_window_that_nobody_takes_does_not_keep_the_others(self, home: Path, collector: Collector) -> None:
        wanted = spool(home, *range(11))
        collector.dislikes = {3, 7}
        assert delivery.deliver(home) == 9
        assert collector.has == wanted - {(WINDOW.session, 3), (WINDOW.session, 7)}
        assert delivery.deliver(home) == 0

    def test_spools_that_are_gone_damaged_reordered_or_foreign(self, home: Path, collector: Collector) -> None:
        wanted = spool(home, 1, 0)  # in another order than they were made
        folder = home / "reports/digits"
        (folder / f"{'2f' * 16}-000000000.ndjson").write_bytes(dump(WINDOW).encode()[:50])
        (folder / f"{'3f' * 16}-000000000.ndjson").write_bytes(b"\xff\0\n" * 100 + b'{"schema_version":1}\n[]\n')
        (folder / f"{'4f' * 16}-000000000.ndjson.gz").write_bytes(b"\x1f\x8b cut")
        (folder / "notes.txt").write_text("hello")
        (folder / f"{'5f' * 16}-000000000.ndjson").mkdir()
        (home / "reports/file").touch()
        assert delivery.deliver(home) == 2
        assert collector.has == wanted
        for path in folder.glob(f"*{WINDOW.session}-*"):
            path.unlink()
        assert delivery.deliver(home) == 0
        assert json.loads((home / "courier/taken.json").read_text())["last"] == {}

    def test_without_a_letter_it_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(DeviceError, match="nobody collects") as caught:
            delivery.deliver(tmp_path)
        assert caught.value.hint == "edgekit collect enrol NAME"

    def test_a_new_letter_means_that_all_goes_again(self, home: Path, collector: Collector) -> None:
        spool(home, 0)
        assert delivery.deliver(home) == 1
        words.enrol(home, {**LETTER, "url": "https://other"})
        assert delivery.deliver(home) == 1

    @pytest.mark.parametrize("loss", LOSSES)
    def test_a_cut_at_any_step_loses_nothing(
        self, tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch, loss: Loss
    ) -> None:
        monkeypatch.setattr("edgekit_courier.parcels.MOST_WINDOWS", 1)
        for stop in count(1):
            home = tmp_path / f"home{stop}"
            home.mkdir()
            words.enrol(home, LETTER)
            wanted = spool(home, 0, 1)
            collector.came.clear()
            with failing(home / "courier", tmp_path / f"backup{stop}", loss, stop) as disk:
                try:
                    delivery.deliver(home)
                except (OSError, DeviceError):
                    assert loss in REFUSALS
            delivery.deliver(home)
            assert collector.has == wanted
            assert delivery.deliver(home) == 0
            if not disk.failed:
                break

    @pytest.mark.parametrize("loss", LOSSES[:4])
    def test_an_enrolment_that_is_cut_leaves_a_letter_that_is_whole(self, tmp_path: Path, loss: Loss) -> None:
        for stop in count(1):
            home = tmp_path / f"home{stop}"
            home.mkdir()
            words.enrol(home, LETTER)
            new = {**LETTER, "url": "https://other"}
            with failing(home, tmp_path / f"backup{stop}", loss, stop) as disk:
                words.enrol(home, new)
            found = letter.read(home)
            assert found
            assert found.url in (LETTER["url"], new["url"])
            if not disk.failed:
                assert found.url == new["url"]
                break


class TestLetter:
    def test_it_is_for_its_owner_alone(self, home: Path) -> None:
        assert (home / "courier").stat().st_mode & 0o777 == 0o700
        assert (home / "courier/letter.json").stat().st_mode & 0o777 == 0o600

    def test_what_stands_in_it(self, home: Path) -> None:
        found = letter.read(home)
        assert found
        assert (found.host, found.port, found.path) == ("collector", 8443, "/at")
        assert (found.device, found.secret) == ("kitchen.1", "s" * 43)
        assert Letter("mqtts://[::1]", "x").port == 8883

    @pytest.mark.parametrize(
        "changes",
        [
            {"url": "http://collector"},
            {"url": "https://"},
            {"url": "https://x:99999"},
            {"url": "file:///etc/passwd"},
            {"url": None},
            {"token": "kitchen"},
            {"token": "kitchen." + "s" * 43 + "\r\nX: y"},
            {"token": "Kitchen/#." + "s" * 43},
            {"pinned": True},
        ],
    )
    def test_what_is_none(self, home: Path, changes: dict[str, Any]) -> None:
        with pytest.raises(ValueError) as caught:
            words.enrol(home, {**LETTER, **changes})
        assert "s" * 43 not in str(caught.value)
        assert letter.read(home) == Letter(**LETTER)

    def test_one_that_is_damaged_is_told_without_its_token(self, home: Path) -> None:
        durable.write(home / "courier/letter.json", json.dumps(LETTER).encode()[:-9])
        with pytest.raises(DeviceError, match="cannot be read") as caught:
            letter.read(home)
        assert "s" * 43 not in str(caught.value)

    def test_a_certificate_that_is_none(self) -> None:
        with pytest.raises(Undelivered, match="certificate"):
            tls.context("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----", pinned=True)


class TestTaken:
    @given(st.binary(max_size=60))
    def test_a_file_that_is_damaged_is_none(self, tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
        place = tmp_path_factory.mktemp("taken")
        (place / taken.FILE).write_bytes(junk)
        assert Taken(place).last == {}

    def test_it_comes_back(self, tmp_path: Path) -> None:
        made = Taken(tmp_path)
        made.add([replace(WINDOW, seq=seq) for seq in (3, 9, 5)])
        made.keep()
        assert Taken(tmp_path).last == {WINDOW.session: 9}
        assert made.only([])
        assert not made.only([])


class TestRounds:
    def test_longer_and_longer_and_never_all_at_once(self) -> None:
        assert [rounds.pause_s(failures, 0.0, lambda: 0.0) for failures in range(7)] == [
            300, 300, 600, 1200, 2400, 3600, 3600,
        ]  # fmt: skip
        assert rounds.pause_s(1, 900.0, lambda: 1.0) == 1350
        assert len({rounds.pause_s(0) for _ in range(20)}) == 20

    def test_a_change_is_said_once(self, home: Path, collector: Collector) -> None:
        said: list[str] = []
        made = rounds.Rounds(home, said.append)
        collector.troubles = [Undelivered("nobody there", after_s=4000.0)] * 2
        for step in range(6):
            spool(home, step)
            pause = made.turn()
            assert pause >= (4000 if step < 2 else 300)
        assert said == ["not delivered: nobody there", "delivering: 3 windows"]

    def test_a_device_that_nobody_enrolled_looks_again_soon(self, tmp_path: Path) -> None:
        said: list[str] = []
        assert rounds.Rounds(tmp_path, said.append).turn() <= 45
        assert said == ["waiting to be enrolled"]


def test_the_words_reach_it(home: Path, collector: Collector) -> None:
    spool(home, 0)
    assert words.deliver(home, once=True) == {"delivered": 1}
