"""What a bundle says of when two answers agree."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime.agreement import Agreement
from edgekit_runtime.interface import Interface
from tests.runtime.bundles import INTERFACE
from tests.runtime.values import agreements, almost, interfaces

BOXES = Agreement("boxes", scores="s", classes="c")


@given(agreements(st.text(max_size=5)))
def test_it_comes_back_from_json(how: Agreement) -> None:
    assert Agreement.of(json.loads(json.dumps(how.as_dict()))) == how


@given(st.data(), agreements(st.text(max_size=5)))
def test_what_is_almost_one_is_refused_with_an_error_that_is_expected(data: st.DataObject, how: Agreement) -> None:
    with suppress(ValueError, TypeError, KeyError):
        Agreement.of(json.loads(data.draw(almost(how.as_dict()))))


@pytest.mark.parametrize(
    "change", [{"by": "iou"}, {"by": None}, {"axis": 8}, {"axis": 0.5}, {"corners": "xy"}, {"columns": ""}, {"more": 1}]
)
def test_what_is_none_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Agreement.of({**BOXES.as_dict(), **change})


def test_only_boxes_take_other_outputs() -> None:
    assert BOXES.takes == ("s", "c")
    assert Agreement("boxes", scores="s").takes == ("s",)
    assert Agreement("kl", scores="s").takes == ()


@given(interfaces())
def test_a_bundle_of_an_earlier_build_declares_none(interface: Interface) -> None:
    document = interface.as_dict()
    del document["agreement"]
    assert Interface.of(document).agreement == {}


@pytest.mark.parametrize("declared", [{"z": Agreement("kl")}, {"y": BOXES}, {"y": "kl"}, []])
def test_an_output_that_there_is_not_is_refused(declared: dict[str, Agreement]) -> None:
    told = {name: how.as_dict() if isinstance(how, Agreement) else how for name, how in dict(declared).items()}
    with pytest.raises(ValueError):
        Interface.of({**INTERFACE.as_dict(), "agreement": told or declared})
