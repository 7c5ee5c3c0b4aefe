"""The Open Inference Protocol, version 2, as Triton and KServe speak it, with its binary tensor extension.

A body is a JSON object, and after it the tensors that are binary: little-endian, row-major, in the order of the JSON.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit_runtime import fields
from edgekit_runtime.errors import EngineError, InvalidInput
from edgekit_server import lists
from edgekit_server.asked import Answer, Asked
from edgekit_server.documents import DATATYPES

if TYPE_CHECKING:
    from edgekit_runtime.interface import Interface
    from edgekit_runtime.tensors import TensorSpec

    Array = np.ndarray[Any, Any]

LONGEST_ID = 256
LONGEST_KNOWN, MOST_KNOWN = 1 << 10, 64
_KNOWN: dict[bytes, Layout] = {}


def decode(body: memoryview, header_length: int | None, interface: Interface) -> Asked:
    """What a body asks for.

    ``header_length``: how many of its bytes are JSON; None for all; 0 for none: it is the tensor of the only input, and
    all outputs are wanted binary. A binary tensor is a view of the body, a copy only where it is not aligned to its
    dtype. Raises: InvalidInput.
    """
    header = bytes(body[:header_length]) if 0 < (header_length or 0) <= LONGEST_KNOWN else b""
    known = _KNOWN.get(header)
    if known and known.interface is interface and len(header) + known.size == len(body):
        return known.asked(body, len(header))
    with lists.reading():
        if header_length == 0:
            return _raw(body, interface)
        length = len(body) if header_length is None else fields.count(header_length, 1, len(body))
        asked = _read(lists.load(body[:length]), body[length:], interface)
        if header and sum(array.nbytes for array in asked.feeds.values()) == len(body) - length:
            _remember(header, asked, interface)
        return asked


def encode(asked: Asked, outputs: dict[str, Array], model: str, version: str) -> Answer:
    """The answer with the outputs that were asked for; its binary tensors are views of them. Raises: EngineError."""
    arrays = [(name, outputs[name]) for name in asked.wanted]
    if asked.id or not all(asked.wanted.values()):
        told = [_told(name, array, asked.wanted[name]) for name, array in arrays]
        named = {"id": asked.id} if asked.id else {}
        header = lists.dump({**named, "model_name": model, "model_version": version, "outputs": told})
    else:
        header = _header(tuple([(name, array.dtype.char, array.shape) for name, array in arrays]), model, version)
    return Answer(header, tuple(_bytes(array) for name, array in arrays if asked.wanted[name]))


@dataclass(frozen=True)
class Layout:
    """What a header says that has come before, all of whose tensors are binary: a client mostly sends the same again.

    Between two runs of a model nothing of this code is left in the processor's caches, and each line costs.
    """

    interface: Interface
    parts: tuple[tuple[str, np.dtype[Any], int, tuple[int, ...]], ...]
    size: int
    like: Asked

    def asked(self, body: memoryview, at: int) -> Asked:
        feeds = {}
        for name, dtype, count, shape in self.parts:
            array = np.frombuffer(body, dtype, count, at).reshape(shape)
            feeds[name] = array if array.flags.aligned else array.copy()
            at += count * dtype.itemsize
        return Asked(feeds, self.like.wanted, self.like.id, self.like.priority, self.like.timeout_us)


def _remember(header: bytes, asked: Asked, interface: Interface) -> None:
    """No tensor of truth values, whose bytes have to be looked at."""
    if any(array.dtype == bool for array in asked.feeds.values()):
        return
    if len(_KNOWN) >= MOST_KNOWN:
        _KNOWN.clear()
    parts = tuple((name, array.dtype, array.size, array.shape) for name, array in asked.feeds.items())
    size = sum(array.nbytes for array in asked.feeds.values())
    _KNOWN[header] = Layout(interface, parts, size, asked._replace(feeds={}))


@lru_cache(maxsize=64)
def _header(arrays: tuple[tuple[str, str, tuple[int, ...]], ...], model: str, version: str) -> bytes:
    """Of an answer that is all binary and has no name; dtypes by their characters, of which a hash is quickly made."""
    told = [_binary(name, np.dtype(char), shape) for name, char, shape in arrays]
    return lists.dump({"model_name": model, "model_version": version, "outputs": told})


def _raw(body: memoryview, interface: Interface) -> Asked:
    spec, *others = interface.accepts.values()
    if others or spec.shape.count(None) > 1:
        raise ValueError("a body without JSON is for models with one input and at most one free dimension")
    step = math.prod(size for size in spec.shape if size is not None) * np.dtype(spec.dtype).itemsize
    shape = lists.checked([len(body) // max(step, 1) if size is None else size for size in spec.shape], spec)
    return Asked({spec.name: _view(body, spec, shape)}, {output.name: True for output in interface.outputs})


def _read(document: dict[str, Any], tail: memoryview, interface: Interface) -> Asked:
    settings, feeds = _parameters(document), {}
    for given in map(fields.table, fields.items(document["inputs"])):
        spec = _spec(given, interface)
        if spec.name in feeds:
            raise ValueError(f"input {spec.name!r} is given twice")
        size = _parameters(given).get("binary_data_size")
        if (size is None) != ("data" in given):
            raise ValueError(f"input {spec.name!r} has not one of data and the parameter binary_data_size")
        taken = 0 if size is None else fields.count(size)
        shape = lists.checked(given["shape"], spec)
        data = given.get("data")
        feeds[spec.name] = lists.array(data, spec, shape) if size is None else _view(tail[:taken], spec, shape)
        tail = tail[taken:]
    if len(feeds) < len(interface.accepts):
        raise ValueError(f"no input {min(interface.accepts.keys() - feeds.keys())!r}")
    if tail:
        raise ValueError(f"{len(tail)} bytes are left after the last tensor")
    priority, timeout = (fields.count(settings.get(key, 0)) for key in ("priority", "timeout"))
    return Asked(feeds, _wanted(document, settings, interface), _id(document), priority, timeout)


def _id(document: dict[str, Any]) -> str:
    found = fields.text(document.get("id", ""))
    if len(found) > LONGEST_ID:
        raise ValueError(f"an id of {len(found)} characters, {LONGEST_ID} are the most")
    return found


def _spec(given: dict[str, Any], interface: Interface) -> TensorSpec:
    name, datatype = (fields.text(given[key]) for key in ("name", "datatype"))
    spec = interface.accepts.get(name)
    if spec is None:
        raise InvalidInput(f"input {name[:80]!r} is unknown", f"the model takes {', '.join(interface.accepts)}")
    if datatype != DATATYPES[spec.dtype]:
        raise InvalidInput(f"input {spec}: got datatype {datatype[:20]!r}", f"send it as {DATATYPES[spec.dtype]}")
    return spec


def _view(data: memoryview, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    """Engines read what they are given as it lies, and not all processors can where it is not aligned."""
    dtype = np.dtype(spec.dtype)
    need = math.prod(shape) * dtype.itemsize
    if len(data) != need:
        raise InvalidInput(f"input {spec}: got {len(data)} bytes", f"a tensor of shape {list(shape)} has {need}")
    array: Array = np.frombuffer(data, dtype).reshape(shape)
    if spec.dtype == "bool" and array.view(np.uint8).max() > 1:
        raise InvalidInput(f"input {spec}: got a byte that is neither 0 nor 1")
    return array if array.flags.aligned else array.copy()


def _wanted(document: dict[str, Any], settings: dict[str, Any], interface: Interface) -> dict[str, bool]:
    binary = _flag(settings, "binary_data_output", False)
    known = [spec.name for spec in interface.outputs]
    wanted = {}
    for output in map(fields.table, fields.items(document.get("outputs", []))):
        name, parameters = fields.text(output["name"]), _parameters(output)
        if name not in known:
            raise InvalidInput(f"output {name[:80]!r} is unknown", f"the model gives {', '.join(known)}")
        if "classification" in parameters:
            raise InvalidInput("classification is not offered", "ask for the output itself")
        wanted[name] = _flag(parameters, "binary_data", binary)
    return wanted or dict.fromkeys(known, binary)


def _flag(parameters: dict[str, Any], key: str, default: bool) -> bool:
    found = parameters.get(key, default)
    if found is not True and found is not False:
        raise ValueError(f"the parameter {key} is neither true nor false")
    return found


def _parameters(document: dict[str, Any]) -> dict[str, Any]:
    return fields.table(document.get("parameters", {}))


def _told(name: str, array: Array, binary: bool) -> dict[str, Any]:
    if binary:
        return _binary(name, array.dtype, array.shape)
    return {**_described(name, array.dtype, array.shape), "data": array.ravel().tolist()}


def _binary(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> dict[str, Any]:
    size = math.prod(shape) * dtype.itemsize
    return {**_described(name, dtype, shape), "parameters": {"binary_data_size": size}}


def _described(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> dict[str, Any]:
    datatype = DATATYPES.get(dtype.name)
    if datatype is None:
        raise EngineError(f"output {name!r} is of {dtype}, for which the protocol has no word")
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def _bytes(array: Array) -> memoryview:
    """The array itself where it lies in one piece."""
    if array.flags.c_contiguous and array.size:
        return array.data.cast("B")
    flat: Array = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data
