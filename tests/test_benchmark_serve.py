"""The benchmark of servers: that the load sees every wrong answer, and that costs are those of the whole tree."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serve import contest, promises, watch, wire
from benchmarks.serve.connection import Question
from benchmarks.serve.contest import Row, Served
from benchmarks.serve.load import put
from benchmarks.serve.task import SHAPE
from edgekit.errors import EdgekitError

Answer = Callable[[bytes], bytes]
DIALECT = wire.raw("/infer")
ROWS = [np.full(SHAPE, number, np.float32) for number in range(4)]


@contextmanager
def server(answer: Answer, head: str = "Content-Length: {}") -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.wfile.write(f"HTTP/1.1 200 OK\r\n{head.format(len(body))}\r\n\r\n".encode() + body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 32

    with Server(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made.server_port
        finally:
            made.shutdown()
            thread.join()


def first_ten(body: bytes) -> bytes:
    return body[:40]


def asked() -> list[Question]:
    return [Question(DIALECT.request(x), x.ravel()[:10]) for x in ROWS]


@pytest.mark.parametrize("number", [1, 8])
def test_every_request_gets_its_answer_and_a_time(number: int) -> None:
    with server(first_ten) as port:
        heard = put(port, DIALECT, asked(), (number, 0.1))
    assert len(heard.latencies_ms) >= number
    assert min(heard.latencies_ms) > 0
    assert heard.seconds >= 0.1


def test_chunked_answers_are_read() -> None:
    with server(lambda body: b"a\r\n" + body[:10] + b"\r\n1e\r\n" + body[10:40] + b"\r\n0\r\n\r\n", CHUNKED) as port:
        assert put(port, DIALECT, asked(), (2, 0.05)).latencies_ms


CHUNKED = "Transfer-Encoding: chunked"


def test_an_answer_in_pieces_is_whole_only_at_its_end() -> None:
    for got in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ):
        assert [wire.split(got[:end]) for end in range(len(got))] == [None] * len(got)
        assert wire.split(got) == (200, wire.split(got)[1], b"abc")  # type: ignore[index]


def test_an_answer_to_another_request_is_seen() -> None:
    mine = threading.local()

    def the_one_before(body: bytes) -> bytes:
        before = getattr(mine, "body", body)
        mine.body = body
        return before[:40]

    with server(the_one_before) as port, pytest.raises(EdgekitError, match="a wrong answer"):
        put(port, DIALECT, asked(), (1, 1.0))


def test_a_short_answer_is_wrong() -> None:
    with server(lambda body: body[:36]) as port, pytest.raises(EdgekitError, match="a wrong answer"):
        put(port, DIALECT, asked(), (1, 1.0))


def test_the_costs_are_those_of_the_whole_tree() -> None:
    burn = "import time\nends = time.process_time() + 0.3\nwhile time.process_time() < ends: pass\ntime.sleep(100)"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        try:
            deadline = time.monotonic() + 60
            while watch.cpu_s(process.pid) < 0.3 and time.monotonic() < deadline:
                time.sleep(0.02)
            assert len(watch.tree(process.pid)) == 2
            assert watch.cpu_s(process.pid) >= 0.3
            memory = watch.memory(process.pid)
            assert memory.rss > memory.pss > 1
        finally:
            for pid in reversed(watch.tree(process.pid)):
                subprocess.run(["kill", str(pid)], check=False)


def test_a_process_that_has_gone_costs_nothing() -> None:
    assert watch.memory(2**22 + 1) == watch.Memory(0, 0)
    assert watch.cpu_s(2**22 + 1) == 0


def row(name: str, per_s: float, **changes: Any) -> Row:
    served = {number: Served(per_s, 1.0, 1000 / per_s, 1.0) for number in contest.CONCURRENCIES}
    return Row(name, "raw bytes", served, **{"ready_s": 0.5, "pss": 50.0, "rss": 60.0, **changes})


def test_what_was_promised_is_against_the_best_of_the_others() -> None:
    slow, fast = row("slow", 100), row("fast", 300, ready_s=1.0, pss=80.0)
    kept = {each.name: each for each in promises.all_of(row("ours", 200, ready_s=0.4, pss=49.0), [slow, fast])}
    assert not kept["requests/s at 8"].kept
    assert kept["requests/s at 8"].told == "200; the best other, fast, 300"
    assert not kept["p99 at 1, ms"].kept
    assert all(kept[name].kept for name in ("memory (PSS), MiB", "ready before the others, s", "ready, s"))
    assert all(each.kept for each in promises.all_of(row("ours", 301, ready_s=0.4, pss=49.0), [slow, fast]))


def test_medians_are_over_the_rounds_and_a_failure_is_kept() -> None:
    rows = [row("a", per_s, ready_s=ready) for per_s, ready in ((100, 3.0), (300, 1.0), (200, 2.0))]
    assert contest.over_rounds(rows).served[8].per_s == 200
    assert contest.over_rounds(rows).ready_s == 2.0
    assert contest.over_rounds([*rows, Row("a", "raw bytes", error="gone")]).error == "gone"


def test_the_tensor_of_a_v2_answer_is_what_comes_after_its_json() -> None:
    assert wire.V2_BINARY.tensor({wire.LENGTH: "2"}, b"{}" + b"abcd") == b"abcd"
    assert wire.V2_BASE64.tensor({}, b'{"outputs":[{"data":[1.0]}]}') == np.float32(1).tobytes()
    request = wire.V2_BINARY.request(ROWS[1])
    head, _, body = request.partition(b"\r\n\r\n")
    size = int(head.split(b"Inference-Header-Content-Length: ")[1].split(b"\r\n")[0])
    assert body[size:] == ROWS[1].tobytes()
    assert Path(head.split()[1].decode()).name == "infer"
