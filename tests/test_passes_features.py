from __future__ import annotations

from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit import target as targets
from edgekit.build import build
from edgekit.building.order import Order
from edgekit.building.step_cache import StepCache
from edgekit.errors import ConversionError
from edgekit.model import Format, Model, open_model
from edgekit.passes import clean_onnx, features, features_tflite, quantize_onnx, quantize_tflite
from edgekit.passes.proof import load
from edgekit.passes.qoperator_onnx import to_qoperator
from edgekit.precision import Precision, Quantization
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session
from edgekit_train.features import rows as rows_of
from tests.lab.models import (
    DIGITS,
    RESNET8,
    RESNET8_INT8,
    RESNET20,
    VWW,
    Task,
    context,
    digits_order,
    onnx_model,
    shared,
)
from tests.test_passes_fold_colours import BUILTIN, tflite

RNG = np.random.default_rng(11)
ENGINES = {Format.ONNX: "onnxruntime", Format.TFLITE: "litert"}


def order_of(task: Task, folder: Path) -> Order:
    calibration, evaluation = task.data(folder)
    return Order("app", "", calibration, evaluation, folder, 1, preprocess=task.preprocess)


def exposed(source: Model, order: Order, folder: Path) -> Model:
    (folder / "work").mkdir()
    return features.run(source, context(folder / "work", "pi", order))


def session_of(model: Model, order: Order) -> Session:
    return Session(model.path.read_bytes(), model.interface(order.preprocess, {}), [EngineNeed(ENGINES[model.format])])


def test_float_features_and_the_head_give_the_logits(tmp_path: Path) -> None:
    order, source = order_of(RESNET20, tmp_path), open_model(shared(RESNET20.model))
    made = exposed(source, order, tmp_path)
    assert made.features is not None
    assert made.features.size == 64
    assert made.outputs == source.outputs
    engine, weights = load(made), {t.name: numpy_helper.to_array(t) for t in onnx.load(made.path).graph.initializer}
    for feed in islice(context(tmp_path, "pi", order).feeds(made), 4):
        raw = engine.run(feed)
        logits = rows_of(made.features, raw) @ weights["linear.weight"].T + weights["linear.bias"]
        assert np.allclose(logits, raw["logits"], atol=1e-4)


@pytest.mark.parametrize(
    ("task", "size"),
    [(RESNET8_INT8, 64), (RESNET8, 64), (VWW, 256), (replace(VWW, model=VWW.model.replace("float32", "int8")), 256)],
    ids=["resnet8-int8", "resnet8", "vww", "vww-int8"],
)
def test_tflite_models_of_others_show_theirs_and_answer_as_before(task: Task, size: int, tmp_path: Path) -> None:
    source = open_model(shared(task.model))
    order = order_of(task, tmp_path)
    if source.quantized and task.preprocess:
        order = replace(order, preprocess={})
        taken = source.inputs[0]
        rng = np.random.default_rng(0)
        data = rng.integers(-128, 128, (4, *taken.shape[1:])).astype(np.int8)
        np.savez(tmp_path / "raw.npz", **{taken.name: data})
        order = replace(order, calibration="raw.npz", evaluation="raw.npz")
    made = exposed(source, order, tmp_path)
    assert made.features is not None
    assert made.features.size == size
    assert (made.features.scale != 1.0) == source.quantized
    before, after = load(source), load(made)
    feed = next(context(tmp_path, "pi", order).feeds(made))
    name = source.outputs[0].inner
    assert np.array_equal(before.run(feed)[name], after.run(feed)[name])
    rows = rows_of(made.features, after.run(feed))
    assert rows.dtype == np.float32
    assert rows.min() >= 0  # behind a ReLU and an average
    assert rows.max() > 0


@pytest.mark.parametrize("as_operators", [False, True], ids=["qdq", "qoperator"])
def test_those_of_int8_are_integers_and_near_the_float_ones(as_operators: bool, tmp_path: Path) -> None:
    order, source = digits_order(), open_model(DIGITS / "digits.onnx")
    given = context(tmp_path, "pi", order)
    quantized = quantize_onnx.run(clean_onnx.clean.run(source, given), given)
    if as_operators:
        onnx.save(to_qoperator(onnx.load(quantized.path), given.target.onnx), quantized.path)
        quantized = open_model(quantized.path)
    int8, float32 = exposed(quantized, order, tmp_path), features.run(source, replace(given, work=tmp_path))
    assert int8.features is not None
    assert float32.features is not None
    assert int8.features.scale != 1.0
    assert int8.features.size == float32.features.size
    one, other = load(int8), load(float32)
    for feed in islice(given.feeds(source), 8):
        raw = one.run(feed)
        assert raw[int8.features.tensor].dtype in (np.int8, np.uint8)
        near, want = rows_of(int8.features, raw), rows_of(float32.features, other.run(feed))
        assert np.corrcoef(near.ravel(), want.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("precision", quantize_tflite.PRECISIONS)
def test_tflite_quantized_here(precision: Precision, tmp_path: Path) -> None:
    """Where weights alone are smaller, the layer takes them from an operator that makes floats of them."""
    order, source = order_of(RESNET8, tmp_path), open_model(shared(RESNET8.model))
    quantized = quantize_tflite.run(source, context(tmp_path, "pi", order, Quantization(precision)))
    made = exposed(quantized, order, tmp_path)
    assert made.features is not None
    assert (made.features.scale != 1.0) == precision.calibrated
    assert made.features.size == 64


def refused(path: Path, order: Order, folder: Path) -> str:
    with pytest.raises(ConversionError, match="no features") as caught:
        exposed(open_model(path), order, folder)
    return caught.value.message


def small(folder: Path, *nodes: Any, **weights: Any) -> tuple[Path, Order]:
    path = onnx_model(folder / "m.onnx", nodes, {"x": (1, 3, 4, 4)}, {"y": (None,) * 4}, weights)
    np.savez(folder / "data.npz", x=np.ones((4, 3, 4, 4), np.float32))
    return path, Order("app", "", "data.npz", "data.npz", folder, 1)


def test_a_model_whose_last_layer_answers_for_each_pixel_has_none(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"], "r"), helper.make_node("Conv", ["r", "w"], ["y"], "y")]
    path, order = small(tmp_path, *nodes, w=np.ones((2, 3, 1, 1), np.float32))
    assert "more than one place" in refused(path, order, tmp_path)


def test_nor_has_one_without_a_last_layer_or_of_a_single_one(tmp_path: Path) -> None:
    path, order = small(tmp_path, helper.make_node("Relu", ["x"], ["y"], "y"))
    assert "no dense layer" in refused(path, order, tmp_path)
    path, order = small(tmp_path, helper.make_node("Conv", ["x", "w"], ["y"], "y"), w=np.ones((2, 3, 4, 4), np.float32))
    (tmp_path / "work").rmdir()
    assert "no dense layer" in refused(path, order, tmp_path)


def ending(folder: Path, classes: int, *behind: str) -> tuple[Path, Order]:
    """x → ReLU → Gemm → what is behind it."""
    gives = [*(f"h{place}" for place in range(len(behind))), "y"]
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Gemm", ["r", "w"], gives[:1])]
    nodes += [
        helper.make_node(kind, [one], [other]) for kind, (one, other) in zip(behind, pairwise(gives), strict=True)
    ]
    weights = {"w": RNG.normal(size=(8, classes)).astype(np.float32)}
    path = onnx_model(folder / "m.onnx", nodes, {"x": ("N", 8)}, {"y": ("N", classes)}, weights)
    np.savez(folder / "data.npz", x=RNG.normal(size=(16, 8)).astype(np.float32))
    return path, Order("app", "", "data.npz", "data.npz", folder, 1)


NO_CLASSES = "m.{}: has no features to train on: its first output is no classes of which one is right: it {}"


@pytest.mark.parametrize("classes", [1, 3], ids=["one of two", "several at once"])
def test_a_model_that_ends_in_a_sigmoid_has_none(classes: int, tmp_path: Path) -> None:
    """Training is by softmax: over one number it learns nothing, of several it learns what is not served."""
    told, refusal = refused(*ending(tmp_path, classes, "Sigmoid"), tmp_path), "ends in a sigmoid"
    assert told == NO_CLASSES.format("onnx", refusal)
    layers = [(BUILTIN.RELU, "x", "r"), (BUILTIN.FULLY_CONNECTED, "rw", "h"), (BUILTIN.LOGISTIC, "h", "y")]
    sizes = {"x": (1, 8), "r": (1, 8), "w": np.ones((classes, 8), np.float32), "h": (1, classes), "y": (1, classes)}
    with pytest.raises(ConversionError) as caught:
        features_tflite.write(open_model(tflite(tmp_path / "m.tflite", layers, sizes)), tmp_path / "f.tflite")
    assert caught.value.message == NO_CLASSES.format("tflite", refusal)


@pytest.mark.parametrize("as_operators", [False, True], ids=["qdq", "qoperator"])
def test_nor_has_its_int8_one(as_operators: bool, tmp_path: Path) -> None:
    path, order = ending(tmp_path, 3, "Sigmoid")
    given = context(tmp_path, "pi", order)
    quantized = quantize_onnx.run(open_model(path), given)
    if as_operators:
        onnx.save(to_qoperator(onnx.load(quantized.path), given.target.onnx), quantized.path)
    assert "ends in a sigmoid" in refused(quantized.path, order, tmp_path)


def test_nor_has_one_that_gives_a_single_number(tmp_path: Path) -> None:
    assert refused(*ending(tmp_path, 1), tmp_path) == NO_CLASSES.format("onnx", "is a single number")
    path, order = ending(tmp_path, 2)
    assert exposed(open_model(path), order, tmp_path / "work").features is not None


@pytest.mark.parametrize(
    ("rows", "told"), [((1, 6), ""), ((2, 3), "6 numbers in groups of 3"), ((6, 1), "6 numbers in groups of 1")]
)
def test_nor_has_one_whose_classes_are_in_groups(rows: tuple[int, int], told: str, tmp_path: Path) -> None:
    """Devices take the last axis for the classes; one row of all of them is what they can train."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Gemm", ["r", "w"], ["h"]),
        helper.make_node("Reshape", ["h", "rows"], ["y"]),
    ]
    weights = {"w": RNG.normal(size=(8, 6)).astype(np.float32), "rows": np.array([-1, *rows])}
    path = onnx_model(tmp_path / "m.onnx", nodes, {"x": ("N", 8)}, {"y": ("N", *rows)}, weights)
    np.savez(tmp_path / "data.npz", x=RNG.normal(size=(16, 8)).astype(np.float32))
    order = Order("app", "1", "data.npz", "data.npz", tmp_path, 1)
    if told:
        assert refused(path, order, tmp_path) == NO_CLASSES.format("onnx", f"is {told}")
    else:
        assert exposed(open_model(path), order, tmp_path).features is not None


def test_the_step_cache_keeps_what_was_found(tmp_path: Path) -> None:
    made = exposed(open_model(DIGITS / "digits.onnx"), digits_order(), tmp_path)
    cache, parts = StepCache(tmp_path / "cache"), {"step": "features"}
    assert cache.model(parts, made.path.parent, lambda: made).features == made.features
    (tmp_path / "again").mkdir()
    again = cache.model(parts, tmp_path / "again", lambda: pytest.fail("it was made before"))
    assert again.features == made.features


@pytest.mark.slow
def test_a_bundle_declares_them_and_serves_what_it_served(tmp_path: Path) -> None:
    order = digits_order(precisions=(Precision.INT8,), formats=(Format.ONNX,), cache=tmp_path)
    plain, asked = (
        build(open_model(DIGITS / "digits.onnx"), targets.load("pi"), each, lambda line: None).contents
        for each in (order, replace(order, features=True))
    )
    assert plain is not None
    assert asked is not None
    told = asked.manifest.interface.features
    assert plain.manifest.interface.features is None
    assert told is not None
    assert asked.manifest.provenance["passes"][-1] == "features"
    assert Interface.of(asked.manifest.interface.as_dict()) == asked.manifest.interface
    with np.load(DIGITS / "evaluation.npz") as data:
        images = next(data[name] for name in data.files if name != "labels")[:8]
    one, other = (Session(each.model, each.manifest.interface, each.manifest.engines) for each in (plain, asked))
    for image in images:
        before, after = one.predict(image[None]), other.predict(image[None])
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)
        rows = rows_of(told, other.engine.run(other.interface.feeds(image[None])))
        assert rows.shape == (1, told.size)
