"""What goes over the wire: the requests of a dialect, answers, and the tensor that is in one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.serve.task import NAME, Array
from edgekit.errors import EdgekitError

Head = dict[str, str]
LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class Dialect:
    """``request``: of an input, as bytes of HTTP/1.1; ``tensor``: the bytes of ``y`` in an answer's head and body."""

    told: str
    request: Callable[[Array], bytes]
    tensor: Callable[[Head, bytes], bytes]


def raw(path: str) -> Dialect:
    """The tensor's bytes and nothing else, both ways."""
    kind = {"Content-Type": "application/octet-stream"}
    return Dialect("raw bytes", lambda x: post(path, x.tobytes(), kind), lambda head, body: body)


def _v2_binary(x: Array) -> bytes:
    given = {"name": "x", "shape": x.shape, "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = _json({"inputs": [given], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]})
    kind = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return post(f"/v2/models/{NAME}/infer", head + x.tobytes(), kind)


def _after_json(head: Head, body: bytes) -> bytes:
    return body[int(head[LENGTH]) :]


def _v2_base64(x: Array) -> bytes:
    """The tensor as one value of BYTES."""
    text = base64.b64encode(x.tobytes()).decode()
    parameters = {"content_type": "base64"}
    given = {"name": "x", "shape": [1], "datatype": "BYTES", "parameters": parameters, "data": [text]}
    return post(f"/v2/models/{NAME}/infer", _json({"inputs": [given]}), {"Content-Type": "application/json"})


def _in_json(head: Head, body: bytes) -> bytes:
    return np.array(json.loads(body)["outputs"][0]["data"], np.float32).tobytes()


V2_BINARY = Dialect("V2, binary tensors", _v2_binary, _after_json)
V2_BASE64 = Dialect("V2, base64 in JSON", _v2_base64, _in_json)


def split(got: bytes | bytearray) -> tuple[int, Head, bytes] | None:
    """Status, head and body of an answer; None while it is not whole. Raises: EdgekitError."""
    end = got.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = got[:end].decode("latin-1").split("\r\n")
    head = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = _body(head, bytes(got[end + 4 :]))
    return None if body is None else (int(first.split(" ", 2)[1]), head, body)


def _body(head: Head, got: bytes) -> bytes | None:
    """None while it is not whole. Raises: EdgekitError when nobody can tell."""
    if head.get("transfer-encoding") == "chunked":
        return _chunks(got)
    if "content-length" not in head:
        raise EdgekitError("the server does not tell an answer's length")
    return got if len(got) >= int(head["content-length"]) else None


def _chunks(got: bytes) -> bytes | None:
    found, rest = b"", got
    while True:
        line, mark, rest = rest.partition(b"\r\n")
        size = int(line, 16) if mark else 0
        if not mark or len(rest) < size + 2:
            return None
        if size == 0:
            return found
        found, rest = found + rest[:size], rest[size + 2 :]


def post(path: str, body: bytes, headers: Head) -> bytes:
    told = {"Host": "localhost", **headers, "Content-Length": str(len(body))}
    return b"".join((f"POST {path} HTTP/1.1\r\n".encode(), _lines(told), b"\r\n", body))


def _lines(headers: Head) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
