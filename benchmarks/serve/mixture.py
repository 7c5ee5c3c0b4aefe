"""Mixture: what comes to a server over a day: right questions, wrong ones, and clients that leave midway."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from benchmarks.serve.connection import Question
from benchmarks.serve.load import put
from benchmarks.serve.task import NAME
from benchmarks.serve.wire import V2_BINARY
from edgekit.errors import EdgekitError

INFER = f"/v2/models/{NAME}/infer"
TIMEOUT_S = 10.0
REFUSED: tuple[tuple[str, str, bytes, dict[str, str], int], ...] = (
    ("POST", INFER, b"{", {}, 400),
    (
        "POST",
        INFER,
        json.dumps({"inputs": [{"name": "x", "shape": [-1], "datatype": "FP32", "data": []}]}).encode(),
        {},
        400,
    ),
    ("POST", INFER, b"[" * 20_000, {}, 400),
    ("POST", INFER, gzip.compress(bytes(96 << 20), 1), {"Content-Encoding": "gzip"}, 413),
    ("POST", INFER, b"x", {"Content-Encoding": "br"}, 415),
    ("POST", INFER, b"", {"Content-Length": "-1"}, 400),
    ("GET", "/v2/models/other", b"", {}, 404),
    ("PUT", "/v2", b"", {}, 405),
    ("GET", "/v2", b"", {"Host": "elsewhere.example"}, 421),
)
"""Method, path, body, headers, and the status that belongs to it."""
ASKED = ("/v2", f"/v2/models/{NAME}", f"/v2/models/{NAME}/stats", "/v2/health/ready", "/metrics")


def turn(port: int, asked: Sequence[Question], seconds: float) -> Counter[str]:
    """All of it once, right questions for so long; how much of each. Raises: EdgekitError for a wrong answer."""
    done = Counter(right=len(put(port, V2_BINARY, asked, (4, seconds)).latencies_ms))
    for path in ASKED:
        done["told"] += _expect(port, ("GET", path, b"", {}, 200))
    for wrong in REFUSED:
        done["refused"] += _expect(port, wrong)
    for question in asked:
        done["left"] += _leave(port, question.request)
    return done


def _expect(port: int, request: tuple[str, str, bytes, dict[str, str], int]) -> int:
    method, path, body, headers, status = request
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        client.request(method, path, body, headers)
        answer = client.getresponse()
        text = answer.read()
    finally:
        client.close()
    if answer.status != status:
        raise EdgekitError(f"{method} {path} answered {answer.status}, not {status}: {text[:200]!r}")
    return 1


def _leave(port: int, request: bytes) -> int:
    """At every place of a request there is one who leaves at once, and one who only says no more. So many."""
    places = (0, 20, 300, len(request) // 2, len(request))
    for end in places:
        for at_once in (True, False):
            with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as client, suppress(ConnectionError):
                client.sendall(request[:end])
                if at_once:  # an RST instead of a FIN: socket(7)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return 2 * len(places)
