"""Named: a request that bears a name is told in the log, to be found there again: as a line of JSON, once answered."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Mapping, Union

if TYPE_CHECKING:
    from edgekit_server.http import Head, Request

    Heading = Union[Head, Request]

HEADERS = ("x-request-id", "traceparent")
"""The former goes back with the answer."""
LONGEST = 200
ECS = "8.11.0"
"""The version of the schema whose names these are."""


@dataclass(frozen=True)
class Named:
    """``names`` by header; ``of``: whose log line it is, an app or the server; ``began_s`` by the monotonic clock."""

    names: Mapping[str, str]
    message: str
    peer: str
    of: str
    began_s: float

    @property
    def headers(self) -> dict[str, str]:
        """What the answer bears beside its own."""
        return {"X-Request-Id": self.names["x-request-id"]} if "x-request-id" in self.names else {}

    def tell(self, status: int) -> None:
        """By the field names of the Elastic Common Schema, the first four as its loggers write them."""
        now_ms = time.time_ns() // 10**6
        line = {
            "@timestamp": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now_ms // 1000))}.{now_ms % 1000:03}Z",
            "log.level": "info" if status < 500 else "error",
            "message": self.message,
            "ecs.version": ECS,
            "event.duration": int((time.monotonic() - self.began_s) * 1e9),
            "http.response.status_code": status,
            "source.address": self.peer,
            "service.name": self.of,
            **_fields(self.names),
        }
        sys.stderr.write(json.dumps(line) + "\n")  # in one piece: front and workers write to the same file
        sys.stderr.flush()


def named(heading: Heading, peer: str, of: str, began_s: float) -> Named | None:
    """None for a request without a name."""
    names = {name: heading.headers[name][:LONGEST] for name in HEADERS if name in heading.headers}
    return Named(names, f"{heading.method} {heading.path[:LONGEST]}", peer, of, began_s) if names else None


def _fields(names: Mapping[str, str]) -> dict[str, str]:
    """``traceparent`` is version, trace, span and flags (W3C Trace Context)."""
    parts = names.get("traceparent", "").split("-")
    trace = {"trace.id": parts[1], "span.id": parts[2]} if len(parts) >= 4 else {}
    return {**trace, **({"http.request.id": names["x-request-id"]} if "x-request-id" in names else {})}
