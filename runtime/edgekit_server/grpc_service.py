"""The service of gRPC: what happens in a call, from its first byte to its answer, as coroutines.

A message is read by the call and not before it: who has no token sends none, and who sends too slowly is left.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Mapping
from urllib.parse import unquote

import grpc
import grpc.aio

from edgekit_server import grpc_calls as calls
from edgekit_server.admission import Admission
from edgekit_server.http import Refused

if TYPE_CHECKING:
    from edgekit_server.http import Request, Response

    Ask = Callable[[Request], Awaitable[Response]]

AHEAD = 16
"""Requests of one stream that may be under way; those after them wait where they come from."""
MESSAGE_S = 10.0
"""How long a message may take to arrive."""
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # it has no types
    """``ask``: has a request answered; ``token``: what calls must bear, "" for none."""

    def __init__(self, ask: Ask, token: str) -> None:
        self._ask, self._admission = ask, Admission(token)
        self._readers: set[asyncio.Future[None]] = set()

    def service(self, details: Any) -> Any:
        """What answers a call, None for one that is not spoken here."""
        prefix, _, name = details.method.rpartition("/")
        if prefix != calls.SERVICE or name not in (*calls.PATHS, calls.STREAM):
            return None
        try:
            self._admission.check(calls.headers(details.invocation_metadata), "", calls.route(name))
        except Refused as refused:
            return grpc.stream_stream_rpc_method_handler(_turning_away(refused))
        if name == calls.STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)

        async def unary(_messages: Any, context: Any) -> bytes:
            return await self._unary(name, context)

        return grpc.stream_unary_rpc_method_handler(unary)

    def end(self) -> None:
        """Streams get the answers to what they have asked, and end."""
        for reader in self._readers:
            reader.cancel()

    async def _unary(self, name: str, context: Any) -> bytes:
        try:
            asked = calls.parsed(name, await _first(context))
            response = await self._ask(calls.request(name, asked, _sender(context), _left_us(context)))
            context.set_trailing_metadata(_trailing(response.headers))
            data: bytes = calls.answer(name, asked, response).SerializeToString()
        except Refused as refused:
            await _abort(context, refused)
            raise
        return data

    async def _stream(self, _messages: Any, context: Any) -> None:
        """Answers go out in the order of their requests."""
        answers: asyncio.Queue[asyncio.Future[bytes] | None] = asyncio.Queue()
        room = asyncio.Semaphore(AHEAD)
        reader = asyncio.ensure_future(self._read_on(context, answers, room))
        self._readers.add(reader)
        try:
            while True:
                answer = await answers.get()
                if answer is None:
                    break
                await context.write(await answer)
                room.release()
        finally:
            self._readers.discard(reader)
            reader.cancel()

    async def _read_on(self, context: Any, answers: asyncio.Queue[Any], room: asyncio.Semaphore) -> None:
        """Until the client says no more; then None is the last of ``answers``."""
        try:
            while True:
                await room.acquire()
                data = await context.read()
                if data is grpc.aio.EOF:
                    return
                answers.put_nowait(asyncio.ensure_future(self._one(data, context)))
        finally:
            answers.put_nowait(None)

    async def _one(self, data: bytes, context: Any) -> bytes:
        """The answer to a request of a stream."""
        asked = None
        try:
            asked = calls.parsed(calls.INFER, data)
            response = await self._ask(calls.request(calls.INFER, asked, _sender(context), _left_us(context)))
            found = calls.streamed(calls.answer(calls.INFER, asked, response))
        except Refused as refused:
            found = calls.failed(refused, asked)
        told: bytes = found.SerializeToString()
        return told


async def _first(context: Any) -> bytes:
    """The message of a call that has one."""
    try:
        data = await asyncio.wait_for(context.read(), MESSAGE_S)
    except asyncio.TimeoutError:
        raise Refused(408, "the message came too slowly") from None
    if data is grpc.aio.EOF:
        raise Refused(400, "the call has no message")
    found: bytes = data
    return found


def _turning_away(refused: Refused) -> Callable[[Any, Any], Awaitable[None]]:
    async def turn_away(_messages: Any, context: Any) -> None:
        await _abort(context, refused)

    return turn_away


async def _abort(context: Any, refused: Refused) -> None:
    code = CODES.get(refused.status, grpc.StatusCode.UNKNOWN)
    await context.abort(code, refused.message, _trailing(refused.headers or {}))


def _sender(context: Any) -> tuple[dict[str, str], str]:
    """Headers and address; gRPC writes the latter as ipv4:127.0.0.1:5000, or ipv6:%5B::1%5D:5000."""
    address = unquote(context.peer()).partition(":")[2].rpartition(":")[0].strip("[]")
    return calls.headers(context.invocation_metadata()), address


def _left_us(context: Any) -> int | None:
    """Until the call's deadline, if it has one."""
    left_s = context.time_remaining()
    return None if left_s is None else max(1, int(left_s * 1e6))


def _trailing(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What goes back beside an answer: its name, and when to come again as gRPC's clients understand it."""
    named = (("x-request-id", headers["X-Request-Id"]),) if "X-Request-Id" in headers else ()
    again = (("grpc-retry-pushback-ms", f"{headers['Retry-After']}000"),) if "Retry-After" in headers else ()
    return (*named, *again)
