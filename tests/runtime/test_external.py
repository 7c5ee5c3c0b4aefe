"""Finding what an ONNX model keeps in other files, wherever in it that stands and however it is written."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, TensorProto, helper

from edgekit_runtime.engines.external import DATA_LOCATION, EXTERNAL, MESSAGES, names_files
from tests.runtime.bundles import linear, model_file


def inner(message: Descriptor) -> dict[int, Descriptor]:
    return {each.number: each.message_type for each in message.fields if each.message_type is not None}


def reachable(message: Descriptor, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a tensor can stand somewhere in a message."""
    if message.name == "TensorProto":
        return True
    return message.name not in seen and any(reachable(each, seen | {message.name}) for each in inner(message).values())


def descriptors(message: Descriptor, seen: set[str]) -> Iterator[Descriptor]:
    if message.name not in seen:
        seen.add(message.name)
        yield message
        for each in inner(message).values():
            yield from descriptors(each, seen)


def test_the_way_to_every_tensor_is_that_of_onnx() -> None:
    messages = [each for each in descriptors(ModelProto.DESCRIPTOR, set()) if reachable(each)]
    ways = {
        each.name: {number: kind.name for number, kind in inner(each).items() if reachable(kind)} for each in messages
    }
    assert {name: fields for name, fields in ways.items() if fields} == {k: v for k, v in MESSAGES.items() if v}
    assert TensorProto.DESCRIPTOR.fields_by_name["data_location"].number == DATA_LOCATION
    assert TensorProto.EXTERNAL == EXTERNAL


def external() -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def attribute(**values: object) -> onnx.NodeProto:
    node = helper.make_node("If", ["c"], ["y"])
    node.attribute.append(AttributeProto(name="a", **values))
    return node


def graph(**values: object) -> onnx.GraphProto:
    return onnx.GraphProto(name="g", **values)


SPARSE = onnx.SparseTensorProto(values=TensorProto(), indices=external())
PLACES = {
    "initializer": ModelProto(graph=graph(initializer=[TensorProto(), external()])),
    "sparse values": ModelProto(graph=graph(sparse_initializer=[onnx.SparseTensorProto(values=external())])),
    "sparse indices": ModelProto(graph=graph(sparse_initializer=[SPARSE])),
    "constant": ModelProto(graph=graph(node=[attribute(t=external())])),
    "constants": ModelProto(graph=graph(node=[attribute(tensors=[external()])])),
    "sparse constant": ModelProto(graph=graph(node=[attribute(sparse_tensor=SPARSE)])),
    "branch": ModelProto(graph=graph(node=[attribute(g=graph(initializer=[external()]))])),
    "branch of a branch": ModelProto(
        graph=graph(node=[attribute(graphs=[graph(node=[attribute(g=graph(initializer=[external()]))])])])
    ),
    "function": ModelProto(functions=[onnx.FunctionProto(node=[attribute(t=external())])]),
    "training": ModelProto(training_info=[onnx.TrainingInfoProto(algorithm=graph(initializer=[external()]))]),
}


@pytest.mark.parametrize("model", PLACES.values(), ids=PLACES.keys())
def test_it_is_found_wherever_it_stands(model: ModelProto) -> None:
    assert names_files(model.SerializeToString())
    assert not names_files(model.SerializeToString().replace(b"\x70\x01", b"\x70\x00"))


@pytest.mark.parametrize(
    "location",
    [
        b"\x70\x01",
        b"\x70\x81\x00",
        b"\xf0\x00\x01",
        b"\x70\x81\x80\x80\x80\x10",
        b"\x70\x00\x70\x01",
        b"\x70\x01\x70\x00",
    ],
)
def test_it_is_found_however_it_is_written(location: bytes) -> None:
    tensor = b"\x2a" + bytes([len(location)]) + location
    assert names_files(b"\x3a" + bytes([len(tensor)]) + tensor)


def test_models_that_keep_all_to_themselves_pass() -> None:
    assert not names_files(linear(1))
    assert not names_files(model_file("ppocr_textline_cls/ppocr_mobile_v2_textline_cls.onnx"))


def test_a_name_that_is_not_followed_is_harmless() -> None:
    tensor = external()
    tensor.data_location = TensorProto.DEFAULT
    assert not names_files(ModelProto(graph=graph(initializer=[tensor])).SerializeToString())


@given(st.binary(max_size=80))
def test_other_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        assert names_files(data) in (True, False)
    except ValueError:
        return


@given(st.integers(1, len(linear(1)) - 1))
def test_a_model_cut_short_is_refused_or_names_nothing(size: int) -> None:
    try:
        assert not names_files(linear(1)[:size])
    except ValueError:
        return


@pytest.mark.parametrize(
    "data", [b"\x3a\x05", b"\x3a", b"\x0b", b"\x09\0", b"\x80" * 20, b"\x3a" + b"\xff" * 9 + b"\x01"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        names_files(data)


def test_depth_costs_nothing() -> None:
    data = b""
    for _ in range(2000):
        data = b"\x32" + _size(data) + data  # AttributeProto.g
        data = b"\x2a" + _size(data) + data  # NodeProto.attribute
        data = b"\x0a" + _size(data) + data  # GraphProto.node
    assert not names_files(b"\x3a" + _size(data) + data)


def _size(data: bytes) -> bytes:
    number, digits = len(data), b""
    while number > 0x7F:
        digits, number = digits + bytes([number & 0x7F | 0x80]), number >> 7
    return digits + bytes([number])
