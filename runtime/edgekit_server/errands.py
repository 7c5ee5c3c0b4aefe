"""Errands: what the heads of requests ask of a worker that has been lent their connection, and what is not its own.

Whatever is not for its model, or is out of the ordinary, or is to be refused, is the front's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Mapping

from edgekit_server import named, routes
from edgekit_server.http import Refused
from edgekit_server.wire import OIP, TF_SERVING

if TYPE_CHECKING:
    from edgekit_server.admission import Admission
    from edgekit_server.http import Head
    from edgekit_server.routes import Route

DIALECTS = {"infer": OIP, "predict": TF_SERVING}
MOST_KNOWN = 64


@dataclass(frozen=True)
class Errand:
    """An inference. ``is_named``: it is to be told in the log."""

    head: Head
    dialect: int
    header_length: int | None
    is_named: bool


class Errands:
    """``names``: the model's name and version; ``most``: the bytes that a body may have."""

    def __init__(self, names: tuple[str, str], admission: Admission, most: int) -> None:
        self.app, self._version = names
        self.admission, self._most = admission, most
        self._known: dict[int, Errand] = {}

    def find(self, head: Head, peer: str) -> Errand:
        """The same one for the same head. Raises: Refused for what is the front's."""
        known = self._known.get(id(head))  # which nobody else has, as the errand keeps it
        if known is None:
            known = self._read(head, peer)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[id(head)] = known
        return known

    def _read(self, head: Head, peer: str) -> Errand:
        route = routes.find(head.method, head.path)
        ordinary = head.minor and head.keeps and not (head.chunked or head.coding or "expect" in head.headers)
        mine = route.name in DIALECTS and route.model == self.app and route.version in ("", self._version)
        if not (mine and ordinary and head.length <= self._most):
            raise Refused(421, "this is for the front to answer")
        self.admission.check(head.headers, peer, route)
        return Errand(head, *spoken(route, head.headers), any(name in head.headers for name in named.HEADERS))


def spoken(route: Route, headers: Mapping[str, str]) -> tuple[int, int | None]:
    """The dialect of an inference, and how many bytes of its body are JSON; None for all. Raises: Refused."""
    dialect = DIALECTS[route.name]
    return dialect, routes.header_length(headers) if dialect == OIP else None
