"""Guard: who may look at the dashboard, and what a browser may do with it."""

from __future__ import annotations

import base64
import hmac

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgekit_server import hosts
from edgekit_server.http import Refused

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def check(host: str, authorization: str, token: str) -> None:
    """``token``: what a request must bear, "" for none; then its host must be no name that somebody else gave us.

    A browser asks for a name and a password, and the token is the password. Raises: Refused.
    """
    if not token:
        hosts.check(host)
    elif not hmac.compare_digest(secret(authorization).encode(), token.encode()):
        raise Refused(401, "a token is needed: as the password, or Authorization: Bearer …")


def secret(authorization: str) -> str:
    """The token or the password in a header, "" where there is none."""
    kind, _, told = authorization.partition(" ")
    if kind.lower() == "bearer":
        return told.strip()
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(told, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


class Guard:
    """Stands before an application."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["type"] != "http":
            return
        told = Headers(scope=scope)
        try:
            check(told.get("host", ""), told.get("authorization", ""), self._token)
        except Refused as refused:
            ask = {"WWW-Authenticate": 'Basic realm="edgekit", charset="UTF-8"'} if refused.status == 401 else None
            await PlainTextResponse(f"{refused}\n", refused.status, ask)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)
