"""Heads and bodies as bytes: what is read, what is refused, and that pieces make no difference."""

from __future__ import annotations

import gzip
import random
import zlib
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_server.bodies import FIRST
from edgekit_server.http import HEAD_MOST, Head, Refused, Request, Response, document, encode, parse_head
from edgekit_server.reading import Reading
from tests.runtime.server.mutations import CHUNKED, TRITONCLIENT, WHOLE, mutated, with_headers

MOST = 4096


def read(data: bytes, pieces: list[int] | None = None) -> tuple[Request | None, bytes, int]:
    """A request out of bytes that come in pieces of these sizes; what is left of them, and what was held for it."""
    held: list[int] = []
    reading, scratch = Reading(lambda head: MOST, held.append, "here"), memoryview(bytearray(64))
    sizes = iter(pieces or [])
    while data and not reading.gathered:
        space = reading.space(scratch)
        count = min(len(space), next(sizes, 64), len(data))
        space[:count], data = data[:count], data[count:]
        reading.took(space, count)
        del space
    while reading.gathered and reading.request is None:
        reading.step()
    return reading.request, reading.rest + data, sum(held)


def refusal(data: bytes) -> int:
    try:
        request, _, _ = read(data)
    except Refused as refused:
        return refused.status
    pytest.fail(f"taken: {request}")


def test_the_head_that_tritonclient_sends() -> None:
    head = parse_head(TRITONCLIENT)
    assert (head.method, head.path, head.query) == ("POST", "/v2/models/m/versions/1/infer", "q=1+2")
    assert (head.length, head.chunked, head.keeps, head.coding) == (110737, False, True, "")
    assert head.headers["inference-header-content-length"] == "145"


def test_values_lose_the_blanks_around_them_and_keep_those_within() -> None:
    assert parse_head(with_headers(b"Authorization:  Bearer t \t"))
    assert parse_head(with_headers(b"Authorization:  Bearer t \t")).headers["authorization"] == "Bearer t"


def test_headers_sent_twice_are_a_list() -> None:
    assert parse_head(with_headers(b"A: 1", b"a: 2")).headers["a"] == "1, 2"


def test_a_whole_url_is_a_path() -> None:
    assert parse_head(b"GET http://a:1/x?y HTTP/1.1\r\nHost: a:1\r\n\r\n").path == "/x"
    assert parse_head(b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").path == "/"


@pytest.mark.parametrize(
    ("line", "headers", "keeps"),
    [
        (b"GET / HTTP/1.1", b"Host: a", True),
        (b"GET / HTTP/1.1", b"Host: a\r\nConnection: x, Close", False),
        (b"GET / HTTP/1.0", b"A: b", False),
        (b"GET / HTTP/1.0", b"Connection: Keep-Alive", True),
    ],
)
def test_who_may_ask_again(line: bytes, headers: bytes, keeps: bool) -> None:
    assert parse_head(b"\r\n".join((line, headers, b"", b""))).keeps is keeps


@pytest.mark.parametrize(
    "line",
    [
        b"", b"GET", b"GET /", b"GET  / HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"GET\t/\tHTTP/1.1",
        b"GET /\x00 HTTP/1.1", b"GET /a b HTTP/1.1", b"GET x HTTP/1.1", b"GET * HTTP/1.1", b"G(T / HTTP/1.1",
        b"GET / http/1.1", b"GET / HTTP/11", b"GET / HTTP/1.1\n", b"GET /#x HTTP/1.1", b"GET /\xe4 HTTP/1.1",
        b"CONNECT a:1 HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)  # fmt: skip
def test_malformed_request_lines(line: bytes) -> None:
    assert refusal(line + b"\r\nHost: a\r\n\r\n") == 400


@pytest.mark.parametrize("line", [b"PRI * HTTP/2.0", b"GET / HTTP/0.9", b"GET / HTTP/3.0"])
def test_other_versions(line: bytes) -> None:
    assert refusal(line + b"\r\nHost: a\r\n\r\n") == 505


@pytest.mark.parametrize(
    "line",
    [
        b"A", b": b", b"A : b", b" A: b", b"A: b\r\n c: d", b"A\x00: b", b"A: \x00", b"A: b\rc", b"A: b\nc: d",
        b"A: \x7f", b"\xe4: b", b"A B: c", b"A: b\r", b"Host: a", b"Host: b", b"Authorization: a\r\nAuthorization: b",
    ],
)  # fmt: skip
def test_malformed_headers(line: bytes) -> None:
    assert refusal(with_headers(line)) == 400


@pytest.mark.parametrize("host", [b"A: b", b"Host: a b", b"Host: a/b", b"Host: a@b"])
def test_no_host(host: bytes) -> None:
    assert refusal(b"GET / HTTP/1.1\r\n" + host + b"\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"Content-Length: 3", b"Transfer-Encoding: chunked"), 400),
        ((b"Transfer-Encoding: chunked", b"Content-Length: 3"), 400),
        ((b"Content-Length: 3", b"Content-Length: 3"), 400),
        ((b"Content-Length: 3", b"Content-Length: 4"), 400),
        ((b"Content-Length: 3, 3",), 400),
        ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
        ((b"Transfer-Encoding: chunked, chunked",), 501),
        ((b"Transfer-Encoding: identity",), 501),
        ((b"Transfer-Encoding: gzip, chunked",), 501),
        ((b"Transfer-Encoding: xchunked",), 501),
        ((b"Transfer-Encoding: \x0bchunked",), 400),
        ((b"Transfer-Encoding : chunked",), 400),
        ((b"Transfer-Encoding:", b" chunked"), 400),
        ((b"X: y\nTransfer-Encoding: chunked",), 400),
        ((b"X: y\rTransfer-Encoding: chunked",), 400),
        *[((b"Content-Length:" + value,), 400) for value in (b"", b"-1", b"+3", b"3.0", b"0x3", b"1_0", b"\xb2")],
        ((b"Content-Length: 99999999999999999999",), 413),
        ((b"Content-Length: 4097",), 413),
        ((b"Expect: 200-ok", b"Content-Length: 3"), 417),
        ((b"Content-Encoding: br", b"Content-Length: 3"), 415),
        ((b"Content-Encoding: gzip, gzip", b"Content-Length: 3"), 415),
    ],
)  # fmt: skip
def test_a_body_that_could_end_in_two_places_is_refused(lines: tuple[bytes, ...], status: int) -> None:
    assert refusal(with_headers(*lines) + b"3\r\nabc\r\n0\r\n\r\n") == status


def test_chunks_are_nothing_of_http_1_0() -> None:
    assert refusal(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == 400


def test_heads_have_an_end() -> None:
    assert refusal(b"GET /" + b"x" * HEAD_MOST) == 431
    assert refusal(with_headers(*[b"A: b"] * 64)) == 431


@pytest.mark.parametrize(
    ("chunks", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"003;a=b \r\nabc\r\nA\r\n0123456789\r\n0;x\r\nTrailer: y\r\nZ: \r\n\r\n", b"abc0123456789"),
        (b"c8\r\n" + b"x" * 200 + b"\r\n0\r\n\r\n", b"x" * 200),
        (b"1\r\nx\r\n" * 900 + b"0\r\n\r\n", b"x" * 900),
    ],
)
@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64])
def test_chunks(chunks: bytes, body: bytes, piece: int) -> None:
    request, rest, held = read(CHUNKED + chunks + b"GET /next", [piece] * 9999)
    assert request is not None
    assert (request.body, rest, held) == (body, b"GET /next", len(body))


@pytest.mark.parametrize(
    ("chunks", "status"),
    [
        (b"\r\n", 400), (b"x\r\nabc\r\n", 400), (b"-3\r\nabc\r\n", 400), (b"0x3\r\nabc\r\n", 400),
        (b"3\nabc\r\n", 400), (b" 3\r\nabc\r\n", 400), (b"3\r\nabcd\r\n0\r\n\r\n", 400), (b"3\r\nab\r\n0\r\n\r\n", 400),
        (b"3;\n\r\nabc", 400),
        (b"3\r\nabc\n0\r\n\r\n", 400), (b"3;" + b"x" * 999, 400), (b"0\r\nA: \x00\r\n\r\n", 400),
        (b"0\r\nA: b\nc\r\n\r\n", 400), (b"0\r\n" + b"A: b\r\n" * 9999, 400), (b"1001\r\n", 413),
        (b"fffffffffffffff\r\n", 413), (b"ffffffffffffffff\r\n", 400), (b"1000\r\n" + b"x" * 4096 + b"\r\n1\r\n", 413),
    ],
)  # fmt: skip
def test_malformed_chunks(chunks: bytes, status: int) -> None:
    assert refusal(CHUNKED + chunks) == status


gzipped = partial(gzip.compress, mtime=0)
"""The same bytes in every process of the tests."""


@pytest.mark.parametrize(("coding", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
@pytest.mark.parametrize("size", [0, 1, 4096])
def test_compressed_bodies(coding: bytes, pack: type[bytes], size: int) -> None:
    packed = pack(b"x" * size)
    head = with_headers(b"Content-Encoding: " + coding, b"Content-Length: %d" % len(packed))
    request, rest, held = read(head + packed + b"rest")
    assert request is not None
    assert (request.body, rest, held) == (b"x" * size, b"rest", len(packed) + size)


@pytest.mark.parametrize(
    ("packed", "status"),
    [
        (gzipped(b"x" * 4097), 413), (gzipped(bytes(4 << 20)), 413), (gzipped(b"x")[:-1], 400),
        (gzipped(b"x") + b"y", 400), (b"x", 400), (gzipped(b"x")[:-5] + b"12345", 400),
    ],
)  # fmt: skip
def test_compressed_bodies_that_lie(packed: bytes, status: int) -> None:
    head = with_headers(b"Content-Encoding: gzip", b"Content-Length: %d" % len(packed))
    assert refusal(head + packed) == status


def test_a_large_body_is_held_as_it_arrives() -> None:
    held: list[int] = []
    reading = Reading(lambda head: 64 << 20, held.append, "")
    reading.put(with_headers(b"Content-Length: 33554432"))
    assert sum(held) == FIRST
    body, scratch, at = random.Random(1).randbytes(32 << 20), memoryview(b""), 0
    while not reading.gathered:
        space = reading.space(scratch)
        count = min(len(space), 100_000)
        space[:count] = body[at : at + count]
        reading.took(space, count)
        at += count
        del space
        assert sum(held) <= max(4 * at, FIRST)
    assert reading.request is not None
    assert reading.request.body == body
    assert sum(held) == len(body)


TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#?"), max_size=20)
NAMES = st.from_regex(r"[a-z0-9!#$%&'*+.^_`|~-]{1,12}", fullmatch=True).filter(
    lambda name: name not in ("host", "content-length", "transfer-encoding", "expect", "content-encoding")
)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=20)


@given(st.from_regex(r"[A-Z]{1,8}", fullmatch=True), TEXT, TEXT, st.dictionaries(NAMES, VALUES, max_size=8))
def test_a_head_is_read_as_it_was_written(method: str, path: str, query: str, headers: dict[str, str]) -> None:
    headers = {"host": "a", **{name: value.strip(" ") for name, value in headers.items()}}
    lines = [f"{method} /{path}?{query} HTTP/1.1", *(f"{name.title()}:{value} " for name, value in headers.items())]
    read_as = parse_head("\r\n".join((*lines, "", "")).encode("latin-1"))
    assert read_as == Head(method, f"/{path}", query, headers, 1)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    for head in (data, b"GET / HTTP/1.1\r\nHost: a\r\n" + data):
        try:
            parse_head(head + b"\r\n\r\n")
        except Refused as refused:
            assert refused.status in (400, 413, 431, 501, 505)


def outcome(data: bytes, pieces: list[int]) -> object:
    try:
        return read(data, pieces)
    except Refused as refused:
        return refused.status


@given(st.sampled_from(WHOLE), st.integers(0, 1 << 32), st.lists(st.integers(1, 64), max_size=40))
@settings(deadline=None)
def test_pieces_make_no_difference(data: bytes, seed: int, pieces: list[int]) -> None:
    for each in (data, mutated(data, seed)):
        one, other = outcome(each, []), outcome(each, pieces)
        assert one == other or (isinstance(one, int) and isinstance(other, int))  # whichever fault is seen first


@pytest.mark.slow
def test_ten_thousand_mutations_are_read_or_refused() -> None:
    told = [outcome(mutated(WHOLE[seed % len(WHOLE)], seed), [1 + seed % 63] * 999) for seed in range(10_000)]
    assert all(isinstance(each, tuple) or each in (400, 413, 415, 417, 431, 501, 505) for each in told)


def test_an_answer() -> None:
    head = Head("GET", "/", "", {}, 1)
    first, body = encode(document(200, {"a": "ä"}, {"X": "y"}), head, stays=True)
    assert first == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX: y\r\nContent-Length: 14\r\n\r\n"
    assert body == b'{"a":"\\u00e4"}'


@pytest.mark.parametrize(
    ("method", "minor", "stays", "parts", "word"),
    [
        ("GET", 1, True, 2, None), ("GET", 1, False, 2, b"close"), ("GET", 0, True, 2, b"keep-alive"),
        ("GET", 0, False, 2, b"close"), ("HEAD", 1, True, 1, None),
    ],
)  # fmt: skip
def test_answers_say_whether_the_connection_stays(
    method: str, minor: int, stays: bool, parts: int, word: bytes | None
) -> None:
    answer = encode(Response(200, {}, (b"x",)), Head(method, "/", "", {}, minor), stays)
    assert len(answer) == parts
    assert b"Content-Length: 1\r\n" in bytes(answer[0])
    assert (b"Connection: " + (word or b"") in bytes(answer[0])) is (word is not None)


def test_nobody_writes_headers_of_his_own_into_an_answer() -> None:
    (first,) = encode(Response(200, {"X": "a\r\nSet-Cookie: b\x00\u2028"}), None, stays=True)
    assert first == b"HTTP/1.1 200 OK\r\nX: a  Set-Cookie: b  \r\nContent-Length: 0\r\n\r\n"
