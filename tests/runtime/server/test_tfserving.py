"""TensorFlow Serving's dialect: instances and inputs, one tensor or several, and the answer in the same form."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from edgekit_runtime.errors import InvalidInput
from edgekit_runtime.interface import Interface
from edgekit_runtime.tensors import TensorSpec
from edgekit_server import tfserving
from edgekit_server.asked import Asked
from tests.runtime.server.requests import RESULTS, SMALL, of_json
from tests.runtime.values import GARBAGE, almost

ONE = Interface((TensorSpec("x", "float32", (None, 2)),), (TensorSpec("y", "float32", (None, 2)),))
SEVERAL = Interface((TensorSpec("x", "float32", (None, 2)), TensorSpec("n", "int32", (None,))), SMALL.outputs)
X = [[1.0, 2.0], [3.0, 4.0]]


def read(document: object, interface: Interface = ONE) -> Asked:
    return tfserving.decode(of_json(document), None, interface)


def told(asked: Asked, outputs: dict[str, Any]) -> Any:
    answer = tfserving.encode(asked, outputs, "m", "1")
    assert answer.header_length is None
    return json.loads(answer.header)


@pytest.mark.parametrize("document", [{"instances": X}, {"instances": [{"x": row} for row in X]}])
@pytest.mark.parametrize("more", [{}, {"signature_name": "serving_default"}, {"signature_name": "", "other": 1}])
def test_instances_of_one_input(document: dict[str, Any], more: dict[str, Any]) -> None:
    asked = read({**document, **more})
    assert asked.feeds["x"].tolist() == X
    assert asked.feeds["x"].dtype == np.float32
    assert told(asked, {"y": RESULTS["y"][:, :1]}) == {"predictions": [[0.5], [2.0]]}


@pytest.mark.parametrize("inputs", [X, {"x": X, "surplus": 1}])
def test_inputs_of_one_input(inputs: object) -> None:
    asked = read({"inputs": inputs})
    assert asked.feeds["x"].tolist() == X
    assert told(asked, {"y": np.array(X)}) == {"outputs": X}


def test_instances_of_several_inputs() -> None:
    asked = read({"instances": [{"n": 1, "x": X[0]}, {"x": X[1], "n": 2}]}, SEVERAL)
    assert {name: array.tolist() for name, array in asked.feeds.items()} == {"x": X, "n": [1, 2]}
    rows = told(asked, {"y": np.array(X), "z": RESULTS["z"]})["predictions"]
    assert rows == [{"y": X[0], "z": 7}, {"y": X[1], "z": -(2**62)}]


def test_inputs_of_several_inputs() -> None:
    asked = read({"inputs": {"n": [1, 2], "x": X}}, SEVERAL)
    assert told(asked, {"y": np.array(X), "z": np.array(3)}) == {"outputs": {"y": X, "z": 3}}


def test_whole_floats_stay_floats() -> None:
    answer = tfserving.encode(read({"instances": X}), {"y": np.array([[1.0, np.nan]])}, "m", "1")
    assert answer.header == b'{"predictions":[[1.0,NaN]]}'


@pytest.mark.parametrize("outputs", [{"y": np.zeros((2, 3)), "z": np.zeros(3)}, {"y": np.zeros(2), "z": np.array(1)}])
def test_outputs_without_a_common_batch_are_not_cut_into_samples(outputs: dict[str, Any]) -> None:
    asked = read({"instances": [{"n": 1, "x": X[0]}]}, SEVERAL)
    with pytest.raises(InvalidInput, match="ask with 'inputs'"):
        told(asked, outputs)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({}, "not one of 'instances' and 'inputs'"),
        ({"instances": X, "inputs": X}, "not one of 'instances' and 'inputs'"),
        ({"instances": X, "signature_name": "other"}, "the only signature is 'serving_default'"),
        ({"instances": X, "signature_name": ["serving_default"]}, "the only signature"),
        ({"instances": []}, "got shape [0]"),
        ({"instances": {"x": X}}, "is no list"),
        ({"instances": [1.0, 2.0]}, "got shape [2]"),
        ({"instances": [[[1.0, 2.0]]]}, "got shape [1, 1, 2]"),
        ({"instances": [[1.0, 2.0], [3.0]]}, "lists that should be alike differ"),
        ({"instances": [[1.0, 2.0], 3.0]}, "lists that should be alike differ"),
        ({"instances": [[1.0, 2.0], {"x": X[0]}]}, "lists that should be alike differ"),
        ({"instances": [{"x": X[0]}, X[1]]}, "is no JSON object"),
        ({"instances": [{"x": X[0], "y": 1}]}, "must be x"),
        ({"instances": [{"b64": "AAAA"}]}, "must be x"),
        ({"instances": [[1.0, {"b64": "AAAA"}]]}, "a dict is among them"),
        ({"instances": [[1.0, "2"]]}, "a str is among them"),
        ({"instances": [[1.0, 1e39]]}, "beyond float32"),
        ({"inputs": {"y": X}}, "the request has no 'x'"),
        ({"inputs": None}, "got shape []"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(document: object, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(document)
    assert why in str(caught.value)


@pytest.mark.parametrize("data", [*GARBAGE, b'{"instances":[[NaN,1]]}'])
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        tfserving.decode(memoryview(data), None, ONE)


@settings(deadline=None, max_examples=100)
@given(almost({"instances": [{"n": 1, "x": X[0]}, {"n": 2, "x": X[1]}]}))
def test_almost_a_request_is_read_or_refused(text: str) -> None:
    try:
        asked = tfserving.decode(memoryview(text.encode()), None, SEVERAL)
    except InvalidInput as error:
        assert "\n" not in str(error)
    else:
        SEVERAL.feeds(asked.feeds)
