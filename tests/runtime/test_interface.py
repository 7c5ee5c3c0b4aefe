"""What a model takes and gives: its form as JSON, and which arrays it lets through."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from edgekit_postprocess import Postprocess
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.errors import EngineError, IncompatibleTarget, InvalidInput
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec, fits
from tests.runtime.values import GARBAGE, STEPS, almost, interfaces

IMAGE = TensorSpec("image", "float32", (None, 8, 6, 3), "serving:0")
TWO = Interface((IMAGE, TensorSpec("scale", "float32", (1,))), (TensorSpec("y", "float32", (None, 2), "out:0"),))
DOCUMENT = Interface(TWO.inputs, TWO.outputs, {"image": Preprocess((8, 6), (8, 6))}).as_dict()


@settings(deadline=None)
@given(interfaces())
def test_of_gives_what_as_dict_wrote(interface: Interface) -> None:
    assert Interface.of(json.loads(json.dumps(interface.as_dict()))) == interface


@given(STEPS)
def test_a_step_is_read_as_it_was_written(step: Preprocess) -> None:
    assert Preprocess.of(json.loads(json.dumps(step.as_dict()))) == step


@settings(deadline=None)
@given(almost(DOCUMENT))
def test_almost_an_interface_is_read_exactly_or_refused(text: str) -> None:
    try:
        found = Interface.of(json.loads(text))
    except (ValueError, TypeError, KeyError):
        return
    assert Interface.of(found.as_dict()) == found


@pytest.mark.parametrize("data", GARBAGE, ids=lambda data: repr(data[:12]))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, RecursionError)):
        Interface.of(json.loads(data))


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [-1, 3]},
        {"shape": [1.5]},
        {"shape": [True]},
        {"shape": "abc"},
        {"shape": [2**63]},
        {"dtype": "object"},
        {"dtype": "float31"},
        {"dtype": ["float32"]},
        {"name": 5},
        {"tensor": None},
        {"more": 1},
    ],
)
def test_a_tensor_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        TensorSpec.of({**IMAGE.as_dict(), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"resize": [0]},
        {"resize": [1, 2, 3]},
        {"resize": "88"},
        {"resize": [-4, 4]},
        {"crop": [5]},
        {"color": "grey"},
        {"layout": "CHWN"},
        {"dtype": "image"},
        {"mean": []},
        {"std": []},
        {"std": [1.0, 0.0]},
        {"std": [float("nan")]},
        {"scale": float("inf")},
        {"scale": "1"},
        {"scale": True},
        {"more": 1},
    ],
)
def test_a_step_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Preprocess.of({**Preprocess().as_dict(), **change})


@pytest.mark.parametrize("part", ["inputs", "outputs"])
@pytest.mark.parametrize("specs", [[], [IMAGE.as_dict(), IMAGE.as_dict()]], ids=["none", "two of one name"])
def test_tensors_have_names_of_their_own(part: str, specs: list[Any]) -> None:
    with pytest.raises(ValueError, match="tensors"):
        Interface.of({**DOCUMENT, part: specs})


def test_a_step_for_no_input_is_refused() -> None:
    with pytest.raises(ValueError, match="no input"):
        Interface.of({**DOCUMENT, "preprocess": {"picture": Preprocess().as_dict()}})


class TestFits:
    @pytest.mark.parametrize(
        ("wanted", "shape", "does"),
        [
            ((None, 3), (1, 3), True),
            ((None, 3), (7, 3), True),
            ((2, 3), (2, 3), True),
            ((), (), True),
            ((None, 3), (0, 3), False),
            ((None, 3), (1, 4), False),
            ((None, 3), (1, 3, 1), False),
            ((None, 3), (3,), False),
            ((2,), (1,), False),
        ],
    )
    def test_none_is_any_size_but_zero(
        self, wanted: tuple[int | None, ...], shape: tuple[int, ...], does: bool
    ) -> None:
        assert fits(wanted, shape) is does


class TestFeeds:
    IMAGES = np.zeros((2, 8, 6, 3), np.float32)
    SCALE = np.ones(1, np.float32)

    def test_arrays_go_under_the_artifact_s_names_untouched(self) -> None:
        feeds = TWO.feeds({"scale": self.SCALE, "image": self.IMAGES})
        assert list(feeds) == ["serving:0", "scale"]
        assert feeds["serving:0"] is self.IMAGES

    @pytest.mark.parametrize(
        ("array", "message", "hint"),
        [
            (IMAGES.astype(np.float64), "got dtype float64", "convert it with .astype('float32')"),
            (IMAGES.astype(">f4"), "got dtype >f4", "convert it with .astype('float32')"),
            (IMAGES.astype(np.uint8), "got dtype uint8", "convert it with .astype('float32')"),
            (IMAGES[0], r"got shape \[8, 6, 3\]", "add the batch dimension: x[numpy.newaxis]"),
            (IMAGES.transpose(0, 3, 1, 2), r"got shape \[2, 3, 8, 6\]", "reorder its axes: x.transpose(0, 2, 3, 1)"),
            (IMAGES.transpose(0, 2, 1, 3), r"got shape \[2, 6, 8, 3\]", "reorder its axes: x.transpose(0, 2, 1, 3)"),
            (IMAGES[:, :4], r"got shape \[2, 4, 6, 3\]", "bring it to [N, 8, 6, 3]"),
            (IMAGES[:0], r"got shape \[0, 8, 6, 3\]", "bring it to [N, 8, 6, 3]"),
            (np.zeros(()), "got dtype float64", "convert it with .astype('float32')"),
            (np.zeros((1,) * 12, np.float32), "got shape", "bring it to [N, 8, 6, 3]"),
            ([[1.0]], "is a list", "give a numpy array"),
            (None, "is a NoneType", "give a numpy array"),
        ],
    )
    def test_what_does_not_fit_is_refused_with_a_way_out(self, array: Any, message: str, hint: str) -> None:
        with pytest.raises(InvalidInput, match=f"input '?image.*{message}") as caught:
            TWO.feeds({"image": array, "scale": self.SCALE})
        assert caught.value.hint == hint

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ({"image": IMAGES}, "input 'scale' is missing"),
            ({}, "input 'image' is missing"),
            ({"image": IMAGES, "scale": SCALE, "picture": IMAGES}, "input 'picture' is unknown"),
            ({"image": IMAGES, "scale": SCALE, 5: IMAGES}, "input 5 is unknown"),
            (IMAGES, "the model has several inputs"),
        ],
    )
    def test_the_names_must_be_the_model_s(self, inputs: Any, message: str) -> None:
        with pytest.raises(InvalidInput, match=message) as caught:
            TWO.feeds(inputs)
        assert "image, scale" in (caught.value.hint or "")

    def test_outputs_come_back_under_the_source_s_names(self) -> None:
        assert TWO.results({"other": self.SCALE, "out:0": self.IMAGES}) == {"y": self.IMAGES}

    def test_an_output_that_the_artifact_lacks_is_an_engine_s_error(self) -> None:
        with pytest.raises(EngineError, match="no output 'out:0'"):
            TWO.results({"y": self.IMAGES})


class TestEnds:
    """Where the distribution that computes them is not installed."""

    PLAIN = Interface((TensorSpec("x", "float32", (1, 3)),), (TensorSpec("y", "float32", (1, 3)),))
    COMPUTED = replace(PLAIN, postprocess=Postprocess((TensorSpec("y", "float32", (1, 3)),), ()))
    JUDGED = replace(PLAIN, agreement={"y": Agreement("boxes")})

    @pytest.mark.parametrize("interface", [COMPUTED, JUDGED], ids=["computed", "judged"])
    def test_a_bundle_with_one_is_refused_with_a_way_out(
        self, interface: Interface, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert interface.has_ends
        document = interface.as_dict()
        monkeypatch.setitem(sys.modules, "edgekit_postprocess", None)
        with pytest.raises(IncompatibleTarget) as error:
            Interface.of(document)
        assert str(error.value) == (
            "the bundle has the end of a detector, and edgekit-postprocess is not installed here — "
            "'edgekit device setup' brings it"
        )
        assert Interface.of(self.PLAIN.as_dict()) == self.PLAIN
