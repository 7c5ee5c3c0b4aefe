"""Paths of the three protocols, as clients ask for them; everything else is a 404 or a 405."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_server.http import Refused
from edgekit_server.routes import Route, find, header_length

KNOWN = [
    ("GET", "/v2", Route("server")),
    ("GET", "/v2/health/live", Route("live")),
    ("GET", "/v2/health/ready", Route("ready")),
    ("GET", "/v2/models/stats", Route("statistics")),
    ("GET", "/v2/models/m", Route("metadata", "m")),
    ("GET", "/v2/models/m/versions/1", Route("metadata", "m", "1")),
    ("GET", "/v2/models/m/ready", Route("model_ready", "m")),
    ("GET", "/v2/models/m/versions/1/ready", Route("model_ready", "m", "1")),
    ("GET", "/v2/models/m/config", Route("config", "m")),
    ("GET", "/v2/models/m/versions/1/config", Route("config", "m", "1")),
    ("GET", "/v2/models/m/stats", Route("statistics", "m")),
    ("GET", "/v2/models/m/versions/1/stats", Route("statistics", "m", "1")),
    ("POST", "/v2/models/m/infer", Route("infer", "m")),
    ("POST", "/v2/models/m/versions/1/infer", Route("infer", "m", "1")),
    ("POST", "/v2/repository/index", Route("index")),
    ("POST", "/v2/repository/models/m/load", Route("load", "m")),
    ("POST", "/v2/repository/models/m/unload", Route("unload", "m")),
    ("GET", "/v2/models/no%20such", Route("metadata", "no such")),
    ("GET", "/v2/models/a%2Fready", Route("metadata", "a/ready")),
    ("POST", "/v2/models/versions/infer", Route("infer", "versions")),
    ("GET", "/v1/models/m", Route("status", "m")),
    ("GET", "/v1/models/m/versions/7", Route("status", "m", "7")),
    ("POST", "/v1/models/m:predict", Route("predict", "m")),
    ("POST", "/v1/models/m/versions/7:predict", Route("predict", "m", "7")),
    ("GET", "/metrics", Route("metrics")),
]


@pytest.mark.parametrize(("method", "path", "route"), KNOWN)
def test_what_clients_ask_for_is_found(method: str, path: str, route: Route) -> None:
    assert find(method, path) == route


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v2/",
        "/v3",
        "//v2",
        "/v2/models",
        "/v2/models/",
        "/v2/models//ready",
        "/v2/models/m/versions//ready",
        "/v2/models/m/versions",
        "/v2/models/m/other",
        "/v2/models/m/versions/1/infer/more",
        "/v2/trace/setting",
        "/v2/systemsharedmemory/status",
        "/v1/models",
        "/v1/models/m/versions/latest",
        "/v1/models/m:classify",
        "/v1/models/m/labels/stable:predict",
        "/v2\n",
    ],
)
def test_nothing_is_elsewhere(path: str) -> None:
    with pytest.raises(Refused) as caught:
        find("GET", path)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/health/live", "GET"),
        ("HEAD", "/v2/health/ready", "GET"),
        ("GET", "/v2/repository/index", "POST"),
        ("GET", "/v2/models/m/infer", "POST"),
        ("PUT", "/v2/models/stats", "GET"),
        ("get", "/v2", "GET"),
    ],
)
def test_another_method_is_refused_with_those_that_are_allowed(method: str, path: str, allowed: str) -> None:
    with pytest.raises(Refused) as caught:
        find(method, path)
    assert caught.value.status == 405
    assert caught.value.headers == {"Allow": allowed}


def test_a_name_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(Refused, match="UTF-8") as caught:
        find("GET", "/v2/models/%ff")
    assert caught.value.status == 400


@given(st.sampled_from(["GET", "POST", "PUT"]), st.text(max_size=30) | st.from_regex(r"/v[12]/[a-z/%0-9:]*"))
def test_any_path_is_found_or_refused(method: str, path: str) -> None:
    try:
        assert find(method, path).name
    except Refused as refused:
        assert refused.status in (400, 404, 405)


@pytest.mark.parametrize(("told", "length"), [("0", 0), ("145", 145), (None, None)])
def test_the_length_of_the_json(told: str | None, length: int | None) -> None:
    assert header_length({} if told is None else {"inference-header-content-length": told}) == length


@pytest.mark.parametrize("told", ["abc", "-1", "+1", "1.0", " 1", "", "1, 1", "٣", "9" * 5000])
def test_a_length_that_is_no_number_is_refused(told: str) -> None:
    with pytest.raises(Refused) as caught:
        header_length({"inference-header-content-length": told})
    assert caught.value.status == 400
    assert len(caught.value.message) < 200
