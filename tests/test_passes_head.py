"""What a device learns of its own samples comes back as the next build: the whole way, on this host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit import target as targets
from edgekit.build import Outcome, build
from edgekit.building.order import Order
from edgekit.model import Format, Model, open_model
from edgekit.passes import head
from edgekit.precision import Precision
from edgekit_runtime.session import Session
from edgekit_train import features
from edgekit_train.head_trainer import HeadTrainer
from edgekit_train.trainer import added
from tests.lab.models import DIGITS, RESNET8_INT8, digits_order, shared

GAIN = 0.6
"""The least that the rebuilt model is better on digits that the first was not made for: from 0.18 to 0.98 here."""


def negatives(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Negatives of the digits; 200 to learn from, 200 to be judged by."""
    with np.load(DIGITS / "evaluation.npz") as data:
        x, y = 1 - data["x"], data["labels"]
    np.savez(folder / "calibration.npz", x=x[:200])
    np.savez(folder / "evaluation.npz", x=x[200:], labels=y[200:])
    return x[:200], y[:200]


def built(model: Model, order: Order) -> Outcome:
    return build(model, targets.load("pi"), order, lambda line: None)


def served(outcome: Outcome) -> Session:
    made = outcome.contents
    assert made is not None, outcome.verdict
    return Session(made.model, made.manifest.interface, made.manifest.engines)


def accuracy(session: Session, folder: Path) -> float:
    with np.load(folder / "evaluation.npz") as data:
        answers = [next(iter(session.predict(x[None]).values())).argmax() for x in data["x"]]
        return float(np.mean(answers == data["labels"]))


def test_what_no_round_can_begin_with_is_told(tmp_path: Path) -> None:
    source = open_model(DIGITS / "digits.onnx")
    assert head.unreadable(source) == ""
    assert head.unreadable(replace(source, format=Format.KERAS)) == (
        "digits.onnx: a head is merged into ONNX or TFLite, not into keras — export it to ONNX"
    )
    assert head.unreadable(replace(source, format=Format.SAVED_MODEL, trains=True)) == ""  # it begins with signatures


@pytest.mark.slow
@pytest.mark.parametrize("ir_version", [3, 8])
def test_weights_that_are_inputs_besides_are_weights(ir_version: int, tmp_path: Path) -> None:
    """As exporters had to write them once, and some still do: the model is built, and its head comes back."""
    document = onnx.load(DIGITS / "digits.onnx")
    for tensor in document.graph.initializer:
        value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        document.graph.input.append(value)
    document.ir_version = ir_version
    onnx.save(document, tmp_path / "old.onnx")
    source = open_model(tmp_path / "old.onnx")
    merged = head.merged(source, head.weights_of(source), tmp_path / "merged.onnx")
    for each in (source, merged):
        assert [spec.name for spec in each.inputs] == ["image"]
        order = digits_order(precisions=(Precision.INT8,), features=True)
        assert [spec.name for spec in served(built(each, order)).interface.inputs] == ["image"]


@pytest.mark.slow
def test_a_build_with_features_says_when_no_round_can_have_them(tmp_path: Path) -> None:
    """Not only the first round, when the release is on all devices."""
    source, order = open_model(DIGITS / "digits.onnx"), digits_order(precisions=(Precision.INT8,), features=True)
    assert not [line for line in built(source, order).verdict.notes if "round" in line]
    calibration, evaluation = RESNET8_INT8.data(tmp_path)
    order = Order("cifar", "1", calibration, evaluation, tmp_path, 1, features=True)
    quantized = open_model(shared(RESNET8_INT8.model))
    told = (
        "devices can train on its features by themselves, but in no round: resnet8_cifar10_int8.tflite: its last layer"
        " is no matrix of floats — give the float model"
    )
    assert told in built(quantized, order).verdict.notes
    assert not [line for line in built(quantized, replace(order, features=False)).verdict.notes if "round" in line]


@pytest.mark.slow
def test_what_was_learned_on_int8_features_is_merged_into_the_float_source_and_built_again(tmp_path: Path) -> None:
    x, y = negatives(tmp_path)
    order = digits_order(precisions=(Precision.INT8,), formats=(Format.ONNX,), features=True)
    source = open_model(DIGITS / "digits.onnx")
    session, trainer = served(built(source, order)), HeadTrainer()
    start = head.weights_of(source)
    samples = features.samples(session, ((one[None], int(label)) for one, label in zip(x, y, strict=True)))
    fitted = trainer.fit(start, samples, {"epochs": 20})
    merged = head.merged(source, added(start, fitted.delta), tmp_path / "merged.onnx")
    data = {"calibration": "calibration.npz", "evaluation": "evaluation.npz", "base": tmp_path}
    rebuilt = built(merged, replace(order, **data))
    assert rebuilt.contents is not None
    assert rebuilt.contents.manifest.provenance["passes"][0] == "merge-head"
    assert rebuilt.contents.manifest.interface.features == replace(
        session.interface.features,
        **_numbers(served(rebuilt)),  # type: ignore[type-var]
    )
    assert accuracy(served(rebuilt), tmp_path) > accuracy(session, tmp_path) + GAIN


def _numbers(session: Session) -> dict[str, float]:
    """The new calibration has its own scale."""
    told = session.interface.features
    assert told is not None
    return {"scale": told.scale, "zero_point": told.zero_point}
