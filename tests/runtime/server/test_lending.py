"""Lent connections: the worker answers its clients itself, and nobody can tell but by the time that it takes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.signing import Signer
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.manifest import EngineNeed
from edgekit_server import connections
from edgekit_server.connection import PROVEN, WARIER
from edgekit_server.counts import Counts
from edgekit_server.launch import Terms
from edgekit_server.page import GUESTS
from tests.runtime.bundles import APP, contents, go_live, write
from tests.runtime.server.halls import Hall, infer, opened, request
from tests.runtime.server.house import CRASH, GO, HANG, HELD, RAISE, SLOW, Got, House, install_moody, row, stopped

Open = Callable[..., House]
Made = Callable[..., Bundle]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker waits for the rest of a request as long as another one may take to start on a busy machine."""
    monkeypatch.setenv("MOODY_PATIENCE_S", "60")


@pytest.fixture
def hall(home: Path, moody: Made, open_house: Open) -> Iterator[Hall]:
    """For those who do something to the worker."""
    go_live(moody(2), home)
    house = open_house()
    house.ready()
    with opened(house) as one:
        yield one


@pytest.fixture(scope="module")
def one_hall(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Iterator[Hall]:
    place = tmp_path_factory.mktemp("hall")
    home = place / "home"
    (home / "trust").mkdir(parents=True)
    (home / "trust" / "allowed_signers").write_text(f"{signer.allowed_line()}\n")
    bundle = write(place / "bundle", signer, contents(2, engines=(EngineNeed("moody", threads=2),)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_HOME", str(home))
        patch.setenv("PYTHONPATH", str(install_moody(place / "site")))
        go_live(bundle, home)
        with closing(House(home, Terms(home))) as house:
            house.ready()
            with opened(house) as one:
                yield one


@pytest.fixture
def calm(one_hall: Hall) -> Iterator[Hall]:
    """For those who leave the worker as it is."""
    yield one_hall
    one_hall.clear()


def right(got: Got, x: np.ndarray, times: int = 2) -> bool:  # type: ignore[type-arg]
    return got.status == 200 and np.array_equal(got.y, x[:, :3] * times)


def counted(hall: Hall) -> Counts:
    return hall.house.residents.find(APP).counts


def whole(hall: Hall) -> int:
    return counted(hall).times["success"]


def runs(counts: Counts) -> int:
    return sum(run.times["compute_infer"] for run in counts.runs.values())


class TestSameAsBefore:
    def test_answers_and_counts(self, calm: Hall) -> None:
        before, guest = counted(calm), calm.guest(row(1.0))
        for number in range(30):
            x = row(float(number), 1 + number % 3 // 2)  # now and then another head
            assert right(guest.ask(x), x)
            assert whole(calm) == before.times["success"] + number + 3
        after = counted(calm)
        assert (calm.lent(), after.statuses[200] - before.statuses.get(200, 0)) == (1, 32)
        assert (runs(after) - runs(before), sum(after.buckets) - sum(before.buckets)) == (32, 32)
        assert f'outcome="success",status="200"}} {after.statuses[200]}'.encode() in guest.get("/metrics").body

    def test_json_and_the_other_dialect(self, calm: Hall) -> None:
        guest = calm.guest(row(1.0))
        guest.send(request(json.dumps({"instances": row(3.0).tolist()}).encode(), path=f"/v1/models/{APP}:predict"))
        got = guest.answer()
        assert (got.document, got.headers["Content-Type"]) == ({"predictions": [[6, 2, 4]]}, "application/json")
        assert guest.ask(row(1.0), path=f"/v2/models/{APP}/versions/2/infer").status == 200
        assert calm.lent() == 1

    def test_what_cannot_be_taken_and_what_breaks(self, calm: Hall) -> None:
        before = counted(calm)
        guest = calm.guest(row(1.0))
        for body, length in ((b"{", None), (b"{}", 900), (row(1.0).tobytes()[:-1], 0), (b"", None)):
            guest.send(request(body, length))
            assert guest.answer().status == 400
        assert guest.ask(row(RAISE)).error == "RuntimeError in the worker; its log tells more"
        after = counted(calm)
        assert (calm.lent(), after.times["fail"] - before.times["fail"]) == (1, 5)
        assert [after.statuses[status] - before.statuses.get(status, 0) for status in (200, 400, 500)] == [2, 4, 1]

    def test_those_that_wait_share_a_run_and_have_deadlines(self, calm: Hall) -> None:
        guests = [calm.guest(row(1.0)) for _ in range(8)]
        before = runs(counted(calm))
        hasty = calm.client()
        with stopped(calm.worker()):  # as while the model runs
            guests[0].send(infer(row(SLOW)))
            for number, guest in enumerate(guests[1:]):
                guest.send(infer(row(float(number))))
            hasty.send(infer(row(1.0), timeout=1000))
            calm.house.until(lambda: calm.worker().asked)
            time.sleep(0.01)
        for number, guest in enumerate(guests[1:]):
            assert right(guest.answer(), row(float(number)))
        assert guests[0].answer().status == 200
        assert hasty.answer().status == 504
        assert runs(counted(calm)) - before < 6

    def test_a_request_in_pieces_and_two_at_once(self, calm: Hall) -> None:
        guest, data = calm.guest(row(1.0)), infer(row(7.0))
        for size in (1, 50, len(data) - 3):
            for at in range(0, len(data), size):
                guest.send(data[at : at + size])
                calm.house.loop.turn(False)
            assert right(guest.answer(), row(7.0))
        guest.send(data + infer(row(8.0)) + data[:60])
        assert right(guest.answer(), row(7.0))
        assert right(guest.answer(), row(8.0))
        guest.send(data[60:])
        assert right(guest.answer(), row(7.0))
        assert calm.lent() == 1

    def test_answers_that_are_read_slowly(self, calm: Hall) -> None:
        """More than the sockets take; the worker does not wait for it."""
        guest, other = calm.guest(row(1.0)), calm.guest(row(1.0))
        x = np.ones((4000, 4), np.float32)
        for _ in range(60):
            guest.send(infer(x))
        assert right(other.ask(row(1.0)), row(1.0))
        for _ in range(60):
            assert right(guest.answer(), x)


class TestBackToTheFront:
    def test_for_anything_else(self, calm: Hall) -> None:
        guest = calm.guest(row(1.0))
        assert guest.get(f"/v2/models/{APP}").document["name"] == APP
        assert calm.lent() == 0
        for number in range(PROVEN * WARIER):
            assert calm.lent() == 0
            assert right(guest.ask(row(float(number))), row(float(number)))
        calm.house.until(calm.lent)
        guest.send(infer(row(1.0)) + request(b"", path="/v2", method="GET") + infer(row(2.0)))
        assert right(guest.answer(), row(1.0))
        assert guest.answer().document["name"] == "edgekit-runtime"
        assert right(guest.answer(), row(2.0))

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"rubbish\r\n\r\n", 400),
            (b"GET /" + b"x" * 20000, 431),
            (request(b"", None, "Transfer-Encoding: chunked"), 400),
            (infer(row(1.0), "Origin: https://example.org"), 403),
            (infer(row(1.0)).replace(b"Host: [::1]", b"Host: evil.example"), 421),
            (infer(row(1.0), path=f"/v2/models/{APP}/versions/9/infer"), 404),
            (infer(row(1.0), path="/v2/models/other/infer"), 404),
            (request(b"x", None, "Content-Encoding: br"), 415),
        ],
    )
    def test_what_is_to_be_refused(self, calm: Hall, data: bytes, status: int) -> None:
        guest = calm.guest(row(1.0))
        guest.send(data)
        assert guest.answer().status == status
        assert calm.lent() == 0

    def test_a_token(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house = open_house(token="secret")
        house.ready()
        with opened(house, "secret") as calm:
            guest = calm.guest(row(1.0), "Authorization: Bearer secret")
            assert guest.ask(row(1.0), "Authorization: Bearer secret").status == 200
            assert calm.lent() == 1
            for wrong in ("Authorization: Bearer other", "A: b"):
                assert guest.ask(row(1.0), wrong).status == 401

    def test_more_than_there_are_places_for(self, calm: Hall) -> None:
        clients = [calm.client() for _ in range(GUESTS + 4)]
        for number in range(4):
            for client in clients:
                client.send(infer(row(float(number))))
            assert all(right(client.answer(), row(float(number))) for client in clients)
        assert calm.lent() == GUESTS
        for client in clients[:10]:
            client.socket.close()
        calm.house.until(lambda: len(calm.connections.open) == GUESTS - 6)

    def test_who_hangs_up_leaves_nothing_behind(self, calm: Hall) -> None:
        calm.guest(row(1.0)).socket.close()
        calm.house.until(lambda: not calm.connections.open)
        files = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), calm.worker().pid)]
        for number in range(6):
            guest = calm.guest(row(1.0))
            guest.send((b"", infer(row(1.0))[:70], infer(row(SLOW)))[number % 3])
            guest.socket.close()
            calm.house.until(lambda: not calm.connections.open)
        assert [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), calm.worker().pid)] <= files
        calm.house.until(lambda: not calm.worker().busy)

    @pytest.mark.slow
    def test_a_client_that_is_too_slow(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house = open_house()
        house.ready()
        with opened(house) as calm:
            guest = calm.guest(row(1.0))
            began = time.monotonic()
            guest.send(infer(row(1.0))[:-1])
            assert guest.answer().status == 408
            assert 3 < time.monotonic() - began < 5 + 2 * connections.LOOK_S
            calm.house.until(lambda: guest.next() or guest.ended)
            calm.house.until(lambda: not calm.lent())


class TestSwap:
    def test_nobody_is_dropped_or_gets_another_ones_answer(self, hall: Hall, home: Path, moody: Made) -> None:
        guests = [hall.guest(row(1.0)) for _ in range(6)]
        go_live(moody(3), home)
        seen, number = set(), 0
        while seen != {"3"} or number < 20:
            number += 1
            for guest in guests:
                guest.send(infer(row(float(number))))
            got = [guest.answer() for guest in guests]
            seen = {each.document["model_version"] for each in got}
            assert all(right(each, row(float(number)), int(each.document["model_version"])) for each in got)
        hall.house.until(lambda: hall.lent() == 6 and len(hall.house.residents.find(APP).workers) == 1)

    @pytest.mark.usefixtures("patient")
    @pytest.mark.parametrize("rows", [1, 4080])
    def test_what_has_come_halfway_is_not_lost(self, hall: Hall, home: Path, moody: Made, rows: int) -> None:
        x = np.ones((rows, 4), np.float32)
        hall.connections.limits = replace(hall.connections.limits, patience_s=60.0)
        guest, idle, before = hall.guest(x), hall.guest(x), hall.worker()
        data = infer(x)
        guest.send(data[:-5])
        hall.house.until(lambda: before.busy)
        assert before.waiting == 0
        go_live(moody(3), home)
        hall.house.until(lambda: before.ended)
        assert (before.error, hall.lent()) == ("", 0)
        guest.send(data[-5:])
        assert right(guest.answer(), x, 3)
        assert right(idle.ask(x), x, 3)

    def test_unloaded_with_something_under_way(self, hall: Hall, site: Path) -> None:
        guest, idle, before = hall.guest(row(1.0)), hall.guest(row(1.0)), hall.worker()
        guest.send(infer(row(HELD)) + infer(row(1.0)))
        hall.house.until(lambda: before.waiting)
        hall.house.residents.find(APP).unload("")
        (site / GO).touch()
        assert right(guest.answer(), row(HELD))
        assert right(guest.answer(), row(1.0))  # by the next one, which is loaded for it
        assert right(idle.ask(row(1.0)), row(1.0))
        assert before.ended

    def test_the_end(self, hall: Hall, site: Path) -> None:
        guest, idle, ended = hall.guest(row(1.0)), hall.guest(row(1.0)), list[bool]()
        guest.send(infer(row(HELD)))
        hall.house.until(lambda: hall.worker().waiting)
        hall.house.residents.recall()
        hall.connections.end(lambda: ended.append(True))
        (site / GO).touch()
        assert right(guest.answer(), row(HELD))
        hall.house.until(lambda: ended and (guest.next() or guest.ended) and (idle.next() or idle.ended))

    def test_who_was_asked_on_lent_connections_was_used(self, hall: Hall) -> None:
        guest, resident = hall.guest(row(1.0)), hall.house.residents.find(APP)
        before = resident.used_s
        guest.ask(row(1.0))
        assert before < resident.used_s <= time.monotonic()


class TestTrouble:
    def test_killed_from_outside(self, hall: Hall) -> None:
        """Who has nothing under way does not notice; who has sent half a request is told to come again."""
        idle, reading, before = hall.guest(row(1.0)), hall.guest(row(1.0)), hall.worker()
        reading.send(infer(row(1.0))[:-1])
        hall.house.until(lambda: before.busy)
        counted = whole(hall)
        os.kill(before.pid, signal.SIGKILL)
        got = reading.answer()
        assert (got.status, got.headers["Retry-After"]) == (503, "1")
        assert "SIGKILL" in got.error
        assert right(idle.ask(row(5.0)), row(5.0))
        assert hall.worker() is not before
        assert whole(hall) == counted + 1
        hall.house.until(lambda: reading.next() or reading.ended)

    @pytest.mark.parametrize(("omen", "timeout_s", "status"), [(CRASH, 60.0, 500), (HANG, 2.0, 504)])
    def test_a_kernel_takes_its_process(
        self, home: Path, moody: Made, open_house: Open, omen: float, timeout_s: float, status: int
    ) -> None:
        go_live(moody(2), home)
        house = open_house(timeout_s=timeout_s)
        with opened(house) as hall:
            house.ready()
            (first, waits, idle), worker = (hall.guest(row(1.0)) for _ in range(3)), house.ready()
            first.send(infer(row(omen)))
            house.until(lambda: worker.waiting or worker.ended)
            waits.send(infer(row(1.0, 2)))
            assert first.answer().status == status
            got = waits.next() or waits.answer()
            assert got.status in (status, 503, 200)  # in the same run, read but not in one, or not even read
            house.ready()
            assert right(idle.ask(row(2.0)), row(2.0))
            counts = counted(hall)
            assert counts.statuses[status] >= 1
            assert counts.times["fail"] >= 1

    @pytest.mark.slow
    def test_an_idle_worker_is_not_taken_to_hang(self, home: Path, moody: Made, open_house: Open) -> None:
        go_live(moody(2), home)
        house = open_house(timeout_s=2.0)
        before = house.ready()
        with opened(house) as hall:
            guest, end = hall.guest(row(1.0)), time.monotonic() + 5.0
            house.until(lambda: time.monotonic() > end)
            assert right(guest.ask(row(1.0)), row(1.0))
            assert house.ready() is before

    @pytest.mark.slow
    def test_killed_at_any_moment(self, hall: Hall) -> None:
        """Everybody gets the right answer, or is told that it failed, or the connection ends."""
        x = np.arange(16_000, dtype=np.float32).reshape(-1, 4) / 1e6
        told = {200: 0, 500: 0, 503: 0, 0: 0}
        for number in range(40):
            guests = [hall.guest(x) for _ in range(3)]
            began = time.monotonic()
            assert right(guests[0].ask(x), x)
            until = time.monotonic() + number / 20 * (time.monotonic() - began)  # up to twice what one takes
            for guest in guests:
                guest.socket.send(infer(x))
            while time.monotonic() < until:
                hall.house.loop.turn(False)
            hall.house.residents.find(APP).failures = 0  # no pause between them
            os.kill(hall.worker().pid, signal.SIGKILL)
            for guest in guests:
                got: list[Got] = []
                hall.house.until(
                    lambda guest=guest, got=got: got.extend(filter(None, [guest.next()])) or got or guest.ended
                )
                told[got[0].status if got else 0] += 1
                assert not got or got[0].status != 200 or right(got[0], x)
                guest.socket.close()
            hall.house.until(lambda: not hall.connections.open)
        print(told)
        assert told[200] > 3
        assert told[0] < 20
