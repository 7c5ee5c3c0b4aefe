"""The collector over HTTP: POST /v1/windows takes what a device delivers, GET /healthz says whether the store answers.

Nothing is acknowledged before the store has it. Whoever has no token is sent away before anything of the body is read,
and no more bodies are in memory at a time than READERS.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgekit.collect.bodies import MOST_PACKED, Body, TooLarge, Unreadable, unpack
from edgekit.collect.keeping import Keeper
from edgekit.collect.pace import Pace
from edgekit.collect.tokens import Tokens
from edgekit.errors import EdgekitError
from edgekit.reports import clock
from edgekit.store import Store

READERS, WAITING = 16, 2000
"""How many deliveries are read and stored at a time, and how many may wait for that."""
BODY_S = 60.0
"""How long a device may take to send its body."""
RETRY_S = 30
SCHEMA_VERSION = 1


def app(store: Store, tokens: Tokens, tell: Callable[[str], None] = lambda line: None) -> Starlette:
    """``tell`` hears when the store fails."""
    desk = Desk(store, tokens, tell)
    routes = [Route("/v1/windows", desk.take, methods=["POST"]), Route("/healthz", desk.health)]
    return Starlette(routes=routes)


class Desk:
    """Where deliveries are handed in."""

    def __init__(self, store: Store, tokens: Tokens, tell: Callable[[str], None]) -> None:
        self._keeper, self._tokens, self._tell = Keeper(store), tokens, tell
        self._pace, self._readers, self._inside = Pace(), asyncio.Semaphore(READERS), 0

    async def take(self, request: Request) -> Response:
        """200 with what was taken; 400, 401, 413, 429 or 503."""
        if self._inside >= READERS + WAITING:
            return _later(503, "busy")
        self._inside += 1
        try:
            async with self._readers:
                return await self._admit(request)
        except ClientDisconnect:
            return _refused(400, "cut short")
        except EdgekitError as error:
            self._tell(f"{error}")
            return _later(503, "the store does not answer")
        finally:
            self._inside -= 1

    async def health(self, request: Request) -> Response:
        """200, or 503 while the store does not answer."""
        try:
            await run_in_threadpool(self._tokens.knows, "")
        except EdgekitError:
            return _later(503, "the store does not answer")
        return _answer(200, {"ok": True})

    async def _admit(self, request: Request) -> Response:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        device = await run_in_threadpool(self._tokens.bearer, text) if scheme.lower() == "bearer" else None
        if device is None:
            return _refused(401, "this token is nobody's")
        if wait_s := self._pace.wait_s(device):
            return _later(429, "too often", wait_s)
        try:
            async with asyncio.timeout(BODY_S):
                data = await _read(request)
            body = await run_in_threadpool(unpack, data)
        except TooLarge as error:
            return _refused(413, str(error))
        except Unreadable as error:
            return _refused(400, str(error))
        except TimeoutError:
            return _refused(408, "the body took too long")
        return await self._keep(device, body)

    async def _keep(self, device: str, body: Body) -> Response:
        new = await run_in_threadpool(self._keeper.keep, device, body, clock(body.head))
        return _answer(200, {"taken": len(body.windows), "new": new, "skipped": body.skipped})


async def _read(request: Request) -> bytes:
    """Raises: TooLarge as soon as it is, ClientDisconnect."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_PACKED:
            raise TooLarge(f"more than {MOST_PACKED} bytes")
    return bytes(data)


def _answer(status: int, document: dict[str, object], headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"schema_version": SCHEMA_VERSION, **document}, status, headers)


def _refused(status: int, why: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer", "Connection": "close"} if status == 401 else None
    return _answer(status, {"error": {"code": "refused", "message": why}}, headers)


def _later(status: int, why: str, wait_s: float = RETRY_S) -> Response:
    """Not all at the same moment."""
    after = str(int(wait_s * (1 + random.random())) + 1)
    return _answer(status, {"error": {"code": "later", "message": why}}, {"Retry-After": after})
