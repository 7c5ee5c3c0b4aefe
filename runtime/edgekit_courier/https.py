"""HTTPS: a parcel as the body of a POST, over one connection for as many as there are."""

from __future__ import annotations

import json
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING

from edgekit_courier import tls
from edgekit_courier.errors import Undelivered, Unwelcome
from edgekit_runtime import fields

if TYPE_CHECKING:
    from types import TracebackType

    from edgekit_courier.letter import Letter
    from edgekit_courier.parcels import Parcel

TIMEOUT_S = 60.0
MOST_ANSWER = 1 << 16
LONGEST_S = 3600.0
PATH = "/v1/windows"
ENROL = "enrol it anew: edgekit collect enrol NAME"


class Post:
    """The way to a collector."""

    def __init__(self, letter: Letter) -> None:
        self._letter = letter
        self._connection = HTTPSConnection(
            letter.host, letter.port, timeout=TIMEOUT_S, context=tls.context(letter.certificate, pinned=letter.pinned)
        )

    def send(self, parcel: Parcel) -> None:
        """Raises: Undelivered, Unwelcome."""
        headers = {
            "Authorization": f"Bearer {self._letter.token}",
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "gzip",
        }
        try:
            self._connection.request("POST", f"{self._letter.path}{PATH}", parcel.body, headers)
            answer = self._connection.getresponse()
            body = answer.read(MOST_ANSWER)
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise Undelivered(f"{self._letter.url}: {error or type(error).__name__}") from error
        if answer.status != 200:
            self._connection.close()
            raise _refusal(self._letter.url, answer)
        _check(self._letter.url, body, len(parcel.windows))

    def __enter__(self) -> Post:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()


def _refusal(url: str, answer: HTTPResponse) -> Undelivered | Unwelcome:
    told = f"{url}: {answer.status} {answer.reason[:100]}"
    if answer.status in (400, 413, 422):
        return Unwelcome(told)
    if answer.status in (401, 403):
        return Undelivered(f"{told}: the collector does not know this device", ENROL)
    return Undelivered(told, after_s=_seconds(answer.getheader("Retry-After", "")))


def _seconds(text: str) -> float:
    return min(float(text), LONGEST_S) if text.isdecimal() and len(text) < 10 else 0.0


def _check(url: str, body: bytes, sent: int) -> None:
    """Whether it was a collector that answered: another server may say yes to everything. Raises: Undelivered."""
    try:
        told = json.loads(body)
        known = fields.count(told["taken"]) + fields.count(told["skipped"])
    except (KeyError, TypeError, ValueError):
        known = -1
    if known != sent:
        raise Undelivered(f"{url}: no collector answers there", "look at --url of: edgekit collect enrol")
