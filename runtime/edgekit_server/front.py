"""Front: what each request is for, who may ask it, and what is told of it afterwards."""

from __future__ import annotations

import hmac
import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Callable, Iterable

from edgekit_server import documents, metrics, routes
from edgekit_server.http import Refused, Response, document
from edgekit_server.metrics import Durations
from edgekit_server.workers import OIP, TF_SERVING, Inquiry

if TYPE_CHECKING:
    from edgekit_server.http import Request
    from edgekit_server.resident import Resident
    from edgekit_server.residents import Residents
    from edgekit_server.routes import Route

    Reply = Callable[[Response], None]

OPEN = ("live", "ready")
"""What anybody may ask, who watches over this machine."""
ASKED_BY_NAME = ("x-request-id", "traceparent")
"""Headers by which a request is found again in logs: the former goes back with the answer."""
LONGEST = 200


class Front:
    """``token``: what a request must bear; "" for none, and then nobody may load or unload."""

    def __init__(self, residents: Residents, token: str = "") -> None:
        self._residents, self._token = residents, token
        self._durations: dict[tuple[str, str], Durations] = {}

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer it, now or later. Raises: Refused."""
        started, named = time.monotonic(), _named(request)
        route = routes.find(request.method, request.path)
        done: Reply = partial(self._done, request, route, (started, reply, named)) if named else reply
        try:
            self._admit(request, route)
            if route.name in ("infer", "predict"):
                self._infer(request, route, (started, done))
            else:
                done(self._answer(route))
        except Refused as refused:
            done(refused.response())

    def _admit(self, request: Request, route: Route) -> None:
        if route.name in ("load", "unload") and not self._token:
            raise Refused(403, "models are loaded and unloaded for whoever has the server's token, and it has none")
        if "origin" in request.headers and not self._token:
            # a page in a browser on this machine may send what it likes
            raise Refused(403, "pages in a browser need a token here")
        kind, _, told = request.headers.get("authorization", "").partition(" ")
        known = kind.lower() == "bearer" and hmac.compare_digest(told.strip().encode(), self._token.encode())
        if self._token and not known and route.name not in OPEN:
            raise Refused(401, "a token is needed: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})

    def _infer(self, request: Request, route: Route, waiting: tuple[float, Reply]) -> None:
        started, reply = waiting
        resident = self._residents.find(route.model, route.version)
        key = (resident.app, resident.version)
        durations = self._durations.get(key) or self._durations.setdefault(key, Durations())

        def counted(response: Response) -> None:
            durations.add(response.status, time.monotonic() - started)
            reply(response)

        oip = route.name == "infer"
        length = routes.header_length(request.headers) if oip else None
        dialect = OIP if oip else TF_SERVING
        inquiry = Inquiry(request.body, dialect, length, counted, route.version, started)
        self._residents.ask(route.model, inquiry)

    def _answer(self, route: Route) -> Response:
        if route.name == "metrics":
            told = metrics.text(self._residents, self._durations)
            return Response(200, {"Content-Type": metrics.TYPE}, (told.encode(),))
        if route.name in ("live", "ready"):
            return document(200, {route.name: True}) if route.name == "live" or self._is_ready() else _not_ready()
        if route.name == "server":
            return document(200, documents.server())
        if route.name == "index":
            return document(200, documents.index(self._residents.states()))
        if route.name == "statistics":
            return document(200, documents.statistics((one.app, one.version, one.counts) for one in self._asked(route)))
        return self._of_model(route, self._residents.find(route.model, route.version))

    def _of_model(self, route: Route, resident: Resident) -> Response:
        if route.name == "load":
            resident.load()
        elif route.name == "unload":
            self._residents.unload(resident.app)
        elif route.name == "model_ready":
            told = {"name": resident.app, "ready": True}
            return document(200, told) if resident.state == "READY" else _not_ready()
        elif route.name == "status":
            return document(200, documents.availability(resident.version, resident.state))
        elif resident.release is None:
            raise Refused(503, f"{resident.app} is not served: {resident.why}")
        else:
            about = documents.metadata if route.name == "metadata" else documents.config
            return document(200, about(resident.release.bundle.manifest))
        return Response(200)

    def _asked(self, route: Route) -> Iterable[Resident]:
        return [self._residents.find(route.model, route.version)] if route.model else self._residents

    def _is_ready(self) -> bool:
        return all(each.serving or not each.wanted for each in self._residents)

    def _done(self, request: Request, route: Route, waits: tuple[float, Reply, dict[str, str]], told: Response) -> None:
        """A line of JSON by the field names of the Elastic Common Schema, for a request that has a name."""
        started, reply, named = waits
        line = {
            "@timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "log.level": "info" if told.status < 500 else "error",
            "message": f"{request.method} {request.path[:LONGEST]}",
            "event.duration": int((time.monotonic() - started) * 1e9),
            "http.response.status_code": told.status,
            "source.address": request.peer,
            "service.name": route.model or "edgekit-runtime",
            **_fields(named),
        }
        print(json.dumps(line), file=sys.stderr, flush=True)
        identity = {"X-Request-Id": named["x-request-id"]} if "x-request-id" in named else {}
        reply(Response(told.status, {**told.headers, **identity}, told.body))


def _named(request: Request) -> dict[str, str]:
    return {name: request.headers[name][:LONGEST] for name in ASKED_BY_NAME if name in request.headers}


def _fields(named: dict[str, str]) -> dict[str, str]:
    """``traceparent`` is version, trace, span and flags (W3C Trace Context)."""
    parts = named.get("traceparent", "").split("-")
    trace = {"trace.id": parts[1], "span.id": parts[2]} if len(parts) >= 4 else {}
    return {**trace, **({"http.request.id": named["x-request-id"]} if "x-request-id" in named else {})}


def _not_ready() -> Response:
    return Refused(503, "not ready", {"Retry-After": "1"}).response()
