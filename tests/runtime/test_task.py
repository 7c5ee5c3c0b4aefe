"""Tasks: what is written is read again to the bit, and what is no task is told as that."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit_train import tensor_file
from edgekit_train.compression import Compression
from edgekit_train.task import Task, dump, parse
from tests.runtime.values import GARBAGE, LABEL, WORD, almost

MOST = 1 << 20
ABOVE_0 = st.floats(0, exclude_min=True, allow_infinity=False)
SETTINGS = LABEL | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
WEIGHTS = st.dictionaries(
    LABEL.filter(lambda name: name != tensor_file.METADATA),
    arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, min_side=0, max_side=4)),
    max_size=3,
)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    clip = draw(st.none() | ABOVE_0)
    return Task(
        app=draw(WORD),
        family=draw(LABEL),
        round=draw(st.from_regex(r"[0-9a-f]{32}", fullmatch=True)),
        device=draw(WORD),
        trainer=draw(WORD),
        config=draw(st.dictionaries(WORD, SETTINGS, max_size=3)),
        weights=draw(WEIGHTS),
        clip=clip,
        noise=draw(st.none() | ABOVE_0) if clip else None,
        compression=draw(
            st.none() | st.builds(Compression, st.floats(0, 1, exclude_min=True), st.booleans()),
        ),
    )


TASK = Task(
    "digits",
    "sha256:" + "a" * 64,
    "0" * 32,
    "pi-1",
    config={"epochs": 3, "rate": 0.5},
    weights={"head.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "head.0.bias": np.zeros(3, np.float32)},
    clip=1.0,
    noise=0.5,
    compression=Compression(0.1),
)


@settings(max_examples=60, deadline=None)
@given(tasks())
def test_what_is_written_is_read_again(task: Task) -> None:
    data = dump(task)
    again = parse(data, MOST)
    assert again == task
    assert hash(again) == hash(task)
    assert {name: type(value) for name, value in again.config.items()} == {
        name: type(value) for name, value in task.config.items()
    }
    assert all(again.weights[name].tobytes() == array.tobytes() for name, array in task.weights.items())
    assert dump(replace(task, weights=dict(reversed(task.weights.items())))) == data


@settings(max_examples=60, deadline=None)
@given(tasks(), st.data())
def test_what_is_almost_one_is_read_or_refused(task: Task, data: st.DataObject) -> None:
    whole = dump(task)
    with pytest.raises(ValueError):
        parse(whole[: data.draw(st.integers(0, len(whole) - 1))], MOST)
    tensors, metadata = tensor_file.parse(whole)
    key = data.draw(st.sampled_from(sorted(metadata)))
    other = data.draw(st.just("null") | st.sampled_from(sorted(metadata.values())) | LABEL)
    with contextlib.suppress(ValueError):
        parse(tensor_file.dump(tensors, {**metadata, key: other}), MOST)
    with pytest.raises(ValueError):
        parse(tensor_file.dump(tensors, {name: text for name, text in metadata.items() if name != key}), MOST)
    place = data.draw(st.integers(0, len(whole) - 1))
    with contextlib.suppress(ValueError):
        parse(whole[:place] + data.draw(st.binary(min_size=1, max_size=1)) + whole[place + 1 :], MOST)


def edited(**changes: Any) -> bytes:
    tensors, metadata = tensor_file.parse(dump(TASK))
    return tensor_file.dump(tensors, {**metadata, **changes})


@given(
    almost({"config": {"epochs": 3}, "sending": {"clip": 1, "noise": None, "compression": {"share": 1, "int8": True}}})
)
def test_notes_that_are_almost_some_are_read_or_refused(text: str) -> None:
    said = json.loads(text.replace("\\ud800", ""))
    with contextlib.suppress(ValueError):
        parse(edited(**{key: json.dumps(value) for key, value in said.items()}), MOST)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_is_none_is_refused(garbage: bytes) -> None:
    for data in (garbage, len(garbage).to_bytes(8, "little") + garbage):
        with pytest.raises(ValueError):
            parse(data, MOST)


SENDING = {"clip": 1.0, "noise": 0.5, "compression": None}


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "edgekit-update"},
        {"schema_version": "2"},
        {"more": ""},
        {"app": "../x"},
        {"device": ""},
        {"trainer": "a b"},
        {"round": "0" * 31},
        {"family": "\n"},
        {"config": "[]"},
        {"config": '{"a b": 1}'},
        {"config": '{"a": null}'},
        {"config": '{"a": true}'},
        {"config": '{"a": [1]}'},
        {"config": '{"a": NaN}'},
        {"config": json.dumps({"a": 1 << 70})},
        {"config": json.dumps({f"s{number}": 1 for number in range(101)})},
        {"sending": "{}"},
        {"sending": json.dumps({**SENDING, "more": 1})},
        {"sending": json.dumps({**SENDING, "clip": None})},
        {"sending": json.dumps({**SENDING, "clip": 0})},
        {"sending": json.dumps({**SENDING, "clip": True})},
        {"sending": json.dumps({**SENDING, "noise": -1})},
        {"sending": json.dumps({**SENDING, "compression": {}})},
        {"sending": json.dumps({**SENDING, "compression": {"share": 0, "int8": True}})},
        {"sending": json.dumps({**SENDING, "compression": {"share": 1, "int8": 1}})},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(changes: dict[str, str]) -> None:
    parse(edited(), MOST)
    with pytest.raises(ValueError):
        parse(edited(**changes), MOST)


@pytest.mark.parametrize(
    "changes",
    [
        {"clip": None},
        {"clip": 0.0},
        {"clip": float("nan")},
        {"clip": "1"},
        {"noise": float("inf")},
        {"device": "pi 1"},
        {"config": {"a": float("nan")}},
        {"weights": {"w": np.zeros(2)}},
        {"weights": {"__metadata__": np.zeros(2, np.float32)}},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_no_task_whoever_makes_it(changes: dict[str, Any]) -> None:
    """Not only a file of one: a task that never was a file is trained by too."""
    with pytest.raises(ValueError):
        replace(TASK, **changes)


def test_weights_are_float32_and_no_more_than_may_be() -> None:
    _, metadata = tensor_file.parse(dump(TASK))
    with pytest.raises(ValueError, match="float32 must be"):
        parse(tensor_file.dump({"w": np.zeros(2, np.int8)}, metadata), MOST)
    with pytest.raises(ValueError, match="at most"):
        parse(dump(TASK), len(dump(TASK)) - 1)


def test_tasks_are_equal_by_their_bits() -> None:
    assert replace(TASK, weights={"a": np.full(1, np.nan, np.float32)}) == replace(
        TASK, weights={"a": np.full(1, np.nan, np.float32)}
    )
    assert replace(TASK, device="pi-2") != TASK
    assert replace(TASK, config={"epochs": 3.0, "rate": 0.5}) != TASK
    assert TASK != "task"
