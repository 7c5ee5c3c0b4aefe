"""A postprocess: its form as JSON, what is refused, and what it gives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit_postprocess as module
from edgekit_postprocess import MOST_NUMBERS, MOST_STEPS, Constant, Postprocess, Step
from edgekit_runtime.errors import EngineError
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed, Manifest, ProofLimits, dump, parse
from edgekit_runtime.tensors import TensorSpec
from tests.runtime.values import almost

HEADS = (
    TensorSpec("boxes", "float32", (None, 2, 4), "file:0"),
    TensorSpec("scores", "float32", (None, 1, 2), "file:1"),
)
NUMBERS = {
    "most": Constant("int64", (1,), (5,)),
    "iou": Constant("float32", (), (0.5,)),
    "column": Constant("int64", (), (2,)),
}
END = Postprocess(
    HEADS,
    (
        Step("NonMaxSuppression", ("boxes", "scores", "most", "iou", ""), ("rows",), {"center_point_box": 0}),
        Step("Gather", ("rows", "column"), ("places",), {"axis": 1}),
        Step("TopK", ("scores", "most_of_two"), ("", "best"), {"axis": -1}),
    ),
    {**NUMBERS, "most_of_two": Constant("int64", (1,), (1,))},
)
OUTPUTS = (TensorSpec("kept", "int64", (None,), "places"), TensorSpec("raw", "float32", (None, 1, 2), "scores"))
INTERFACE = Interface((TensorSpec("x", "float32", (None, 3)),), OUTPUTS, postprocess=END)
BOXES = np.asarray([[[0, 0, 4, 4], [0, 0, 4, 5]]], np.float32)
SCORES = np.asarray([[[0.25, 0.75]]], np.float32)

names = st.sampled_from(["boxes", "scores"])
values = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
steps = st.lists(
    st.builds(lambda a, b, axis: Step("Concat", (a, b), ("",), {"axis": axis}), names, names, st.integers(-3, 3))
    | st.builds(
        lambda a, perm: Step("Transpose", (a,), ("",), {"perm": tuple(perm)}), names, st.lists(st.integers(0, 3))
    )
    | st.builds(lambda a, to: Step("Cast", (a,), ("",), {"to": to}), names, st.sampled_from(["int32", "float16"])),
    max_size=4,
)
constants = st.dictionaries(
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=8),
    st.lists(values, max_size=4).map(lambda each: Constant("float64", (len(each),), tuple(each))),
    max_size=3,
)


@settings(deadline=None)
@given(st.builds(lambda s, c: Postprocess(HEADS, tuple(s), c), steps, constants))
def test_of_gives_what_as_dict_wrote(found: Postprocess) -> None:
    assert Postprocess.of(json.loads(json.dumps(found.as_dict()))) == found


@settings(deadline=None)
@given(almost(INTERFACE.as_dict()))
def test_almost_an_interface_is_read_exactly_or_refused(text: str) -> None:
    try:
        found = Interface.of(json.loads(text))
    except (ValueError, TypeError, KeyError):
        return
    assert Interface.of(found.as_dict()) == found


def test_it_travels_in_a_manifest() -> None:
    whole = Manifest(
        "app", "1", 1, "pi", "aarch64", "onnx", "int8", (EngineNeed("e"),), INTERFACE, ProofLimits(1, 1, 1)
    )
    assert parse(dump(whole)) == whole


def test_a_bundle_of_an_earlier_build_has_none() -> None:
    document = Interface(INTERFACE.inputs, OUTPUTS).as_dict()
    assert "postprocess" not in document
    assert Interface.of(document).postprocess is None


def test_predict_gives_the_outputs_of_the_source_in_its_names_and_order() -> None:
    results = INTERFACE.results({"file:0": BOXES, "file:1": SCORES})
    assert list(results) == ["kept", "raw"]
    assert results["kept"].tolist() == [1]
    assert results["raw"] is SCORES


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([Step("Loop", ("boxes",), ("y",))], "no operator 'Loop'"),
        ([Step("Add", ("boxes",), ("y",))], "Add"),
        ([Step("Add", ("boxes", "boxes", "boxes"), ("y",))], "Add"),
        ([Step("Concat", ("boxes",), ("y",), {"axes": 1})], "Concat"),
        ([Step("Exp", ("places",), ("y",))], "'places', which there is not yet"),
        ([Step("Exp", ("y",), ("z",)), Step("Exp", ("boxes",), ("y",))], "'y', which there is not yet"),
        ([Step("Exp", ("boxes",), ("y",))] * (MOST_STEPS + 1), f"{MOST_STEPS + 1} steps"),
    ],
)
def test_steps_that_cannot_be_are_refused(steps: list[Step], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Postprocess.of(Postprocess(HEADS, tuple(steps)).as_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "object"},
        {"dtype": "str"},
        {"shape": [2]},
        {"shape": [-1]},
        {"shape": [2**62, 2**62]},
        {"numbers": [float("nan")]},
        {"numbers": ["1"]},
        {"numbers": [True]},
        {"numbers": 1},
    ],
)
def test_a_constant_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Constant.of({**NUMBERS["most"].as_dict(), **change})


def test_more_constants_than_it_may_have_are_refused() -> None:
    many = Constant("int64", (MOST_NUMBERS + 1,), (0,) * (MOST_NUMBERS + 1))
    with pytest.raises(ValueError, match="constant numbers"):
        Postprocess(HEADS, (), {"many": many}).check()


def test_outputs_that_it_does_not_give_are_refused() -> None:
    document = INTERFACE.as_dict()
    document["outputs"][0]["tensor"] = "rowses"
    with pytest.raises(ValueError, match="gives no 'rowses'"):
        Interface.of(document)


@pytest.mark.parametrize(
    "step",
    [
        Step("Gather", ("boxes", "column"), ("y",), {"axis": 1}),
        Step("Transpose", ("boxes",), ("y",), {"perm": (0, 0, 9)}),
        Step("Cast", ("boxes",), ("y",), {"to": "object"}),
        Step("Concat", ("boxes", "scores"), ("y",), {"axis": 0}),
        Step("Reshape", ("boxes", "most"), ("y",)),
        Step("TopK", ("boxes", "most"), ("y", "z", "more")),
        Step("Concat", ("boxes",), ("y",), {"axis": "0"}),
    ],
    ids=lambda step: str(step.op),
)
def test_a_step_that_fails_is_an_engine_s_error(step: Step) -> None:
    with pytest.raises(EngineError, match=f"the postprocess stops at {step.op}"):
        Postprocess(HEADS, (step,), NUMBERS).run({"file:0": BOXES, "file:1": SCORES})


def test_what_all_steps_make_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 15)
    with pytest.raises(EngineError, match="more than 15 numbers, at Neg"):
        Postprocess(HEADS, (Step("Exp", ("boxes",), ("y",)), Step("Neg", ("y",), ("z",)))).run(
            {"file:0": BOXES, "file:1": SCORES}
        )


def test_an_output_that_the_artifact_lacks_is_an_engine_s_error() -> None:
    with pytest.raises(EngineError, match="no output 'file:1'"):
        END.run({"file:0": BOXES})
