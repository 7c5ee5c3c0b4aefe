"""The collector's desk, without a network: what it takes, from whom, and what it sends away."""

from __future__ import annotations

import asyncio
import gzip
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from edgekit.collect import tokens
from edgekit.collect.app import app
from edgekit.collect.bodies import MOST_PACKED
from edgekit.collect.pace import BURST, Pace
from edgekit.collect.tokens import Token, Tokens
from edgekit.errors import ConfigError
from edgekit.store import Store
from edgekit_courier.parcels import Packer
from edgekit_runtime.windows import dump
from tests.test_collect_bodies import WINDOW, packed, windows

Body = bytes | AsyncIterator[bytes]


class Desk:
    """A collector with one device that it knows."""

    def __init__(self, url: str) -> None:
        self.store = Store(url)
        self.tokens, self.kitchen = Tokens(self.store), tokens.fresh("kitchen")
        self.tokens.keep(self.kitchen)
        self.said: list[str] = []
        self.app = app(self.store, self.tokens, self.said.append)

    def hand_in(
        self, *bodies: bytes | AsyncIterator[bytes], token: str | None = None, **headers: str
    ) -> list[httpx.Response]:
        """All of them at once."""
        sent = {"Authorization": f"Bearer {self.kitchen.text if token is None else token}", **headers}

        async def all_() -> list[httpx.Response]:
            async with self._client() as client:
                return await asyncio.gather(
                    *(client.post("/v1/windows", content=body, headers=sent) for body in bodies)
                )

        return asyncio.run(all_())

    def get(self, path: str) -> httpx.Response:
        async def one() -> httpx.Response:
            async with self._client() as client:
                return await client.get(path)

        return asyncio.run(one())

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="https://collector")

    def counted(self) -> dict[str, int]:
        return {each.device: each.count for each in self.store.summaries()}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(f"sqlite:///{tmp_path / 'store.db'}")
    yield made
    made.store.close()


@pytest.fixture
def hasty_desk(tmp_path: Path) -> Iterator[Desk]:
    """It does not wait for others who write."""
    made = Desk(f"sqlite:///{tmp_path / 'store.db'}?timeout=0.1")
    yield made
    made.store.close()


def test_a_window_is_stored_once_however_often_it_comes(desk: Desk) -> None:
    body = Packer().parcel(windows(3)).body
    answers = desk.hand_in(body, body, body)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert sorted(answer.json()["new"] for answer in answers) == [0, 0, 3]
    assert {answer.json()["taken"] for answer in answers} == {3}
    assert desk.counted() == {"kitchen": 9}


def test_the_name_is_that_of_the_token(desk: Desk) -> None:
    gate = tokens.fresh("gate")
    desk.tokens.keep(gate)
    head = b'{"schema_version":1,"now_s":1700000000,"device":"kitchen"}\n'
    [answer] = desk.hand_in(packed(dump(WINDOW), head=head), token=gate.text)
    assert answer.json()["taken"] == 1
    assert desk.counted() == {"gate": 3}


def test_lies_are_counted_and_the_rest_is_kept(desk: Desk) -> None:
    [answer] = desk.hand_in(packed("<script>", dump(WINDOW), "{}"))
    assert answer.json() == {"schema_version": 1, "taken": 1, "new": 1, "skipped": 2}


@pytest.mark.parametrize("device_now_s", [200.0, 4e9])
def test_a_device_that_does_not_know_the_time(desk: Desk, device_now_s: float) -> None:
    """It is 1970 there, or 2096; a window ended 40 seconds before it came."""
    window = replace(WINDOW, start_s=device_now_s - 100, end_s=device_now_s - 40)
    head = f'{{"schema_version":1,"now_s":{device_now_s}}}\n'.encode()
    assert desk.hand_in(packed(dump(window), head=head))[0].json()["new"] == 1
    [summary] = desk.store.summaries()
    assert summary.last_s == pytest.approx(time.time() - 40, abs=10)


@pytest.mark.parametrize("token", ["", "kitchen.", "kitchen." + "x" * 43, "x" * 5000])
def test_whoever_has_no_token_is_not_read(desk: Desk, token: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b""
        pytest.fail("the body was asked for")

    [answer] = desk.hand_in(body(), token=token)
    assert (answer.status_code, answer.headers["connection"]) == (401, "close")
    assert desk.counted() == {}


def test_another_way_to_say_who_one_is(desk: Desk) -> None:
    [answer] = desk.hand_in(packed(), Authorization=f"Basic {desk.kitchen.text}")
    assert answer.status_code == 401
    [answer] = desk.hand_in(packed(), Authorization=f"bearer {desk.kitchen.text}")
    assert answer.status_code == 200


def test_a_revoked_token_is_worth_nothing_at_once(desk: Desk) -> None:
    desk.tokens.revoke("kitchen")
    assert desk.hand_in(packed())[0].status_code == 401


def test_what_is_too_large_or_none(desk: Desk) -> None:
    bomb = gzip.compress(b"\0" * (64 << 20), 9)
    codes = [answer.status_code for answer in desk.hand_in(bomb, b"\0" * (MOST_PACKED + 1), b"hello", b"")]
    assert codes == [413, 413, 400, 400]
    assert desk.counted() == {}


def test_a_device_that_comes_too_often_is_told_when(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.collect.pace.BURST", 2.0)
    answers = sorted(desk.hand_in(*[packed()] * 4), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_while_the_store_is_locked_nothing_is_acknowledged_and_nothing_lost(hasty_desk: Desk, tmp_path: Path) -> None:
    body = Packer().parcel(windows(1)).body
    holder = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    [answer] = hasty_desk.hand_in(body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "later")
    assert 30 <= int(answer.headers["retry-after"]) <= 61
    assert hasty_desk.get("/healthz").status_code == 503
    assert hasty_desk.said
    holder.close()
    assert hasty_desk.get("/healthz").status_code == 200
    assert hasty_desk.hand_in(body)[0].json()["new"] == 1


def test_other_doors_are_shut(desk: Desk) -> None:
    assert [desk.get(path).status_code for path in ("/", "/v1/windows", "/docs", "/v1/../x")] == [404, 405, 404, 404]


def test_no_answer_and_no_line_tells_a_token(desk: Desk) -> None:
    token = Token("kitchen", "s" * 43)
    [answer] = desk.hand_in(packed(), token=token.text)
    assert token.secret not in answer.text
    assert not desk.said


class TestPace:
    def test_a_burst_and_then_one_a_second(self) -> None:
        now = 0.0
        pace = Pace(lambda: now)
        assert [pace.wait_s("gate") for _ in range(int(BURST))] == [0] * int(BURST)
        assert pace.wait_s("gate") == pytest.approx(1)
        assert pace.wait_s("kitchen") == 0
        now = 1.0
        assert pace.wait_s("gate") == 0
        assert pace.wait_s("gate") > 0


@pytest.mark.parametrize(
    ("listen", "place"),
    [("8443", ("0.0.0.0", 8443)), ("127.0.0.1:80", ("127.0.0.1", 80)), ("[::]:8443", ("::", 8443))],
)
def test_where_it_listens(listen: str, place: tuple[str, int]) -> None:
    from edgekit.collect import serving

    assert serving.place(listen) == place
    for none in ("", "x", "0", "70000", "::1:80", "host"):
        with pytest.raises(ConfigError):
            serving.place(none)
