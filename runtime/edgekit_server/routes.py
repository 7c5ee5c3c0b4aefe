"""Routes: which method and path ask for what, of the Open Inference Protocol, TensorFlow Serving and Prometheus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from edgekit_server.http import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_REPOSITORY = r"/v2/repository/models/(?P<model>[^/]+)"
_SERVABLE = r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[0-9]+))?"
_PATHS = (
    ("GET", "server", "/v2"),
    ("GET", "live", "/v2/health/live"),
    ("GET", "ready", "/v2/health/ready"),
    ("GET", "statistics", "/v2/models/stats"),
    ("GET", "metadata", _MODEL),
    ("GET", "model_ready", f"{_MODEL}/ready"),
    ("GET", "config", f"{_MODEL}/config"),
    ("GET", "statistics", f"{_MODEL}/stats"),
    ("POST", "infer", f"{_MODEL}/infer"),
    ("POST", "index", "/v2/repository/index"),
    ("POST", "load", f"{_REPOSITORY}/load"),
    ("POST", "unload", f"{_REPOSITORY}/unload"),
    ("GET", "status", _SERVABLE),
    ("POST", "predict", f"{_SERVABLE}:predict"),
    ("GET", "metrics", "/metrics"),
)
_ROUTES = [(method, name, re.compile(path)) for method, name, path in _PATHS]
_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Route:
    """``name`` of the table above; without a model it is of all of them, without a version of the one that is live."""

    name: str
    model: str = ""
    version: str = ""


@lru_cache(maxsize=256)
def find(method: str, path: str) -> Route:
    """``path`` as it was sent, percent-encoded and without a query. Raises: Refused."""
    there = [(verb, name, match) for verb, name, pattern in _ROUTES for match in [pattern.fullmatch(path)] if match]
    if not there:
        raise Refused(404, f"nothing is at {path[:200]!r}")
    for verb, name, match in there:
        if verb == method:
            return Route(name, **{part: _decoded(text) for part, text in match.groupdict(default="").items()})
    allowed = ", ".join(sorted({verb for verb, _, _ in there}))
    raise Refused(405, f"{path[:200]!r} takes {allowed}", {"Allow": allowed})


def header_length(headers: Mapping[str, str]) -> int | None:
    """How many bytes of a body are JSON; None for all of them. Raises: Refused."""
    told = headers.get("inference-header-content-length")
    if told is None or _LENGTH.fullmatch(told):
        return None if told is None else int(told)
    raise Refused(400, f"inference-header-content-length is no length: {told[:80]!r}")


def _decoded(text: str) -> str:
    """A part of a path, after the path was taken apart: a name may hold a slash."""
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise Refused(400, f"{text[:200]!r} is not UTF-8") from None
