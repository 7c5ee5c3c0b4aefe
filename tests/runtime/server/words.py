"""Words that lies are made of: values, sizes, lines and pieces of JSON that no honest client sends."""

from __future__ import annotations

from tests.runtime.bundles import APP
from tests.runtime.server.house import LENGTH

INFER, PREDICT = f"/v2/models/{APP}/infer", f"/v1/models/{APP}:predict"
INFINITE, NAN = float("inf"), float("nan")

# In JSON
NUMBERS = (-1, 0, 1, 5, 1.5, 2**31, 2**32 + 1, 2**62, 2**63, 2**64, 10**400, 1e308, NAN, True, None, "4", [], [4], {})
LISTS = ([[]], [1, [2]], [[1, 2, 3, 4], [1]], [None] * 4, [INFINITE] * 4)
VALUES = (*NUMBERS, *LISTS, INFINITE, "", "x" * 300, "\ud800", "\0")
SHAPES = ([], [4], [0, 4], [-1, 4], [2**62, 4], [2**63] * 2, [1] * 33, [1, 4.0], ["1", 4], [4, 1], [65536] * 2, None)
PIECES = (*b'[ ] { } , : " - NaN 1e999 null \xff \\u0000'.split(), b"9" * 5000, b"[" * 900)

# In heads, as Latin-1
LENGTHS = (
    *("-1", "0", "1", "70000", "4294967297", "99999999999999999999"),
    *("+5", "0x10", "5, 5", "5,6", "", " ", "1e3", "1_0", "\xd9\xa3"),
)
CODINGS = ("chunked", "Chunked", "chunked, chunked", "gzip", "gzip, chunked", "identity")
LINES = (
    *(f"Content-Length: {each}" for each in LENGTHS),
    *(f"{LENGTH}: {each}" for each in LENGTHS),
    *(f"Transfer-Encoding: {each}" for each in CODINGS),
    *(f"Content-Encoding: {each}" for each in ("gzip", "deflate", "br", "gzip, gzip", "x-gzip", "identity", "\xff")),
    *(f"Expect: {each}" for each in ("100-continue", "200-ok", "")),
    *(f"Connection: {each}" for each in ("close", "keep-alive", "upgrade", "close, close", "Content-Length")),
    *(f"Host: {each}" for each in ("a", "[::1]", "evil.example", "a b", "")),
    *(f"X-Request-Id: {each}" for each in ("\x7f", "x" * 9000, "a\x00b", '"}\n')),
    *("A", ": b", "A : b", " folded", "A: b\nC: d", "A\r: b"),
    *("Upgrade: h2c", "Origin: null", "Authorization: Bearer x", "Range: bytes=0-"),
)
TARGETS = (
    *(
        "",
        "*",
        "/",
        "//v2",
        "/v2/..",
        "/%",
        "/%00",
        "/v2\x7f",
        "/\xe9",
        "a:1",
        "http://a",
        INFER,
        f"{INFER}?a",
        "/metrics",
    ),
    *(f"/v2/models/{each}" for each in ("%2e%2e/infer", "%ff/infer", "x" * 9000, f"{APP}/versions/{2**70}/infer")),
)
METHODS = ("GET", "PUT", "HEAD", "OPTIONS", "CONNECT", "TRACE", "get", "P OST", "X" * 200, "", "\x00", "PRI")
VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.9", "HTTP/1.10", "http/1.1", "HTTP/", "", "HTTP/1.1 x", "ICY")
