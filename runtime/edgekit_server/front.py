"""Front: what each request is for, who may ask it, and what is told of it afterwards."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Callable, Iterable

from edgekit_server import documents, metrics, routes
from edgekit_server.admission import Admission
from edgekit_server.errands import DIALECTS, spoken
from edgekit_server.http import Refused, Response, document
from edgekit_server.named import Named, named
from edgekit_server.workers import Inquiry

if TYPE_CHECKING:
    from edgekit_server.http import Head, Request
    from edgekit_server.resident import Resident
    from edgekit_server.residents import Residents
    from edgekit_server.routes import Route

    Reply = Callable[[Response], None]

SERVER = "edgekit-runtime"
BODY_MOST, OTHER_BODY_MOST = 64 << 20, 64 << 10
"""Bytes of a request for a model that is still to be loaded, and of one that is no inference."""


class Front:
    """``token``: what a request must bear; "" for none, and then nobody may load or unload."""

    def __init__(self, residents: Residents, token: str = "") -> None:
        self._residents, self._admission = residents, Admission(token)

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer it, now or later. Raises: Refused."""
        started, route = time.monotonic(), routes.find(request.method, request.path)
        name = named(request, request.peer, route.model or SERVER, started)
        done: Reply = partial(_tell, name, reply) if name else reply
        try:
            self._admission.check(request.headers, request.peer, route)
            if route.name in DIALECTS:
                self._infer(request, route, (started, done))
            elif route.name == "load":
                self._residents.load(route.model, lambda resident: done(_loaded(resident)))
            else:
                done(self._answer(route, request.query))
        except Refused as refused:
            done(refused.response())

    def body_most(self, head: Head) -> int:
        """Bytes that the body of a request may have: what its model takes, little where it is for no model."""
        with suppress(Refused):  # ``handle`` says why
            route = routes.find(head.method, head.path)
            if route.name in DIALECTS:
                serving = self._residents.find(route.model).serving
                return serving.most if serving else BODY_MOST
        return OTHER_BODY_MOST

    def _infer(self, request: Request, route: Route, waiting: tuple[float, Reply]) -> None:
        started, reply = waiting
        resident = self._residents.find(route.model, route.version)
        tally = self._residents.ledger.of(resident.app, resident.version)

        def counted(response: Response) -> None:
            tally.took(response.status, int((time.monotonic() - started) * 1e9))
            reply(response)

        inquiry = Inquiry(request.body, *spoken(route, request.headers), counted, route.version, started)
        self._residents.ask(route.model, inquiry)

    def _answer(self, route: Route, query: str) -> Response:
        if route.name == "metrics":
            told = metrics.text(self._residents, self._residents.ledger.all(), metrics.names(query))
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
        if route.name == "unload":
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


def _tell(name: Named, reply: Reply, told: Response) -> None:
    """A line in the log, and the answer with the name of the request."""
    name.tell(told.status)
    reply(replace(told, headers={**told.headers, **name.headers}))


def _loaded(resident: Resident) -> Response:
    return (
        Response(200) if resident.serving else Refused(503, f"{resident.app} is not loaded: {resident.why}").response()
    )


def _not_ready() -> Response:
    return Refused(503, "not ready", {"Retry-After": "1"}).response()
