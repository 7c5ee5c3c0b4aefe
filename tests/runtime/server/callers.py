"""Callers: gRPC's own client with the messages of the server, inferences for it, and a server of it without models."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import numpy as np

from edgekit_server import grpc_calls, grpc_tensors
from edgekit_server.connections import Handle
from edgekit_server.grpc_messages import message
from edgekit_server.grpc_server import Server
from edgekit_server.http import Response
from tests.runtime.server.fronts import front

Metadata = tuple[tuple[str, str], ...]


X = np.arange(6, dtype=np.float32).reshape(2, 3)
Y = np.array([[0.5, -1.0]], np.float32)


def asking(**changes: Any) -> Any:
    """An inference with one binary tensor."""
    tensor = {"name": "x", "datatype": "FP32", "shape": X.shape}
    given = {"model_name": "net", "inputs": [tensor], "raw_input_contents": [X.tobytes()], **changes}
    return message("ModelInferRequest")(**given)


def answering(**changes: Any) -> Response:
    """A worker's answer to it."""
    told = {"name": "y", "datatype": "FP32", "shape": Y.shape, "parameters": {"binary_data_size": Y.nbytes}}
    head = json.dumps({"model_name": "net", "model_version": "3", "outputs": [told], **changes}).encode()
    return Response(200, {grpc_tensors.LENGTH: str(len(head))}, (head, memoryview(Y.tobytes())))


def header(body: bytes, length: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body[:length])
    return found


class Caller:
    """Of a server at an address; ``metadata`` goes with each call."""

    def __init__(self, address: str, metadata: Metadata = ()) -> None:
        self.channel, self.metadata = grpc.insecure_channel(address), metadata

    def __call__(self, name: str, asked: Any = None, timeout: float = 60, metadata: Metadata = ()) -> Any:
        """The answer. Raises: grpc.RpcError."""
        return self.whole(name, asked, timeout, metadata)[0]

    def whole(self, name: str, asked: Any = None, timeout: float = 60, metadata: Metadata = ()) -> tuple[Any, Any]:
        """The answer, and the call with what came beside it."""
        call = self.channel.unary_unary(
            f"{grpc_calls.SERVICE}/{name}", response_deserializer=message(f"{name}Response").FromString
        )
        data = asked if isinstance(asked, bytes) else (asked or message(f"{name}Request")()).SerializeToString()
        found, told = call.with_call(data, timeout=timeout, metadata=(*self.metadata, *metadata))
        return found, told

    def stream(self, asked: Iterator[Any], timeout: float = 60) -> Iterator[Any]:
        call = self.channel.stream_stream(
            f"{grpc_calls.SERVICE}/{grpc_calls.STREAM}",
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=message("ModelStreamInferResponse").FromString,
        )
        answers: Iterator[Any] = call(asked, timeout=timeout, metadata=self.metadata)
        return answers


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """The status and the message that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("it was answered")


@contextmanager
def speaking(handle: Handle, token: str = "", port: int = 0) -> Iterator[tuple[Caller, Server]]:
    """A server whose requests this handles, in the thread of its loop."""
    over = threading.Event()
    with ExitStack() as last, front() as one:
        last.callback(one.loop.close)
        one.connections.handle = handle
        made = Server(f"127.0.0.1:{port}", token, one.connections, over.set)
        caller = Caller(f"127.0.0.1:{made.port}")
        try:
            yield caller, made
        finally:
            made.end()
            assert over.wait(60)
            assert one.connections.fits(one.connections.limits.held)  # nothing is held any more
            caller.channel.close()
