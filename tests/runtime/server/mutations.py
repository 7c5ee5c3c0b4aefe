"""Requests that are whole, and what becomes of them when bytes change."""

from __future__ import annotations

import gzip
import random

TRITONCLIENT = (
    b"POST /v2/models/m/versions/1/infer?q=1+2 HTTP/1.1\r\nUser-Agent: python/gevent-http-client-2.6.1\r\n"
    b"Inference-Header-Content-Length: 145\r\nHost: 127.0.0.1:18020\r\nContent-Length: 110737\r\n\r\n"
)
CHUNKED = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def with_headers(*lines: bytes) -> bytes:
    return b"\r\n".join((b"POST /x HTTP/1.1", b"Host: a", *lines, b"", b""))


WHOLE = (
    TRITONCLIENT.replace(b"110737", b"11") + b"hello world" + TRITONCLIENT,
    CHUNKED + b"3;a\r\nabc\r\n1\r\nd\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n",
    with_headers(b"Content-Encoding: gzip", b"Content-Length: 31") + gzip.compress(b"hello world", mtime=0),
)


def mutated(data: bytes, seed: int) -> bytes:
    """A few bytes changed, doubled or gone."""
    dice, out = random.Random(seed), bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(out))
        out[at : at + dice.randint(0, 2)] = dice.choice((b"", b"\r", b"\n", b"\0", b" ", b",", b"0", dice.randbytes(2)))
    return bytes(out)
