"""Rows of several calls in one run: of real models, those whose rows are strangers and those whose are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit_runtime.errors import EngineError, InvalidInput
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session
from edgekit_runtime.tensors import TensorSpec
from edgekit_server.batching import Arrays, answers, kind_of, rows_are_strangers, split
from tests.runtime.bundles import INTERFACE, linear, onnx_bytes, samples, tensor, tflite_contents, weights

INPUTS = [{"x": x} for x in samples()]


def session_of(model: bytes, interface: Interface = INTERFACE, engine: str = "onnxruntime") -> Session:
    return Session(model, interface, (EngineNeed(engine),))


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with session_of(linear(1)) as made:
        yield made


def across_rows(operator: str) -> bytes:
    node = helper.make_node(operator, ["x"], ["y"], axis=0)
    return onnx_bytes([node], [tensor("x", None, 4)], [tensor("y", None, 4)])


class TestKind:
    def test_calls_that_differ_in_rows_only_are_of_one(self) -> None:
        one, four = (kind_of({"x": np.zeros((rows, 4), np.float32)}, INTERFACE) for rows in (1, 4))
        assert one[0] == four[0] is not None
        assert (one[1], four[1]) == (1, 4)

    def test_another_shape_or_dtype_is_another(self) -> None:
        arrays: list[Any] = [np.zeros((1, 4), np.float32), np.zeros((1, 5), np.float32), np.zeros((1, 4), np.float64)]
        assert len({kind_of({"x": array}, INTERFACE)[0] for array in arrays}) == 3

    @pytest.mark.parametrize(
        "inputs",
        [
            {"x": np.zeros(4, np.float32)},  # its batch axis is added later, or it is wrong
            {"x": np.zeros((), np.float32)},
            {"z": np.zeros((1, 4), np.float32)},
            {"x": np.zeros((1, 4), np.float32), "z": np.zeros((1, 4), np.float32)},
            {},
        ],
    )
    def test_what_has_no_batch_axis_or_is_wrong_runs_alone(self, inputs: Any) -> None:
        assert kind_of(inputs, INTERFACE) == (None, 1)

    def test_inputs_with_different_rows_run_alone(self) -> None:
        two = Interface((*INTERFACE.inputs, TensorSpec("z", "float32", (None,))), INTERFACE.outputs)
        given = {"x": np.zeros((1, 4), np.float32), "z": np.zeros(2, np.float32)}
        assert kind_of(given, two) == (None, 1)


class TestStrangers:
    def test_those_of_a_linear_model(self, session: Session) -> None:
        assert rows_are_strangers(session.predict, INPUTS)

    @pytest.mark.parametrize(
        "model",
        [
            across_rows("Softmax"),
            across_rows("LpNormalization"),
            onnx_bytes(
                [helper.make_node("ReduceMax", ["x"], ["m"]), helper.make_node("Div", ["x", "m"], ["y"])],
                [tensor("x", None, 4)],
                [tensor("y", None, 4)],
            ),
        ],
        ids=["softmax over rows", "norm over rows", "scaled by the largest"],
    )
    def test_not_where_the_model_looks_at_all_rows(self, model: bytes) -> None:
        interface = Interface(INTERFACE.inputs, (TensorSpec("y", "float32", (None, 4)),))
        with session_of(model, interface) as mixing:
            assert not rows_are_strangers(mixing.predict, INPUTS)

    def test_not_where_the_answer_has_no_rows(self) -> None:
        node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
        model = onnx_bytes([node], [tensor("x", None, 4)], [tensor("y")])
        with session_of(model, Interface(INTERFACE.inputs, (TensorSpec("y", "float32", ()),))) as sums:
            assert not rows_are_strangers(sums.predict, INPUTS)

    def test_not_where_the_batch_is_fixed(self) -> None:
        interface = Interface((TensorSpec("x", "float32", (1, 4)),), INTERFACE.outputs)
        with session_of(linear(1), interface) as fixed:
            assert not rows_are_strangers(fixed.predict, INPUTS)

    @pytest.mark.parametrize("given", [[], INPUTS[:1], [INPUTS[0]] * 3, [{"x": INPUTS[0]["x"]}, {"z": INPUTS[1]["x"]}]])
    def test_it_is_not_known_by_samples_that_do_not_differ_or_fit(self, session: Session, given: list[Arrays]) -> None:
        assert not rows_are_strangers(session.predict, given)

    def test_those_of_a_real_model_of_litert(self) -> None:
        manifest = tflite_contents("litert").manifest
        (spec,) = manifest.interface.inputs
        sizes = [size or 1 for size in spec.shape]
        given = [{spec.name: np.random.default_rng(seed).random(sizes).astype(np.float32) * 255} for seed in range(3)]
        with session_of(tflite_contents("litert").model, manifest.interface, "litert") as real:
            assert rows_are_strangers(real.predict, given)


class TestAnswers:
    def test_each_call_gets_its_own(self, session: Session) -> None:
        calls = [{"x": np.repeat(given["x"], rows, 0)} for rows, given in enumerate(INPUTS, 1)]
        for call, answer in zip(calls, answers(session.predict, calls), strict=True):
            assert isinstance(answer, dict)
            np.testing.assert_allclose(answer["y"], call["x"] @ weights(1), rtol=1e-5)

    def test_they_were_one_run(self, session: Session) -> None:
        runs: list[int] = []

        def predict(inputs: Arrays) -> Arrays:
            runs.append(len(inputs["x"]))
            return session.predict(inputs)

        answers(predict, INPUTS)
        assert runs == [4]

    def test_an_error_is_that_of_the_call_that_causes_it(self) -> None:
        table = np.arange(12, dtype=np.float32).reshape(4, 3)
        node = helper.make_node("Gather", ["table", "x"], ["y"])
        model = onnx_bytes(
            [node],
            [tensor("x", None, kind=TensorProto.INT64)],
            [tensor("y", None, 3)],
            numpy_helper.from_array(table, "table"),
        )
        interface = Interface((TensorSpec("x", "int64", (None,)),), INTERFACE.outputs)
        with session_of(model, interface) as lookup:
            one, bad, two = answers(lookup.predict, [{"x": np.array([index])} for index in (1, 99, 2)])
        assert isinstance(bad, EngineError)
        assert isinstance(one, dict) and isinstance(two, dict)
        np.testing.assert_array_equal(np.concatenate([one["y"], two["y"]]), table[1:3])

    def test_one_call_runs_as_it_is(self, session: Session) -> None:
        (answer,) = answers(session.predict, [{"x": np.zeros(4, np.float32)}])
        assert isinstance(answer, InvalidInput)


def test_outputs_without_a_row_for_each_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="'y' has not 3 rows"):
        split({"y": np.zeros((2, 3))}, [1, 2])
