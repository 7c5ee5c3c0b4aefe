"""Admission: who may ask for what; the same in the front and in a worker to which a connection was lent."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Mapping

from edgekit_server import hosts
from edgekit_server.http import Refused

if TYPE_CHECKING:
    from edgekit_server.routes import Route

OPEN = ("live", "ready")
"""What anybody may ask, who watches over this machine."""
LOCAL = "unix"
"""The peer on a Unix socket, which no page reaches, and where clients give hosts of all kinds."""


class Admission:
    """``token``: what a request must bear; "" for none, and then nobody may load or unload."""

    def __init__(self, token: str = "") -> None:
        self._token = token

    def check(self, headers: Mapping[str, str], peer: str, route: Route) -> None:
        """Raises: Refused."""
        if route.name in ("load", "unload") and not self._token:
            raise Refused(403, "models are loaded and unloaded for whoever has the server's token, and it has none")
        if "origin" in headers and not self._token:
            # a page in a browser on this machine may send what it likes
            raise Refused(403, "pages in a browser need a token here")
        if not self._token and peer != LOCAL:
            hosts.check(headers.get("host", ""))
        kind, _, told = headers.get("authorization", "").partition(" ")
        known = kind.lower() == "bearer" and hmac.compare_digest(told.strip().encode(), self._token.encode())
        if self._token and not known and route.name not in OPEN:
            raise Refused(401, "a token is needed: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
