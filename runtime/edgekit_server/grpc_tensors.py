"""Tensors of gRPC: an inference's message as the body that a worker reads, and the body of its answer as a message."""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING, Any

from edgekit_server.grpc_messages import message
from edgekit_server.http import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit_server.http import Response

CONTENTS = {
    "BOOL": ("bool_contents", "b"),
    "INT8": ("int_contents", "b"),
    "INT16": ("int_contents", "h"),
    "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"),
    "UINT8": ("uint_contents", "B"),
    "UINT16": ("uint_contents", "H"),
    "UINT32": ("uint_contents", "I"),
    "UINT64": ("uint64_contents", "Q"),
    "FP32": ("fp32_contents", "f"),
    "FP64": ("fp64_contents", "d"),
}
"""By datatype: in which field the numbers of a tensor are, and the array's word for them."""
LENGTH = "Inference-Header-Content-Length"


def body(asked: Any, left_us: int | None) -> tuple[bytes, int]:
    """JSON and tensors of a ModelInferRequest, and how long the JSON is; ``left_us``: how long its caller waits yet.

    Raises: Refused where the message contradicts itself.
    """
    tensors = _tensors(asked)
    told = [
        {**_described(each), "parameters": {"binary_data_size": len(data)}} for each, data in zip(asked.inputs, tensors)
    ]
    named = {"id": asked.id} if asked.id else {}
    wanted = {"outputs": [_wanted(each) for each in asked.outputs]} if asked.outputs else {}
    document = {**named, "inputs": told, **wanted, "parameters": _settings(asked, left_us)}
    header = json.dumps(document, separators=(",", ":")).encode()
    return b"".join((header, *tensors)), len(header)


def answer(response: Response) -> Any:
    """The ModelInferResponse of a worker's answer that is all binary, in one part."""
    (data,) = response.body
    at = int(response.headers[LENGTH])
    told, raw = json.loads(bytes(data[:at])), []
    for output in told["outputs"]:
        size = output.pop("parameters")["binary_data_size"]
        raw.append(bytes(data[at : at + size]))
        at += size
    return message("ModelInferResponse")(**told, raw_output_contents=raw)


def _tensors(asked: Any) -> Sequence[bytes]:
    """As bytes, in the order of the inputs."""
    raw = list(asked.raw_input_contents)
    if not raw:
        return [_packed(each) for each in asked.inputs]
    if len(raw) != len(asked.inputs) or any(each.HasField("contents") for each in asked.inputs):
        raise Refused(
            400, f"{len(raw)} raw_input_contents are not those of {len(asked.inputs)} inputs without contents"
        )
    return raw


def _packed(tensor: Any) -> bytes:
    """What came as numbers."""
    field, word = CONTENTS.get(tensor.datatype, ("", ""))
    if not field:
        raise Refused(400, f"input {tensor.name[:80]!r}: {tensor.datatype[:20]!r} comes as raw_input_contents")
    try:
        return array(word, getattr(tensor.contents, field)).tobytes()
    except OverflowError:
        raise Refused(400, f"input {tensor.name[:80]!r}: a number is no {tensor.datatype}") from None


def _described(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _wanted(output: Any) -> dict[str, Any]:
    return {"name": output.name, "parameters": {**_values(output.parameters), "binary_data": True}}


def _settings(asked: Any, left_us: int | None) -> dict[str, Any]:
    given = {**_values(asked.parameters), "binary_data_output": True}
    if left_us is not None:
        told = given.get("timeout")
        given["timeout"] = min(told, left_us) if isinstance(told, int) and told else left_us
    return given


def _values(parameters: Any) -> dict[str, Any]:
    """In one order always, as a map has none."""
    choices = {name: parameter.WhichOneof("choice") for name, parameter in parameters.items()}
    return {name: getattr(parameters[name], choices[name]) for name in sorted(choices) if choices[name]}
