"""Lines of the log as Elastic takes them: field by field of the types that the Elastic Common Schema gives them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_server.named import ECS, Named

DATE, KEYWORD, LONG, TEXT = "date", "keyword", "long", "match_only_text"
FIELDS = {
    "@timestamp": DATE,
    "ecs.version": KEYWORD,
    "event.duration": LONG,
    "http.request.id": KEYWORD,
    "http.response.status_code": LONG,
    "log.level": KEYWORD,
    "message": TEXT,
    "service.name": KEYWORD,
    "source.address": KEYWORD,
    "span.id": KEYWORD,
    "trace.id": KEYWORD,
}
"""Of https://github.com/elastic/ecs/blob/v8.11.0/generated/csv/fields.csv"""
FIRST = ["@timestamp", "log.level", "message", "ecs.version"]
"""In this order (https://github.com/elastic/ecs-logging)."""


def line(capsys: pytest.CaptureFixture[str], named: Named, status: int = 200) -> dict[str, Any]:
    named.tell(status)
    [told] = capsys.readouterr().err.splitlines()
    found: dict[str, Any] = json.loads(told)
    return found


def fits(kind: str, value: object) -> bool:
    """Whether Elasticsearch takes the value into such a field, and for what it is."""
    if kind == LONG:
        return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    if kind == DATE:
        then = datetime.strptime(str(value), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        return abs((datetime.now(UTC) - then).total_seconds()) < 60
    return isinstance(value, str) and len(value) <= 1024  # ignore_above


HEADERS = {"x-request-id": "r 7", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


def test_every_field_is_of_its_type(capsys: pytest.CaptureFixture[str]) -> None:
    told = line(capsys, Named(HEADERS, "POST /v2/models/digits/infer", "192.0.2.1", "digits", 0.0))
    assert told.keys() == FIELDS.keys()
    assert all(fits(FIELDS[name], value) for name, value in told.items())
    assert list(told)[:4] == FIRST
    assert ECS == "8.11.0"


@pytest.mark.parametrize(("status", "level"), [(200, "info"), (404, "info"), (500, "error"), (503, "error")])
def test_the_level(capsys: pytest.CaptureFixture[str], status: int, level: str) -> None:
    assert line(capsys, Named({}, "GET /v2", "unix", "edgekit-runtime", 0.0), status)["log.level"] == level


@given(st.text(max_size=200), st.text(max_size=200))
def test_whatever_a_client_calls_it(name: str, parent: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("sys.stderr.write", said.append)
        Named({"x-request-id": name, "traceparent": parent}, "GET /", "unix", "edgekit-runtime", 0.0).tell(200)
    told = json.loads("".join(said))
    assert "".join(said).count("\n") == 1
    assert all(fits(FIELDS[key], value) for key, value in told.items())
