"""Calls of ``inference.GRPCInferenceService``: each is a request of HTTP by another name, and answered by its document.

So there is one answer to what is served, who may ask, and what goes wrong.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Mapping
from urllib.parse import quote

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from edgekit_server import grpc_tensors, routes
from edgekit_server.grpc_messages import PACKAGE, message
from edgekit_server.http import Refused, Request

if TYPE_CHECKING:
    from edgekit_server.http import Response
    from edgekit_server.routes import Route

SERVICE = f"/{PACKAGE}.GRPCInferenceService"
INFER, STREAM = "ModelInfer", "ModelStreamInfer"
_MODEL, _REPOSITORY = "/v2/models", "/v2/repository"
PATHS = {
    "ServerLive": ("GET", "/v2/health/live"),
    "ServerReady": ("GET", "/v2/health/ready"),
    "ServerMetadata": ("GET", "/v2"),
    "ModelReady": ("GET", "{model}/ready"),
    "ModelMetadata": ("GET", "{model}"),
    "ModelConfig": ("GET", "{model}/config"),
    "ModelStatistics": ("GET", "{model}/stats"),
    INFER: ("POST", "{model}/infer"),
    "RepositoryIndex": ("POST", f"{_REPOSITORY}/index"),
    "RepositoryModelLoad": ("POST", f"{_REPOSITORY}/models/{{name}}/load"),
    "RepositoryModelUnload": ("POST", f"{_REPOSITORY}/models/{{name}}/unload"),
}
_FIELD = {"ModelConfig": "config", "RepositoryIndex": "models"}
"""Where a document is a field of the message, and not the message."""
_ANSWERS_NO = ("ServerLive", "ServerReady", "ModelReady")
_KEPT = ("authorization", "x-request-id", "traceparent", "origin")
"""What of a call's metadata is looked at."""
STREAMED = "triton_final_response"


def route(name: str) -> Route:
    """What a call is for, of whichever model."""
    method, path = PATHS[INFER if name == STREAM else name]
    return routes.find(method, path.format(model=f"{_MODEL}/any", name="any"))


def headers(metadata: Any) -> dict[str, str]:
    """Of a call's metadata, as HTTP has them."""
    return {key: str(value).strip() for key, value in metadata or () if key in _KEPT}


def parsed(name: str, data: bytes) -> Any:
    """The message that a call brings. Raises: Refused."""
    try:
        return message(f"{name}Request").FromString(data)
    except (DecodeError, ValueError) as error:
        raise Refused(400, f"this is no {name}Request") from error


def request(name: str, asked: Any, sender: tuple[Mapping[str, str], str], left_us: int | None = None) -> Request:
    """What a call asks for; ``sender``: its headers and its peer. Raises: Refused."""
    method, path = PATHS[name]
    if "{" in path and not _name(asked) and name != "ModelStatistics":
        raise Refused(400, "the name of a model is missing")
    known, peer = sender
    body = b""
    if name == INFER:
        body, length = grpc_tensors.body(asked, left_us)
        known = {**known, grpc_tensors.LENGTH.lower(): str(length)}
    return Request(method, path.format(model=_model(asked), name=_name(asked)), "", known, body, peer)


def answer(name: str, asked: Any, response: Response) -> Any:
    """The message for an answer. Raises: Refused for one that is an error."""
    if name in _ANSWERS_NO and response.status in (404, 503):
        return message(f"{name}Response")()
    document = _document(response, name == INFER)
    if response.status >= 400:
        raise Refused(response.status, document["error"], response.headers)
    if name == INFER:
        return grpc_tensors.answer(response)
    if name == "RepositoryIndex" and asked.ready:
        document = [each for each in document if each["state"] == "READY"]
    found = {_FIELD[name]: document} if name in _FIELD else document
    return json_format.ParseDict(found, message(f"{name}Response")(), ignore_unknown_fields=True)


def streamed(found: Any) -> Any:
    """The answer of a stream to one of its requests, which is always one: it says that it is the last."""
    found.parameters[STREAMED].bool_param = True
    return message("ModelStreamInferResponse")(infer_response=found)


def failed(refused: Refused, asked: Any) -> Any:
    """The answer of a stream to a request that cannot be answered; the stream goes on."""
    named = {"infer_response": {"id": asked.id}} if asked is not None and asked.id else {}
    return message("ModelStreamInferResponse")(error_message=refused.message, **named)


def _document(response: Response, binary: bool) -> Any:
    if binary and response.status < 400:
        return {}
    body = b"".join(response.body)
    return json.loads(body) if body else {}


def _name(asked: Any) -> str:
    return quote(getattr(asked, "model_name", "") or getattr(asked, "name", ""), safe="")


def _model(asked: Any) -> str:
    """Where a model is, or all of them."""
    version = getattr(asked, "model_version", "") or getattr(asked, "version", "")
    parts = [_name(asked), *(["versions", quote(version, safe="")] if version else [])]
    return "/".join((_MODEL, *filter(None, parts)))
