"""The standard clients against a server of ours, in an environment that has them: every call, both ways, unchanged.

    python -m tests.runtime.server.tritonclients APP HTTP GRPC TOKEN

The model is y = x · W of shapes [N, 4] and [N, 3]; W comes on standard input as JSON. TOKEN is "" for none. The first
assertion that fails ends it.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as async_grpc
import tritonclient.http as over_http
import tritonclient.http.aio as async_http
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from edgekit_server import grpc_messages

APP, HTTP, GRPC, TOKEN = sys.argv[1:]
W = np.array(json.load(sys.stdin), np.float32)
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def bearing() -> dict[str, str]:
    """Headers; new ones each time, as a client writes into what it is given."""
    return {"authorization": f"Bearer {TOKEN}"} if TOKEN else {}


def given(module: Any, x: Any = X, **how: Any) -> Any:
    """An input of either client."""
    kind = "BYTES" if x.dtype == object else {"float32": "FP32", "float64": "FP64"}[str(x.dtype)]
    tensor = module.InferInput(how.pop("name", "x"), list(x.shape), kind)
    tensor.set_data_from_numpy(x, **how)
    return tensor


def check(result: Any, x: Any = X) -> None:
    np.testing.assert_allclose(result.as_numpy("y"), x @ W, rtol=1e-5)


def refused(call: Any, why: str) -> None:
    try:
        call()
    except InferenceServerException as error:
        told = f"{error.status()} {error.message()}"
        assert why in told, told
    else:
        raise AssertionError(f"it was answered, in spite of: {why}")


def told(client: Any, module: Any) -> None:
    """What a server says of itself; as a dict, whichever client asks."""
    plain = {"headers": bearing()} | ({"as_json": True} if module is over_grpc else {})
    assert client.is_server_live(headers=bearing())
    assert client.is_server_ready(headers=bearing())
    assert client.is_model_ready(APP, headers=bearing())
    assert not client.is_model_ready("other", headers=bearing())
    assert client.get_server_metadata(**plain)["name"] == "edgekit-runtime"
    metadata = client.get_model_metadata(APP, **plain)
    [version] = metadata["versions"]
    assert [list(map(int, each["shape"])) for each in metadata["inputs"]] == [[-1, 4]]
    config = client.get_model_config(APP, version, **plain)
    assert config.get("config", config)["input"][0]["data_type"] == "TYPE_FP32"
    index = client.get_model_repository_index(**plain)
    assert (index["models"] if module is over_grpc else index)[0]["state"] == "READY"


def count(client: Any, module: Any) -> int:
    plain = {"headers": bearing()} | ({"as_json": True} if module is over_grpc else {})
    [stats] = client.get_inference_statistics(APP, **plain)["model_stats"]
    return int(stats["inference_stats"]["success"].get("count", 0))


def inferred(client: Any, module: Any) -> None:
    """With every option that there is; and the statistics say how many there were."""
    before = count(client, module)

    def infer(*how: Any, **options: Any) -> Any:
        return client.infer(APP, *how, headers=bearing(), **options)

    check(infer([given(module)]))
    result = infer([given(module)], "1", [module.InferRequestedOutput("y")], "r 1", priority=1, timeout=5_000_000)
    check(result)
    answer = result.get_response()
    assert (answer["id"] if isinstance(answer, dict) else answer.id) == "r 1"
    word = "compression_algorithm" if module is over_grpc else "request_compression_algorithm"
    check(infer([given(module)], **{word: "gzip"}))
    assert count(client, module) == before + 3
    refused(lambda: infer([given(module)], outputs=[module.InferRequestedOutput("z")]), "unknown")
    refused(lambda: client.infer("other", [given(module)], headers=bearing()), "no model")
    refused(lambda: infer([given(module)], "99"), "no version")
    refused(lambda: infer([given(module, X.astype(float))]), "datatype 'FP64'")
    refused(lambda: infer([given(module, np.array([b"a", b""], object))]), "datatype 'BYTES'")
    refused(lambda: infer([given(module, X[:, :3])]), "shape [2, 3]")
    refused(lambda: infer([given(module, name="q")]), "'q' is unknown")
    assert count(client, module) == before + 3


def only_http(client: Any) -> None:
    check(client.infer(APP, [given(over_http, binary_data=False)], headers=bearing()))
    outputs = [over_http.InferRequestedOutput("y", binary_data=False)]
    check(client.infer(APP, [given(over_http)], outputs=outputs, headers=bearing()))
    deflated = {"response_compression_algorithm": "deflate", "headers": bearing()}
    check(client.infer(APP, [given(over_http)], **deflated))
    waiting = [client.async_infer(APP, [given(over_http)], headers=bearing()) for _ in range(8)]
    for each in waiting:
        check(each.get_result())


def only_grpc(client: Any) -> None:
    got: queue.Queue[Any] = queue.Queue()
    for _ in range(8):
        client.async_infer(APP, [given(over_grpc)], lambda **answer: got.put(answer), headers=bearing())
    for _ in range(8):
        check(got.get(timeout=10)["result"])
    client.start_stream(lambda **answer: got.put(answer), headers=bearing())
    for number in range(40):
        client.async_stream_infer(
            "other" if number == 7 else APP, [given(over_grpc, X + number)], request_id=str(number)
        )
    for number in range(40):
        answer = got.get(timeout=10)
        if number == 7:
            assert "no model" in answer["error"].message()
        else:
            assert answer["result"].get_response().id == str(number)
            check(answer["result"], X + number)
    client.stop_stream()


async def asynchronous() -> None:
    async with async_http.InferenceServerClient(HTTP) as client:
        check(await client.infer(APP, [given(over_http)], headers=bearing()))
    async with async_grpc.InferenceServerClient(GRPC) as client:
        check(await client.infer(APP, [given(over_grpc)], headers=bearing()))


def loaded(client: Any) -> None:
    """Models come and go for who has the token."""
    if not TOKEN:
        refused(lambda: client.unload_model(APP), "token")
        return
    client.unload_model(APP, headers=bearing())
    assert not client.is_model_ready(APP, headers=bearing())
    client.load_model(APP, headers=bearing())
    assert client.is_model_ready(APP, headers=bearing())
    for wrong in ({}, {"authorization": "Bearer other"}):
        refused(lambda wrong=wrong: client.get_server_metadata(headers=wrong), "token")
    assert client.is_server_live()


def same(ours: Any, theirs: Any, seen: set[str]) -> None:
    """Every field of ours is one of theirs: its name, number, type, and how often it may come."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated), (
            field.name
        )
        if field.message_type:
            same(field.message_type, other.message_type, seen)
        for value in field.enum_type.values if field.enum_type else ():
            assert other.enum_type.values_by_name[value.name].number == value.number


def schema() -> None:
    seen: set[str] = set()
    names = grpc_messages.NAMES
    for name in names:
        theirs = getattr(service_pb2, name, None) or getattr(model_config_pb2, name, None)
        if theirs:
            same(grpc_messages.message(name).DESCRIPTOR, theirs.DESCRIPTOR, seen)
    assert {f"{grpc_messages.PACKAGE}.{name}" for name in names} <= seen


schema()
with over_http.InferenceServerClient(HTTP, concurrency=4) as client:
    told(client, over_http)
    inferred(client, over_http)
    only_http(client)
    loaded(client)
with over_grpc.InferenceServerClient(GRPC) as client:
    told(client, over_grpc)
    inferred(client, over_grpc)
    only_grpc(client)
    loaded(client)
asyncio.run(asynchronous())
print("all of it")
