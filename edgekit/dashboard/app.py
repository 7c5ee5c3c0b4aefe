"""The dashboard's application: one page, and what it is drawn with. Nothing can be changed here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edgekit.dashboard.guard import Guard
from edgekit.dashboard.kept import Kept
from edgekit.dashboard.look import look
from edgekit.errors import EdgekitError
from edgekit.page import render

if TYPE_CHECKING:
    from edgekit.fleet import Device
    from edgekit.store import Store

ASSETS = {"page.css": "text/css", "page.js": "text/javascript"}


def app(store: Store, devices: Callable[[], Sequence[Device]], token: str = "") -> Starlette:
    """``devices``: who is known by name and tags; ``token``: what requests must bear, "" for none."""
    kept = Kept(lambda: look(store, devices, time.time()))

    async def page(request: Request) -> Response:
        try:
            copy = await run_in_threadpool(kept.latest)
        except EdgekitError as error:
            return PlainTextResponse(f"{error}\n", 503, {"Retry-After": "10"})
        headers = {"ETag": copy.tag}
        if request.headers.get("if-none-match") == copy.tag:
            return Response(status_code=304, headers=headers)
        return Response(copy.body, headers=headers, media_type="text/html")

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            return PlainTextResponse("not found\n", 404)
        return Response(text_of(name), media_type=ASSETS[name])

    middleware = [Middleware(Guard, token=token), Middleware(GZipMiddleware, minimum_size=1024)]
    return Starlette(routes=[Route("/", page), Route("/assets/{name}", asset)], middleware=middleware)


def text_of(name: str) -> str:
    """A style sheet or script: the page's, and then the dashboard's own."""
    own = {"page.css": "dashboard.css", "page.js": "live.js"}[name]
    shared = render.STYLES if name == "page.css" else render.SCRIPTS
    return "\n".join(
        [*map(render.asset, shared), files("edgekit.dashboard").joinpath(f"assets/{own}").read_text("utf-8")]
    )
