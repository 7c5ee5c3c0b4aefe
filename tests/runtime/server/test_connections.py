"""Clients of the front, the good ones and the others, over real sockets."""

from __future__ import annotations

import contextlib
import gzip
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

import pytest

from edgekit_server import connection
from edgekit_server.connections import Limits
from edgekit_server.http import Head, Refused, Response
from tests.runtime.server.fronts import LARGE, Front, answer, error, front, request, within
from tests.runtime.server.mutations import WHOLE, mutated

SHORT = Limits(patience_s=0.1, reader_s=0.1)


@pytest.fixture(scope="module")
def plain() -> Iterator[Front]:
    with front() as one:
        yield one


@pytest.fixture
def client(plain: Front) -> Iterator[socket.socket]:
    with plain.client() as one:
        yield one


def test_a_request_and_the_next_one(plain: Front, client: socket.socket) -> None:
    body = bytes(range(256)) * 432
    for path in ("/echo/a?b=c", "/later/d", "/echo/e"):
        client.sendall(request(path, body, "X-Mine:  y "))
        status, headers, answered = answer(client)
        assert (status, answered) == (200, path.partition("?")[0].encode() + body)
        assert "connection" not in headers
    assert plain.asked[-3].query == "b=c"
    assert plain.asked[-1].headers["x-mine"] == "y"
    assert plain.asked[-1].peer == "127.0.0.1"


def test_nothing_waits_for_a_full_segment(plain: Front, client: socket.socket) -> None:
    client.sendall(request("/echo"))
    answer(client)
    [accepted] = plain.connections.open
    assert accepted._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_unix_socket(tmp_path: Path) -> None:
    with front(path=tmp_path / "s") as one, one.client() as client:
        client.sendall(request("/echo", b"abc"))
        assert answer(client)[2] == b"/echoabc"
        assert one.asked[0].peer == "unix"
        with socket.socket(socket.AF_UNIX) as named:
            named.bind(str(tmp_path / "mine"))
            named.connect(one.address)
            named.sendall(request("/echo"))
            assert answer(named)[1]["x-peer"] == "unix"


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pieces_are_one_request(client: socket.socket, size: int) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = request("/echo", b"0123456789")
    for at in range(0, len(data), size):
        client.sendall(data[at : at + size])
    assert answer(client)[2] == b"/echo0123456789"


def test_answers_come_in_the_order_of_the_requests(client: socket.socket) -> None:
    paths = [f"/{('echo', 'later', 'refused', 'broken')[n % 4]}/{n}" for n in range(200)]
    bodies = [b"x" * (n % 90) for n in range(200)]
    thread = threading.Thread(target=client.sendall, args=(b"".join(map(request, paths, bodies)),))
    thread.start()
    for path, body in zip(paths, bodies, strict=True):
        status, _, answered = answer(client)
        if path.startswith(("/echo", "/later")):
            assert (status, answered) == (200, path.encode() + body)
        else:
            assert status == (409 if "refused" in path else 500)
    thread.join()


def test_large_bodies_that_follow_one_another(client: socket.socket) -> None:
    body = bytes(range(256)) * 8192
    thread = threading.Thread(target=client.sendall, args=(request("/echo", body) * 4,))
    thread.start()
    for _ in range(4):
        assert answer(client)[2] == b"/echo" + body
    thread.join()


def test_a_program_that_breaks_is_answered_and_goes_on(
    client: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    client.sendall(request("/broken") + request("/refused"))
    assert answer(client)[::2] == (500, b'{"error":"internal error"}')
    status, headers, body = answer(client)
    assert (status, headers["retry-after"], body) == (409, "7", b'{"error":"as asked"}')
    assert "as asked" in capfd.readouterr().err


def test_a_client_that_has_said_everything_gets_its_answer(client: socket.socket) -> None:
    client.sendall(request("/later"))
    client.shutdown(socket.SHUT_WR)
    assert answer(client)[2] == b"/later"
    assert not client.recv(1)


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"GET /echo HTTP/1.0\r\n\r\n", "close"),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "close"),
        (b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive"),
    ],
)
def test_the_client_says_whether_there_will_be_more(client: socket.socket, head: bytes, word: str) -> None:
    client.sendall(head)
    assert answer(client)[1]["connection"] == word
    if word == "close":
        assert not client.recv(1)
    else:
        client.sendall(head)
        assert answer(client)[0] == 200


def test_head_has_no_body(client: socket.socket) -> None:
    client.sendall(request("/echo", method="HEAD") + request("/echo/b"))
    assert answer(client, "HEAD")[1]["content-length"] == "5"
    assert answer(client)[2] == b"/echo/b"


def test_more_parts_than_one_call_takes(client: socket.socket) -> None:
    client.sendall(request("/parts"))
    assert answer(client)[2] == b"x" * 3000


def test_a_client_that_waits_to_be_told_to_go_on(client: socket.socket) -> None:
    head = request("/echo", b"abc", "Expect: 100-Continue")[:-3]
    client.sendall(head)
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"a")
    time.sleep(0.05)
    client.sendall(b"bc")
    assert answer(client)[2] == b"/echoabc"
    client.sendall(head + b"abc")  # it has not waited
    assert answer(client)[2] == b"/echoabc"


def test_a_body_in_chunks(client: socket.socket) -> None:
    client.sendall(request("/echo", b"", "Transfer-Encoding: chunked", "Expect: 100-continue"))
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (n, b"x" * n) for n in range(1, 500))
    client.sendall(chunks + b"0\r\nA: b\r\n\r\n" + request("/echo/next"))
    assert answer(client)[2] == b"/echo" + b"x" * sum(range(500))
    assert answer(client)[2] == b"/echo/next"


def test_a_compressed_body(client: socket.socket) -> None:
    body = bytes(range(256)) * 8192
    client.sendall(request("/echo", gzip.compress(body), "Content-Encoding: gzip") + request("/echo/next"))
    assert answer(client)[2] == b"/echo" + body
    assert answer(client)[2] == b"/echo/next"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
        (b"GET / HTTP/1.1\n\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /" + b"x" * 20000, 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000, 431),
        (request("/", b"abc", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + request("/smuggled"), 400),
        (request("/", b"", "Transfer-Encoding: chunked") + b"x\r\n", 400),
        (request("/", b"", "Content-Length: 99999999999"), 413),
        (request("/", b"x", "Content-Encoding: gzip"), 400),
        (request("/", b"x", "Content-Encoding: br"), 415),
        (request("/", b"x", "Expect: much"), 417),
        (request("/", gzip.compress(bytes(80 << 20), 1), "Content-Encoding: gzip"), 413),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_and_the_connection_ends(
    plain: Front, client: socket.socket, data: bytes, status: int
) -> None:
    before, asked = plain.connections.refused, len(plain.asked)
    client.sendall(data)
    assert error(client) == status
    assert (plain.connections.refused, len(plain.asked)) == (before + 1, asked)


def test_a_client_can_read_why_while_it_still_sends(client: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER_S", 60.0)  # however slow this machine is
    head = request("/echo", b"", f"Content-Length: {65 << 20}")

    def send() -> None:
        with contextlib.suppress(OSError):
            client.sendall(head + bytes(24 << 20))

    thread = threading.Thread(target=send)
    thread.start()
    time.sleep(0.1)
    assert answer(client)[0] == 413
    client.shutdown(socket.SHUT_WR)
    thread.join()


def test_who_may_not_ask_brings_no_body() -> None:
    def most(head: Head) -> int:
        if head.headers.get("authorization") != "Bearer t":
            raise Refused(401, "a token is needed", {"WWW-Authenticate": "Bearer"})
        return 3

    with front(Limits(body=most)) as one:
        with one.client() as client:
            client.sendall(request("/echo", b"abc", "Expect: 100-continue")[:-3])
            assert error(client) == 401
        with one.client() as client:
            client.sendall(request("/echo", method="HEAD"))
            assert answer(client, "HEAD")[0] == 401
            assert not client.recv(1)
        with one.client() as client:
            client.sendall(request("/echo", b"abc", "Authorization: Bearer t"))
            assert answer(client)[2] == b"/echoabc"
            client.sendall(request("/echo", b"abcd", "Authorization: Bearer t"))
            assert error(client) == 413


def test_all_bodies_together_have_a_limit_and_it_is_given_back() -> None:
    with front(Limits(held=1_000_000)) as one, one.client() as first, one.client() as second, one.client() as third:
        first.sendall(request("/held", bytes(900_000)))
        within(60, lambda: one.held)
        second.sendall(request("/echo", bytes(200_000)))
        assert error(second) == 503
        one.call(lambda: one.held.pop()(Response(200)))
        assert answer(first)[0] == 200
        third.sendall(request("/held", bytes(900_000)))
        within(60, lambda: one.held)
        third.close()
        one.call(lambda: one.held.pop()(Response(200)))
        first.sendall(request("/echo", bytes(990_000)))
        assert answer(first)[0] == 200


@pytest.mark.parametrize(
    "start", [b"GET / HT", request("/echo", b"x" * 9999)[:-9990], request("/echo", b"", "Transfer-Encoding: chunked")]
)
@pytest.mark.parametrize("drips", [False, True])
def test_a_request_that_does_not_come_is_refused(start: bytes, drips: bool) -> None:
    with front(SHORT) as one, one.client() as client:
        began = time.monotonic()
        client.sendall(start)
        client.settimeout(0.02)
        while True:
            try:
                assert client.recv(1, socket.MSG_PEEK)
                break
            except TimeoutError:
                if drips:
                    client.sendall(b"1")
        client.settimeout(60)
        assert error(client) == 408
        assert 0.08 < time.monotonic() - began < Limits().patience_s  # by the limits of this front, not the usual ones
        assert not one.asked


def test_a_request_that_is_slow_but_comes_is_served() -> None:
    """It takes more than its patience, of which each piece gives some back; by a clock that only the test moves on."""
    now = [0.0]
    with front(Limits(patience_s=0.4, rate=50_000), clock=lambda: now[0]) as one, one.client() as client:
        data = request("/echo", bytes(40_000))
        for at in range(0, len(data), 5000):
            client.sendall(data[at : at + 5000])
            one.turns(2)
            now[0] += 0.06
            one.turns(2)
        assert now[0] > 0.4
        assert answer(client)[0] == 200


def test_who_is_idle_or_waits_for_us_is_left_in_peace() -> None:
    with front(SHORT) as one, one.client() as idle, one.client() as waits:
        idle.sendall(request("/echo") + b"\r\n")  # old browsers sent one more
        answer(idle)
        waits.sendall(request("/held") + request("/echo/next"))
        within(60, lambda: one.held)
        time.sleep(0.3)
        one.call(lambda: one.held.pop()(Response(200)))
        assert answer(waits)[0] == 200
        assert answer(waits)[2] == b"/echo/next"
        idle.sendall(request("/echo"))
        assert answer(idle)[0] == 200


def test_a_client_that_is_gone_has_no_answer_and_hurts_nobody() -> None:
    with front() as one, one.client() as other:
        with one.client() as client:
            client.sendall(request("/held", b"abc") + request("/echo"))
            within(60, lambda: one.held)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # it ends with a reset
        one.call(lambda: one.held.pop()(Response(200, {}, (bytes(LARGE),))))
        within(60, lambda: len(one.connections.open) == 1)
        other.sendall(request("/echo"))
        assert answer(other)[0] == 200


def test_an_answer_that_is_read_slowly_is_whole_and_its_place_was_free_at_once() -> None:
    with front() as one, one.client() as client:
        client.sendall(request("/large") + request("/echo/next"))
        within(60, lambda: one.large[0] == ord("x"))
        status, _, body = answer(client)
        assert (status, body) == (200, b"large" + bytes(LARGE))
        assert answer(client)[2] == b"/echo/next"


def test_an_answer_that_is_not_read_goes_with_its_client() -> None:
    with front(SHORT) as one, one.client() as client:
        client.sendall(request("/large"))
        within(60, lambda: one.asked)
        within(60, lambda: not one.connections.open)


def test_an_answer_for_which_there_is_no_room_goes_with_its_client() -> None:
    with front(Limits(held=1_000_000)) as one, one.client() as client:
        client.sendall(request("/large"))
        within(60, lambda: one.asked and not one.connections.open)


def test_the_one_that_has_been_idle_longest_goes_when_there_are_too_many() -> None:
    with front(Limits(connections=3)) as one, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(one.client()) for _ in range(3)]
        for client in reversed(clients):  # the last one has been idle the longest
            client.sendall(request("/echo"))
            answer(client)
        more = stack.enter_context(one.client())
        assert not clients[2].recv(1)
        for client in (*clients[:2], more):
            client.sendall(request("/held"))
        within(60, lambda: len(one.held) == 3)
        with one.client() as refused:
            assert error(refused) == 503
        one.call(lambda: [reply(Response(200)) for reply in one.held])
        assert [answer(client)[0] for client in (*clients[:2], more)] == [200] * 3


def test_few_descriptors_are_few_connections() -> None:
    script = """
import contextlib, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
from tests.runtime.server.fronts import answer, front, request
with front() as one, contextlib.ExitStack() as stack:
    clients = [stack.enter_context(one.client()) for _ in range(100)]
    clients[-1].sendall(request("/echo"))
    print(answer(clients[-1])[0], len(one.connections.open))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["200", str(300 - 256)]


def test_no_descriptors_left_is_no_end() -> None:
    script = """
import contextlib, os, resource, time
from tests.runtime.server.fronts import answer, front, request
with front() as one, contextlib.ExitStack() as stack:
    for _ in range(2):
        stack.enter_context(one.client()).sendall(request("/held"))
    while len(one.held) < 2: time.sleep(0.01)
    soft = len(os.listdir("/proc/self/fd")) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    third = stack.enter_context(one.client())  # takes the last one
    third.sendall(request("/echo"))
    began = time.process_time()
    time.sleep(0.3)
    print(time.process_time() - began < 0.15, end=" ")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft + 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    print(answer(third)[0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "200"], done.stderr


def test_the_end_answers_who_has_asked_and_takes_no_more() -> None:
    with front() as one, one.client() as idle, one.client() as waits, one.client() as sends:
        idle.sendall(request("/echo"))
        answer(idle)
        waits.sendall(request("/held"))
        sends.sendall(request("/echo", b"abc")[:-1])
        within(60, lambda: one.held and len(one.connections.idle) == 1)
        ended = threading.Event()
        one.call(lambda: one.connections.end(ended.set))
        assert not idle.recv(1)
        with pytest.raises(ConnectionRefusedError):
            one.client()
        sends.sendall(b"c")
        assert answer(sends)[1]["connection"] == "close"
        assert not ended.is_set()
        one.call(lambda: one.held.pop()(Response(200)))
        assert answer(waits)[1]["connection"] == "close"
        assert ended.wait(60)


def spent(client: socket.socket, count: int) -> float:
    """The 99th percentile of this many requests, in seconds of the processor, of which other programs take none.

    Of all threads here: what the client waits for, the server or a client beside it computes.
    """
    data, times = request("/echo", bytes(10_000)), []
    for _ in range(count):
        began = time.process_time()
        client.sendall(data)
        answer(client)
        times.append(time.process_time() - began)
    return quantiles(times, n=100)[98]


def test_a_thousand_that_say_nothing_cost_nothing() -> None:
    with front(look_s=1.0) as one, one.client() as client, contextlib.ExitStack() as stack:
        spent(client, 50)
        for _ in range(1000):
            stack.enter_context(one.client())
        within(60, lambda: len(one.connections.open) == 1001)
        assert spent(client, 200) < 0.3
        assert one.connections._held == 0


@pytest.mark.slow
def test_the_worst_clients_keep_nobody_waiting() -> None:
    """Of what is computed while a client waits for one answer, all of them at once get half a second at most."""
    bomb = gzip.compress(bytes(60 << 20), 1)
    bad = (
        request("/echo", bomb, "Content-Encoding: gzip"),
        request("/echo", b"", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 200_000 + b"0\r\n\r\n",
        request("/echo") * 5000,
        request("/echo", b"", "Content-Length: 67108864") + bytes(1 << 20),
    )
    with front() as one, one.client() as client:
        stop = threading.Event()

        def attack(data: bytes) -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError), one.client() as each:
                    each.settimeout(0.5)
                    each.sendall(data)
                    each.recv(1)

        threads = [threading.Thread(target=attack, args=(data,)) for data in bad]
        for thread in threads:
            thread.start()
        worst = spent(client, 300)
        stop.set()
        for thread in threads:
            thread.join()
        assert worst < 0.5
        assert spent(client, 10) < 0.5


@pytest.mark.slow
def test_ten_thousand_mutations_are_answered_or_cut(plain: Front) -> None:
    for seed in range(10_000):
        with plain.client() as client:
            client.sendall(mutated(WHOLE[seed % len(WHOLE)], seed))
            client.shutdown(socket.SHUT_WR)
            while client.recv(1, socket.MSG_PEEK):
                status, headers, body = answer(client)
                assert status == 200 or (headers["content-type"] == "application/json" and b'{"error":' in body)
    within(60, lambda: not plain.connections.open)
    assert plain.connections._held == 0
