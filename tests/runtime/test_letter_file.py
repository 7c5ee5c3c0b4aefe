"""Letters: what is written is read again, and what is none is told as that."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_train import tensor_file
from edgekit_train.letter_file import FORMAT, dump, parse
from edgekit_train.letters import Advert, Confirmed, Masked, Opened, Shares
from edgekit_train.shamir import PRIME
from tests.runtime.values import GARBAGE, WORD, almost

MOST = 1 << 20
ROUNDS, KEYS = st.from_regex(r"[0-9a-f]{32}", fullmatch=True), st.binary(max_size=80)
SHARES = st.dictionaries(WORD, st.integers(0, PRIME - 1), max_size=3)
VECTORS = st.lists(st.integers(0, (1 << 32) - 1), max_size=5).map(lambda numbers: np.array(numbers, np.uint32))
LETTERS = st.one_of(
    st.builds(Advert, ROUNDS, WORD, KEYS, KEYS, KEYS),
    st.builds(Shares, ROUNDS, WORD, st.dictionaries(WORD, KEYS, max_size=3), KEYS),
    st.builds(Masked, ROUNDS, WORD, VECTORS),
    st.builds(Confirmed, ROUNDS, WORD, KEYS),
    st.builds(Opened, ROUNDS, WORD, SHARES, SHARES),
)


def plain(letter: Any) -> dict[str, Any]:
    return {key: value.tolist() if key == "vector" else value for key, value in vars(letter).items()}


@settings(deadline=None)
@given(LETTERS)
def test_what_is_written_is_read_again(letter: Any) -> None:
    read = parse(dump(letter), MOST)
    assert type(read) is type(letter)
    assert plain(read) == plain(letter)


@settings(deadline=None)
@given(LETTERS, st.data())
def test_what_is_almost_one_is_read_or_refused(letter: Any, data: st.DataObject) -> None:
    whole = dump(letter)
    with pytest.raises(ValueError):
        parse(whole[: data.draw(st.integers(0, len(whole) - 1))], MOST)
    tensors, metadata = tensor_file.parse(whole)
    changed = data.draw(almost(json.loads(metadata["letter"])))
    with contextlib.suppress(ValueError):
        parse(tensor_file.dump(tensors, {**metadata, "letter": changed}), MOST)
    place = data.draw(st.integers(0, len(whole) - 1))
    with contextlib.suppress(ValueError):
        parse(whole[:place] + data.draw(st.binary(min_size=1, max_size=1)) + whole[place + 1 :], MOST)


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({}, {}),
        ({}, {"format": FORMAT, "kind": "other", "letter": "{}"}),
        ({}, {"format": FORMAT, "kind": "masked", "letter": json.dumps({"round": "0" * 32, "device": "pi"})}),
        (
            {"vector": np.zeros((1, 1), np.uint32)},
            {"format": FORMAT, "kind": "masked", "letter": json.dumps({"round": "0" * 32, "device": "pi"})},
        ),
        (
            {"vector": np.zeros(1, np.float32)},
            {"format": FORMAT, "kind": "masked", "letter": json.dumps({"round": "0" * 32, "device": "pi"})},
        ),
    ],
)
def test_what_is_none_is_refused(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        parse(tensor_file.dump(tensors, metadata), MOST)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError):
        parse(garbage, MOST)


def test_a_letter_has_a_bound() -> None:
    data = dump(Masked("0" * 32, "pi", np.zeros(100, np.uint32)))
    with pytest.raises(ValueError, match="at most"):
        parse(data, len(data) - 1)
