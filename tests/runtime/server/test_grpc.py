"""gRPC: what a call is turned into, what its answer is turned into, and how long it is waited for; without a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

grpc = pytest.importorskip("grpc", reason="needs the extra of the server's wheel: grpcio, protobuf")

from edgekit_runtime.errors import DeviceError  # noqa: E402
from edgekit_server import grpc_calls, grpc_service  # noqa: E402
from edgekit_server.connections import Reply  # noqa: E402
from edgekit_server.grpc_messages import message  # noqa: E402
from edgekit_server.http import Refused, Request, document  # noqa: E402
from tests.runtime.server.callers import Caller, X, Y, answering, asking, header, refused, speaking  # noqa: E402
from tests.runtime.server.mutations import mutated  # noqa: E402


class TestCalls:
    @pytest.mark.parametrize(
        ("name", "given", "path"),
        [
            ("ServerLive", {}, "/v2/health/live"),
            ("ModelMetadata", {"name": "a b/c", "version": "7"}, "/v2/models/a%20b%2Fc/versions/7"),
            ("ModelStatistics", {}, "/v2/models/stats"),
            ("ModelStatistics", {"name": "net"}, "/v2/models/net/stats"),
            ("RepositoryModelLoad", {"model_name": "net"}, "/v2/repository/models/net/load"),
        ],
    )
    def test_each_is_a_request_of_http(self, name: str, given: dict[str, str], path: str) -> None:
        asked = message(f"{name}Request")(**given)
        assert grpc_calls.request(name, asked, ({}, "::1")).path == path

    @given(st.integers(0, 2**32), st.booleans())
    def test_no_message_is_a_mistake_in_here(self, seed: int, raw: bool) -> None:
        contents = {"raw_input_contents": [X.tobytes()]} if raw else {"raw_input_contents": []}
        tensor = {"name": "x", "datatype": "FP32", "shape": [2, 3]}
        tensors = [tensor if raw else {**tensor, "contents": {"fp32_contents": X.ravel().tolist()}}]
        whole = asking(inputs=tensors, parameters={"priority": {"int64_param": 1}}, id="q", **contents)
        data = mutated(whole.SerializeToString(), seed)
        with suppress(Refused):
            asked = grpc_calls.parsed("ModelInfer", data)
            found = grpc_calls.request("ModelInfer", asked, ({}, "::1"))
            header(bytes(found.body), int(found.headers["inference-header-content-length"]))

    def test_a_name_is_needed(self) -> None:
        with pytest.raises(Refused, match="the name of a model is missing"):
            grpc_calls.request("ModelConfig", message("ModelConfigRequest")(), ({}, "::1"))

    def test_the_index_of_what_is_ready(self) -> None:
        rows = [{"name": "a", "state": "READY"}, {"name": "b", "state": "LOADING"}]
        for ready, names in ((False, ["a", "b"]), (True, ["a"])):
            asked = message("RepositoryIndexRequest")(ready=ready)
            found = grpc_calls.answer("RepositoryIndex", asked, document(200, rows))
            assert [each.name for each in found.models] == names


@pytest.fixture(scope="module")
def asked() -> list[Request]:
    return []


@pytest.fixture(scope="module")
def kept() -> list[Reply]:
    """To whom the model never has answered."""
    return []


@pytest.fixture(scope="module")
def caller(asked: list[Request], kept: list[Reply]) -> Iterator[Caller]:
    """Of a server that answers every inference with Y, and fails as the name of the model says."""

    def handle(request: Request, reply: Reply) -> None:
        asked.append(request)
        word = request.path.split("/")[3]
        if word.isdecimal():
            raise Refused(int(word), "as asked", {"Retry-After": "2"})
        if word == "broken":
            raise RuntimeError("as asked")
        if word == "never":
            kept.append(reply)
        else:
            reply(answering())

    with speaking(handle) as (found, _):
        yield found


class TestServer:
    def test_an_inference(self, caller: Caller, asked: list[Request]) -> None:
        metadata = (("authorization", "Bearer x"), ("host", "evil"), ("inference-header-content-length", "1"))
        found = caller("ModelInfer", asking(), metadata=metadata)
        assert (found.model_name, found.outputs[0].name, list(found.outputs[0].shape)) == ("net", "y", [1, 2])
        assert list(found.raw_output_contents) == [Y.tobytes()]
        request = asked[-1]
        assert (request.method, request.path, request.peer) == ("POST", "/v2/models/net/infer", "127.0.0.1")
        length = request.headers["inference-header-content-length"]
        assert request.headers == {"authorization": "Bearer x", "inference-header-content-length": length}
        asked_us = header(bytes(request.body), int(length))["parameters"]["timeout"]
        assert 0 < asked_us < 61e6  # of 60 s, which gRPC writes with three digits, rounded up

    @pytest.mark.parametrize("status", sorted(grpc_service.CODES))
    def test_what_is_refused_has_a_code(self, caller: Caller, status: int) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            caller("ModelInfer", asking(model_name=str(status)))
        assert (caught.value.code(), caught.value.details()) == (grpc_service.CODES[status], "as asked")
        assert ("grpc-retry-pushback-ms", "2000") in caught.value.trailing_metadata()

    def test_a_mistake_in_here_is_not_told(self, caller: Caller) -> None:
        assert refused(lambda: caller("ModelInfer", asking(model_name="broken"))) == (
            grpc.StatusCode.INTERNAL,
            "internal error",
        )

    def test_what_is_no_message(self, caller: Caller) -> None:
        code, why = refused(lambda: caller("ModelInfer", b"\xff\xff\xff"))
        assert (code, why) == (grpc.StatusCode.INVALID_ARGUMENT, "this is no ModelInferRequest")

    def test_what_is_not_spoken(self, caller: Caller) -> None:
        for name in (f"{grpc_calls.SERVICE}/TraceSetting", "/grpc.health.v1.Health/Check"):
            call = caller.channel.unary_unary(name)
            assert refused(lambda call=call: call(b"", timeout=60))[0] == grpc.StatusCode.UNIMPLEMENTED

    def test_an_answer_that_nobody_waits_for_any_more(self, caller: Caller, kept: list[Reply]) -> None:
        timeout = 0.1
        while not kept:  # on a busy machine its time may be over before the server has heard of it
            code, _ = refused(lambda left=timeout: caller("ModelInfer", asking(model_name="never"), timeout=left))
            assert code == grpc.StatusCode.DEADLINE_EXCEEDED
            timeout *= 2
        kept[0](answering())
        assert caller("ModelInfer", asking()).model_name == "net"

    def test_answers_of_a_stream_are_in_order_and_errors_do_not_end_it(self, caller: Caller) -> None:
        names = [*["net"] * 30, "503", *["net"] * 9]
        given = [asking(model_name=name, id=str(place)) for place, name in enumerate(names)]
        answers = list(caller.stream(iter(given)))
        assert [bool(answer.error_message) for answer in answers] == [name == "503" for name in names]
        assert (answers[30].error_message, answers[30].infer_response.id) == ("as asked", "30")
        assert answers[0].infer_response.parameters[grpc_calls.STREAMED].bool_param

    def test_who_sends_nothing_is_left(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        call = caller.channel.stream_unary(f"{grpc_calls.SERVICE}/ModelInfer")
        gate = threading.Event()
        with monkeypatch.context() as hasty:
            hasty.setattr(grpc_service, "MESSAGE_S", 0.05)
            told = refused(lambda: call(wait_for(gate), timeout=60))
        assert told == (grpc.StatusCode.DEADLINE_EXCEEDED, "the message came too slowly")
        gate.set()
        assert refused(lambda: call(iter(()), timeout=60))[1] == "the call has no message"


def wait_for(gate: threading.Event) -> Iterator[bytes]:
    gate.wait(60)
    yield from ()


class TestEnd:
    def test_who_has_asked_is_answered_and_idle_streams_end(self) -> None:
        replies: list[Reply] = []
        got: list[Any] = []
        with speaking(lambda _, reply: replies.append(reply)) as (caller, server):
            gate = threading.Event()
            idle = caller.stream(wait_for(gate))
            call = threading.Thread(target=lambda: got.append(caller("ModelInfer", asking())))
            call.start()
            until = time.monotonic() + 60
            while not replies and time.monotonic() < until:
                time.sleep(0.005)
            server.end()
            assert list(idle) == []
            assert not got
            replies[0](answering())
            call.join(60)
            assert got
            gate.set()

    def test_a_port_that_is_taken(self) -> None:
        def nothing(request: Request, reply: Reply) -> None: ...

        with (
            speaking(nothing) as (_, server),
            pytest.raises(DeviceError, match="nobody can listen at"),
            speaking(nothing, port=server.port),
        ):
            pass


def test_without_the_token_no_message_is_read() -> None:
    seen: list[Request] = []

    def handle(request: Request, reply: Reply) -> None:
        seen.append(request)
        reply(document(200, {"live": True}))

    with speaking(handle, token="secret") as (caller, _):
        for told in ((), (("authorization", "Bearer other"),), (("authorization", "secret"),)):
            with pytest.raises(grpc.RpcError) as caught:
                caller("ModelInfer", asking(), metadata=told)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert not seen
        assert caller("ServerLive").live
        right = (("authorization", " Bearer  secret"),)  # as perf_analyzer writes it
        assert caller("ServerReady", metadata=right) and len(seen) == 2
