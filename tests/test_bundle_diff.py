"""What changes from one bundle to another: real bundles of the digits, in int8 and in float."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from edgekit.bundle import Contents
from edgekit.bundle_diff import ROUNDS, Built, Change, Difference, Sizes, diff, timing
from edgekit.errors import BundleError
from edgekit_runtime import golden
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec
from tests.lab.bundles import DIGITS, contents, make_bundle


@cache
def floats() -> Contents:
    """The digits as they were trained, with other golden vectors: the first four of the others."""
    given = contents()
    vectors = golden.parse(given.golden)[:4]
    manifest = replace(
        given.manifest, precision="float32", sequence=2, verdict={"candidates": [candidate("onnx-float32")]}
    )
    return Contents(manifest, (DIGITS / "digits.onnx").read_bytes(), golden.dump(vectors))


def candidate(name: str) -> dict[str, Any]:
    """As a verdict has it."""
    numbers = {"size_bytes": 9, "accuracy": None, "agreement": 1, "latency_ms": {"p50": 1, "p95": 2.5}}
    return {"name": name, "engine": "onnxruntime", **numbers, "chosen": True}


def slow() -> Callable[[], int]:
    """A clock by which everything takes ten seconds."""
    ticks = count(step=10**10)
    return lambda: next(ticks)


def quick(a: Bundle, b: Bundle) -> Difference:
    """With a single round of timing."""
    return diff(a, b, slow())


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Bundle, Bundle]:
    return make_bundle(tmp_path / "int8"), make_bundle(tmp_path / "float", floats())


def test_what_they_say_and_weigh(pair: tuple[Bundle, Bundle]) -> None:
    found = quick(*pair)
    assert found.changes == (Change("precision", "int8", "float32"), Change("sequence", 1, 2))
    a, b = contents(), floats()
    assert found.sizes == (
        Sizes("model", len(a.model), len(b.model)),
        Sizes("golden", len(a.golden), len(b.golden)),
        Sizes("calibration", len(a.calibration), 0),
    )


def test_what_the_builds_measured(pair: tuple[Bundle, Bundle]) -> None:
    a, b = quick(*pair).measured
    [of_build] = [each for each in contents().manifest.verdict["candidates"] if each["chosen"]]
    assert a
    assert (a.name, a.accuracy, a.p50_ms) == ("onnx-int8", of_build["accuracy"], of_build["latency_ms"]["p50"])
    assert b == Built("onnx-float32", "onnxruntime", 9, None, 1, 1, 2.5)


def test_behaviour_is_what_onnxruntime_gives_for_the_vectors_of_both(pair: tuple[Bundle, Bundle]) -> None:
    of_a, of_b = quick(*pair).behaviour
    for found, owner in ((of_a, contents()), (of_b, floats())):
        inputs = [vector.inputs for vector in golden.parse(owner.golden)]
        ours, theirs = (_logits(each.model, inputs) for each in (contents(), floats()))
        assert found.vectors == len(inputs)
        assert found.agreement == np.mean(ours.argmax(-1) == theirs.argmax(-1))
        assert found.max_abs_error == pytest.approx(np.abs(ours.astype(float) - theirs).max())
    assert (of_a.vectors_of, of_b.vectors_of, of_b.vectors) == ("a", "b", 4)
    assert of_a.max_abs_error > 0


def test_a_bundle_is_no_different_from_itself(pair: tuple[Bundle, Bundle]) -> None:
    found = diff(pair[0], pair[0])
    assert found.changes == ()
    assert {(each.agreement, each.max_abs_error) for each in found.behaviour} == {(1, 0)}
    assert found.timing.rounds >= 1
    assert 0.2 < found.timing.ratio < 5


class TestTiming:
    def test_the_ratio_is_of_the_times_that_the_clock_shows(self) -> None:
        now, calls = [0], list[str]()

        class Serving:
            def __init__(self, name: str, milliseconds: float) -> None:
                self.name, self.takes_ns = name, int(milliseconds * 1e6)

            def predict(self, inputs: dict[str, Any]) -> None:
                calls.append(self.name)
                now[0] += self.takes_ns

        vectors = golden.parse(contents().golden)[:2]
        found = timing((Serving("a", 1), Serving("b", 3)), vectors, lambda: now[0])  # type: ignore[arg-type]
        assert (found.a_p50_ms, found.b_p50_ms, found.ratio, found.ratio_quartiles) == (1, 3, 3, (3, 3))
        assert found.rounds == ROUNDS
        assert "".join(calls) == "ababbaba" * (ROUNDS // 2)

    def test_one_round_is_made_however_slow_it_is(self, pair: tuple[Bundle, Bundle]) -> None:
        assert diff(*pair, clock_ns=slow()).timing.rounds == 1

    def test_which_are_for_another_architecture(self, pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
        other = make_bundle(tmp_path / "other", floats(), arch="riscv64")
        assert quick(*pair).foreign == ()
        assert quick(pair[0], other).foreign == ("b",)


class TestRefusals:
    @pytest.mark.parametrize(
        "change",
        [
            lambda spec: replace(spec, name="picture"),
            lambda spec: replace(spec, dtype="uint8"),
            lambda spec: replace(spec, shape=(None, 8, 8)),
            lambda spec: replace(spec, shape=(None, 1, 8, 9)),
        ],
    )
    def test_other_inputs_are_one_line(
        self, pair: tuple[Bundle, Bundle], tmp_path: Path, change: Callable[[TensorSpec], TensorSpec]
    ) -> None:
        interface = contents().manifest.interface
        other = make_bundle(tmp_path / "b", interface=replace(interface, inputs=(change(interface.inputs[0]),)))
        with pytest.raises(BundleError, match="take other inputs") as raised:
            quick(pair[0], other)
        assert str(tmp_path / "b") in str(raised.value)
        assert "\n" not in str(raised.value)

    def test_an_input_that_takes_any_batch_fits_one_that_takes_one(
        self, pair: tuple[Bundle, Bundle], tmp_path: Path
    ) -> None:
        interface = contents().manifest.interface
        one = replace(interface.inputs[0], shape=(1, *interface.inputs[0].shape[1:]))
        other = make_bundle(tmp_path / "b", interface=replace(interface, inputs=(one,)))
        assert quick(pair[0], other).changes == (Change("interface.inputs.0.shape", [None, 1, 8, 8], [1, 1, 8, 8]),)

    def test_raw_images_are_other_inputs_than_prepared_ones(self, pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
        steps = {"image": Preprocess(scale=1 / 16, layout="NCHW")}
        other = make_bundle(tmp_path / "b", interface=replace(contents().manifest.interface, preprocess=steps))
        with pytest.raises(BundleError, match="take other inputs"):
            quick(pair[0], other)

    def test_a_bundle_without_golden_vectors(self, pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="has no golden vectors"):
            quick(pair[0], make_bundle(tmp_path / "b", replace(contents(), golden=golden.dump([]))))

    @pytest.mark.parametrize("candidates", [3, [3], [{"chosen": True}], [{**candidate("a"), "agreement": "all"}]])
    def test_a_verdict_that_cannot_be_read(self, pair: tuple[Bundle, Bundle], tmp_path: Path, candidates: Any) -> None:
        other = make_bundle(tmp_path / "b", floats(), verdict={"candidates": candidates})
        with pytest.raises(BundleError, match="its verdict cannot be read"):
            quick(pair[0], other)

    def test_one_that_says_nothing_of_what_was_measured(self, pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
        assert quick(pair[0], make_bundle(tmp_path / "b", floats(), verdict={})).measured[1] is None


def test_outputs_of_another_shape_are_no_number_of_json(pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    model = onnx.load_from_string(floats().model)
    model.graph.node.append(helper.make_node("Transpose", ["logits"], ["turned"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("turned", TensorProto.FLOAT, [10, None]))
    interface = contents().manifest.interface
    turned = replace(interface.outputs[0], tensor="turned", shape=(10, None))
    given = replace(floats(), model=model.SerializeToString())
    found = quick(pair[0], make_bundle(tmp_path / "b", given, interface=replace(interface, outputs=(turned,))))
    document = found.as_dict()
    assert [each["max_abs_error"] for each in document["behaviour"]] == [None, None]
    assert [each["agreement"] for each in document["behaviour"]] == [0, 0]
    json.dumps(document, allow_nan=False)


def _logits(model: bytes, inputs: list[dict[str, Any]]) -> Any:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], each)[0] for each in inputs])
