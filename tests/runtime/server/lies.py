"""Lies: requests that are not what they say, each the same whenever it is told again.

They are about an app of ``tests.runtime.bundles``, whose model takes float32 [N, 4].
"""

from __future__ import annotations

import functools
import gzip
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tests.runtime.bundles import APP
from tests.runtime.server import words
from tests.runtime.server.house import LENGTH, binary
from tests.runtime.server.mutations import mutated
from tests.runtime.server.words import INFER, LENGTHS, NUMBERS, PREDICT, VALUES

Dice = random.Random
LEAVE = 0.05
X = np.array([[1, 2, 3, 4]], np.float32)


@dataclass(frozen=True)
class Lie:
    """``data`` is sent ``piece`` bytes at a time, after so many true requests on the same connection.

    ``leaves``: who told it does not wait for an answer, and resets the connection.
    """

    kind: str
    data: bytes
    piece: int = 1 << 16
    after: int = 0
    leaves: bool = False


def request(path: str, body: bytes = b"", *lines: str, method: str = "POST", length: object = None) -> bytes:
    told = len(body) if length is None else length
    return (
        "\r\n".join((f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {told}", *lines, "", "")).encode(
            "latin-1"
        )
        + body
    )


def infer(body: bytes, length: object = None) -> bytes:
    return request(INFER, body, *([] if length is None else [f"{LENGTH}: {length}"]))


def document(value: object) -> bytes:
    return json.dumps(value).encode()


GIVEN: dict[str, Any] = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
TRUE = infer(*binary(X))
WHOLE = (
    TRUE,
    infer(document({"inputs": [GIVEN]})),
    request(PREDICT, document({"instances": X.tolist()})),
    request(f"/v2/models/{APP}/versions/1", method="GET"),
    request("/v2/repository/index"),
)


def _mutated(dice: Dice) -> bytes:
    return mutated(dice.choice(WHOLE), dice.getrandbits(32))


def _line(dice: Dice) -> bytes:
    line = " ".join((dice.choice(words.METHODS), dice.choice(words.TARGETS), dice.choice(words.VERSIONS)))
    return f"{line}\r\nHost: 127.0.0.1\r\n\r\n".encode("latin-1")


def _headers(dice: Dice) -> bytes:
    first, rest = dice.choice(WHOLE).split(b"\r\n", 1)
    told = [line.encode("latin-1") for line in dice.choices(words.LINES, k=dice.randint(1, 3))]
    return b"\r\n".join((first, *told, rest))


def _many_headers(dice: Dice) -> bytes:
    return request(INFER, b"", *(f"A{number}: {'x' * dice.randint(0, 400)}" for number in range(dice.randint(1, 200))))


def _chunks(dice: Dice) -> bytes:
    sizes = (
        b"0",
        b"1",
        b"-1",
        b"fffffffffffffff",
        b"10000000",
        b"g",
        b"",
        b"1;a=" + b"b" * dice.randint(0, 400),
        b" 1",
        b"0x1",
    )
    chunks = [dice.choice(sizes) + dice.choice((b"\r\n", b"\n", b"\r\n\r\n")) + dice.randbytes(dice.randint(0, 3))
              for _ in range(dice.randint(1, 5))]  # fmt: skip
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"\r\n".join(chunks) + dice.choice((b"", b"\r\n0\r\n\r\n", b"\r\n0\r\nA: b\r\n\r\n" + TRUE))


@functools.cache
def _bomb(mebibytes: int) -> bytes:
    return gzip.compress(bytes(mebibytes << 20), 1)


def _packed(dice: Dice) -> bytes:
    body = binary(X)[0]
    good = gzip.compress(body, mtime=0)
    packed = dice.choice(
        (good, good[:-3], good * 2, good + b"x", zlib.compress(body), body, _bomb(8), _bomb(1) * 2, b"")
    )
    coding = dice.choice(("gzip", "gzip", "deflate", "identity"))
    return request(INFER, packed, f"Content-Encoding: {coding}", f"{LENGTH}: {len(body) - X.nbytes}")


def _mangled(dice: Dice) -> bytes:
    out = bytearray(dice.choice((document({"inputs": [GIVEN]}), document({"instances": X.tolist()}), binary(X)[0])))
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(out))
        out[at : at + dice.randint(0, 8)] = dice.choice(words.PIECES)
    return dice.choice(
        (infer(bytes(out)), request(PREDICT, bytes(out)), infer(bytes(out), dice.randint(0, len(out) + 2)))
    )


def _deep(dice: Dice) -> bytes:
    times = dice.choice((10, 900, 5000, 30_000))
    inner = dice.choice((b"", b"1", b"1" + b"]" * times, b'"'))
    return dice.choice((infer, functools.partial(request, PREDICT)))(b'{"inputs":' + b"[" * times + inner)


def _tensor(dice: Dice) -> bytes:
    """A document that is JSON, one or two of whose values are wrong."""
    given, told = dict(GIVEN), dict[str, Any]()
    for _ in range(dice.randint(1, 2)):
        key = dice.choice(("name", "shape", "datatype", "data", "data", "parameters", "outputs", "top", "again"))
        value = dice.choice(VALUES)
        if key == "shape":
            given[key] = dice.choice(
                (dice.choice(words.SHAPES), [dice.choice(NUMBERS), dice.choice((4, dice.choice(NUMBERS)))], value)
            )
        elif key == "datatype":
            given[key] = dice.choice(("FP64", "BYTES", "fp32", "INT8", "BOOL", value))
        elif key == "parameters":
            given[key] = dice.choice((value, {"binary_data_size": value}, {"shared_memory_region": "a"}))
        elif key == "outputs":
            told[key] = dice.choice(
                (value, [value], [{"name": "y", "parameters": {"binary_data": value}}], [{"name": "y"}] * 2)
            )
        elif key == "top":
            told |= {
                "parameters": dice.choice((value, {"priority": value, "timeout": dice.choice(NUMBERS)})),
                "id": value,
            }
        else:
            given[key] = value
    inputs = dice.choice(([given], [given], [given] * 2, given, []))
    return infer(document({"inputs": inputs, **told}))


def _samples(dice: Dice) -> bytes:
    key = dice.choice(("instances", "inputs", "instance", "signature_name"))
    value = dice.choice((*VALUES, [dice.choice(VALUES)] * 2, {"x": dice.choice(VALUES)}, [{"x": dice.choice(VALUES)}]))
    return request(PREDICT, document({"signature_name": dice.choice(("", "serving_default", None, 1)), key: value}))


def _binary(dice: Dice) -> bytes:
    """A binary tensor whose sizes do not agree."""
    rows = dice.choice((0, 1, 2, 40, 700))
    given = {"name": "x", "shape": [dice.choice((rows, 1, -1, 2**61)), 4], "datatype": dice.choice(("FP32", "INT32"))}
    size = dice.choice((16 * rows, 16, 0, -16, 2**63, 17, "16", None))
    head = document({"inputs": [{**given, "parameters": {"binary_data_size": size}}]})
    tail = dice.choice((X.tobytes() * rows, np.full((rows, 4), np.nan, np.float32).tobytes(), b"", b"x"))
    length = dice.choice((len(head), len(head), 0, len(head) - 1, len(head) + 17, *LENGTHS))
    return request(INFER, head + tail, f"{LENGTH}: {length}")


def _long_or_short(dice: Dice) -> bytes:
    body, length = binary(X)
    told = dice.choice((len(body) - 1, len(body) + 1, 0, 65_000, 70_000, 1 << 40, *LENGTHS))
    return request(INFER, body, f"{LENGTH}: {length}", length=told)


def _same_head(dice: Dice) -> bytes:
    """What begins as the requests before it did, and has another body."""
    head, _, body = TRUE.partition(b"\r\n\r\n")
    out = bytearray(body)
    for _ in range(dice.randint(1, 4)):
        out[dice.randrange(len(out))] = dice.choice(b'[]{},:"-019 x\0\xff')
    whole = b"\r\n\r\n".join((head, out))
    return dice.choice((whole, whole * 3, TRUE + whole + TRUE, whole[: -dice.randint(1, 40)], whole + _noise(dice)))


def _cut(dice: Dice) -> bytes:
    whole = dice.choice(WHOLE)
    return whole[: dice.randrange(1, len(whole))]


def _one_after_the_other(dice: Dice) -> bytes:
    return b"".join(dice.choice((*WHOLE, _binary(dice), _tensor(dice), _cut(dice))) for _ in range(dice.randint(2, 12)))


def _noise(dice: Dice) -> bytes:
    return dice.choice((b"", b"\r\n" * dice.randint(0, 9), b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n")) + dice.randbytes(
        dice.randint(1, 200)
    )


KINDS: dict[str, Callable[[Dice], bytes]] = {
    "bytes that changed": _mutated,
    "request lines": _line,
    "headers": _headers,
    "many headers": _many_headers,
    "lengths": _long_or_short,
    "chunks": _chunks,
    "compressed bodies": _packed,
    "broken JSON": _mangled,
    "deep JSON": _deep,
    "tensors": _tensor,
    "samples": _samples,
    "binary tensors": _binary,
    "known heads": _same_head,
    "requests cut short": _cut,
    "pipelines": _one_after_the_other,
    "noise": _noise,
}


def lie(seed: int) -> Lie:
    """Kinds come in turn, half of them after requests that are true, so that it may be a worker who reads them."""
    dice, kind = Dice(seed), list(KINDS)[seed % len(KINDS)]
    data = KINDS[kind](dice)
    piece = 1 << 16 if len(data) > 4000 else dice.choice((1 << 16, 1 << 16, 1 << 16, 7))
    return Lie(kind, data, piece, after=dice.choice((0, 0, 1, 4)), leaves=dice.random() < LEAVE)


def truth(seed: int) -> Lie:
    """What is told in place of that lie where it is only its company that is to be measured."""
    return replace(lie(seed), kind="truth", data=TRUE, piece=1 << 16, leaves=False)
