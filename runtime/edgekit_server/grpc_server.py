"""The server of gRPC: a thread beside the loop's, which hands over what is asked, and waits for the answers."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import grpc.aio

from edgekit_runtime.errors import DeviceError
from edgekit_server.connections import BODY_MOST
from edgekit_server.grpc_service import Service
from edgekit_server.http import Refused, Response

if TYPE_CHECKING:
    from edgekit_server.connections import Connections, Reply
    from edgekit_server.http import Request
    from edgekit_server.loop import Callback

CALLS_MOST, CONNECTIONS_MOST = 256, 512
GRACE_S = 60.0
"""How long calls that are under way may take at the end."""
OPTIONS = (
    ("grpc.max_receive_message_length", BODY_MOST),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_allowed_incoming_connections", CONNECTIONS_MOST),
    ("grpc.so_reuseport", 0),  # else a second server would take half of the calls
    ("grpc.server_handshake_timeout_ms", 4_000),
    ("grpc.max_connection_idle_ms", 60_000),  # who comes again connects again, and does not notice
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


class Server:
    """Listens at ``address``, HOST:PORT; ``port`` is what it got. What is asked there is a request like those of
    ``connections``, and held by them; ``ended`` is called in their loop's thread when this one is over.

    Raises: DeviceError when nobody can listen there.
    """

    def __init__(self, address: str, token: str, connections: Connections, ended: Callback) -> None:
        self._connections, self._ended = connections, ended
        self._call = connections.loop.from_threads()
        listens: Future[int] = Future()
        threading.Thread(target=self._run, args=(address, token, listens), name="gRPC", daemon=True).start()
        self.port = listens.result()

    def end(self) -> None:
        """Take no calls any more, and answer those that are under way."""
        with suppress(RuntimeError):  # it is over already
            self._here.call_soon_threadsafe(self._over.set)

    # In the thread of its own

    def _run(self, address: str, token: str, listens: Future[int]) -> None:
        try:
            asyncio.run(self._serve(address, token, listens))
        finally:
            if listens.done():
                self._call(self._ended)
            else:
                listens.set_exception(DeviceError(f"nobody can listen at {address} for gRPC", "choose another --grpc"))

    async def _serve(self, address: str, token: str, listens: Future[int]) -> None:
        self._here, self._over = asyncio.get_running_loop(), asyncio.Event()
        service = Service(self._ask, token)
        server = grpc.aio.server(None, handlers=(service,), options=OPTIONS, maximum_concurrent_rpcs=CALLS_MOST)
        try:
            port = server.add_insecure_port(address)
        except RuntimeError:  # it has told why in the log
            return
        await server.start()
        listens.set_result(port)
        await self._over.wait()
        service.end()
        await server.stop(GRACE_S)

    async def _ask(self, request: Request) -> Response:
        answered: asyncio.Future[Response] = self._here.create_future()
        self._call(partial(self._put, request, partial(self._hand_back, answered)))
        return await answered

    # In the loop's thread

    def _put(self, request: Request, reply: Reply) -> None:
        size = len(request.body)
        try:
            self._connections.hold(size)
        except Refused as refused:
            return reply(refused.response())

        def released(response: Response) -> None:
            self._connections.release(size)
            reply(response)

        return self._connections.put(request, released)

    def _hand_back(self, answered: asyncio.Future[Response], response: Response) -> None:
        """The parts are free when this is back."""
        kept = replace(response, body=(b"".join(response.body),))
        with suppress(RuntimeError):  # nobody waits any more
            self._here.call_soon_threadsafe(_settle, answered, kept)


def _settle(answered: asyncio.Future[Response], response: Response) -> None:
    if not answered.done():
        answered.set_result(response)
