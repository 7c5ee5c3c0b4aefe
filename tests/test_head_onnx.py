from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.building.order import Order
from edgekit.errors import ConversionError
from edgekit.formats import onnx_file
from edgekit.model import Model, open_model
from edgekit.passes import clean_onnx, features, features_onnx, head_onnx, quantize_onnx
from edgekit.passes.proof import load
from edgekit.passes.qoperator_onnx import to_qoperator
from edgekit_runtime.errors import InvalidInput
from edgekit_train import heads
from edgekit_train.features import rows as rows_of
from edgekit_train.update import Weights
from tests.lab.models import DIGITS, RESNET20, context, digits_order, onnx_model, shared

PPOCR = "ppocr_textline_cls/ppocr_mobile_v2_textline_cls.onnx"


def learned(*sizes: int) -> Weights:
    rng = np.random.default_rng(3)
    return {name: rng.normal(size=array.shape).astype(np.float32) for name, array in heads.initial([*sizes]).items()}


def inputs(model: Model, count: int = 3) -> list[dict[str, np.ndarray]]:
    rng, spec = np.random.default_rng(0), model.inputs[0]
    sizes = [size or 1 for size in spec.shape]
    sizes = [1, 3, 48, 192] if spec.name == "x" and len(sizes) == 4 and sizes[1] == 3 else sizes
    return [{spec.inner: rng.random(sizes, np.float32)} for _ in range(count)]


def backbone(model: Model, folder: Path) -> Model:
    """The float model with its features, without samples to prove it by."""
    path = folder / "backbone.onnx"
    told = features_onnx.write(model, path)
    return replace(model, path=path, features=told)


@pytest.mark.parametrize("name", [RESNET20.model, PPOCR, "digits"], ids=["gemm", "matmul-add", "digits"])
@pytest.mark.parametrize("hidden", [(), (16,)], ids=["softmax regression", "mlp"])
def test_a_merged_model_computes_what_backbone_and_head_do(name: str, hidden: tuple[int, ...], tmp_path: Path) -> None:
    source = open_model(DIGITS / "digits.onnx" if name == "digits" else shared(name))
    size, classes = head_onnx.weights_of(source)["head.0.weight"].shape
    weights = learned(size, *hidden, classes)
    made, parts = head_onnx.merged(source, weights, tmp_path / "merged.onnx"), load(backbone(source, tmp_path))
    onnx_file.load(made.path)  # which checks it
    assert [*map(str, (*made.inputs, *made.outputs))] == [*map(str, (*source.inputs, *source.outputs))]
    whole, told = load(made), backbone(source, tmp_path).features
    assert told is not None
    softmax = any(node.op_type == "Softmax" for node in onnx.load(source.path).graph.node[-3:])
    for feed in inputs(source):
        rows = rows_of(replace(told, size=size), parts.run(feed))
        want = heads.logits(heads.layers(weights), rows)
        want = heads.probabilities(want) if softmax else want
        got = whole.run(feed)[source.outputs[0].inner]
        assert np.allclose(got, want, rtol=1e-4, atol=1e-3)


def test_the_own_head_goes_back_as_it_was(tmp_path: Path) -> None:
    source = open_model(shared(RESNET20.model))
    made = head_onnx.merged(source, head_onnx.weights_of(source), tmp_path / "same.onnx")
    before, after = load(source), load(made)
    for feed in inputs(source):
        assert np.allclose(before.run(feed)["logits"], after.run(feed)["logits"], atol=1e-4)
    assert abs(made.size - source.size) < 2000  # the old weights are not left in it


def test_merged_again_and_again(tmp_path: Path) -> None:
    """Each head takes the place of the one before, of however many layers, and nothing is left of that."""
    source = open_model(DIGITS / "digits.onnx")
    size, classes = head_onnx.weights_of(source)["head.0.weight"].shape
    model, sizes = source, dict[tuple[int, ...], int]()
    for number, hidden in enumerate([(16,), (16, 8), (16,), (), (24,), ()]):
        given = learned(size, *hidden, classes)
        model = head_onnx.merged(model, given, tmp_path / f"{number}.onnx")
        assert model.head_layers == len(hidden) + 1
        found = head_onnx.weights_of(model)
        assert found.keys() == given.keys()
        assert all(np.array_equal(found[name], given[name]) for name in given)
        alone = head_onnx.merged(source, given, tmp_path / "alone.onnx")
        for feed in inputs(source):
            name = source.outputs[0].inner
            assert np.array_equal(load(model).run(feed)[name], load(alone).run(feed)[name])
        assert sizes.setdefault(hidden, model.size) == model.size
    assert model.lineage == ("merge-head",) * 6


@pytest.mark.parametrize("hidden", [(), (32,)], ids=["softmax regression", "mlp"])
@pytest.mark.parametrize("as_operators", [False, True], ids=["qdq", "qoperator"])
def test_what_is_merged_is_quantized_and_shows_what_its_head_takes(
    hidden: tuple[int, ...], as_operators: bool, tmp_path: Path
) -> None:
    source, given = open_model(DIGITS / "digits.onnx"), context(tmp_path, "pi", digits_order())
    size, classes = head_onnx.weights_of(source)["head.0.weight"].shape
    weights = learned(size, *hidden, classes)
    merged = head_onnx.merged(source, weights, tmp_path / "merged.onnx")
    quantized = quantize_onnx.run(clean_onnx.clean.run(merged, given), given)
    if as_operators:
        onnx.save(to_qoperator(onnx.load(quantized.path), given.target.onnx), quantized.path)
    (tmp_path / "features").mkdir()
    made = features.run(quantized, replace(given, work=tmp_path / "features"))
    assert made.features is not None
    assert made.features.size == size
    engine, agree = load(made), 0
    feeds = list(given.feeds(source))[:32]
    for feed in feeds:
        raw = engine.run(feed)
        scores = heads.logits(heads.layers(weights), rows_of(made.features, raw))
        agree += int(scores.argmax() == raw[made.outputs[0].inner].argmax())
    assert agree >= 0.9 * len(feeds)


def test_a_head_of_other_sizes_is_refused(tmp_path: Path) -> None:
    source = open_model(DIGITS / "digits.onnx")
    with pytest.raises(ConversionError, match="features and 10 classes"):
        head_onnx.merged(source, learned(7, 10), tmp_path / "m.onnx")
    with pytest.raises(InvalidInput, match="no head"):
        head_onnx.merged(source, {"w": np.zeros(3, np.float32)}, tmp_path / "m.onnx")


def one_layer(folder: Path, dtype: type = np.float32, **attributes: float) -> Model:
    """x → ReLU → Gemm."""
    rng = np.random.default_rng(5)
    arrays = {"w": rng.normal(size=(3, 4)).astype(dtype), "b": rng.normal(size=3).astype(dtype)}
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "r"),
        helper.make_node("Gemm", ["r", "w", "b"], ["y"], "y", transB=1, **attributes),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = [[helper.make_tensor_value_info(name, kind, [None, size])] for name, size in (("x", 4), ("y", 3))]
    graph = helper.make_graph(nodes, "g", *ends, [numpy_helper.from_array(a, n) for n, a in arrays.items()])
    document = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(document, folder / "one.onnx")
    return open_model(folder / "one.onnx")


def test_what_a_gemm_multiplies_by_is_part_of_the_head(tmp_path: Path) -> None:
    source = one_layer(tmp_path, alpha=0.5, beta=2.0)
    made = head_onnx.merged(source, head_onnx.weights_of(source), tmp_path / "same.onnx")
    for feed in inputs(source):
        assert np.allclose(load(source).run(feed)["y"], load(made).run(feed)["y"], atol=1e-5)


def test_a_head_of_another_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="no matrix of floats"):
        head_onnx.weights_of(one_layer(tmp_path, np.float16))


def two_layers(
    folder: Path,
    *behind: onnx.NodeProto,
    layer: str = "MatMul",
    more: tuple[str, ...] = (),
    row: tuple[int, ...] = (),
) -> Model:
    """x [N, *row, 8] → MatMul → ReLU → the layer, which gives h → what is behind it, as far as y."""
    rng = np.random.default_rng(5)
    arrays = {"a": rng.normal(size=(8, 4)), "w": rng.normal(size=(4, 3)), "b": np.array([5, 0, -5]), "c": np.ones(3)}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["s"], "s"),
        helper.make_node("Relu", ["s"], ["r"], "r"),
        helper.make_node(layer, ["r", "w"], ["h"], "h"),
        *behind,
    ]
    weights = {name: array.astype(np.float32) for name, array in arrays.items()} | {"rows": np.array([-1, 3])}
    outputs = {name: ["N", *row, 3] for name in ("y", *more)}
    return open_model(onnx_model(folder / "two.onnx", nodes, {"x": ["N", *row, 8]}, outputs, weights))


@pytest.mark.parametrize("hidden", [(), (16,)], ids=["softmax regression", "mlp"])
def test_a_layer_of_one_row_a_sample_is_merged_as_one(hidden: tuple[int, ...], tmp_path: Path) -> None:
    """[N, 1, features], of which a Gemm takes none; again, and for a head of one layer, too."""
    source, rng = two_layers(tmp_path, adding("h", "y"), row=(1,)), np.random.default_rng(1)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(8, 1, 8)).astype(np.float32))
    given = context(tmp_path, "pi", Order("app", "1", "data.npz", "data.npz", tmp_path, 1))
    model = source
    for number, sizes in enumerate([hidden, (), hidden]):
        weights = learned(4, *sizes, 3)
        model = head_onnx.merged(model, weights, tmp_path / f"{number}.onnx")
        onnx_file.load(model.path)  # which checks it
        (tmp_path / f"features{number}").mkdir()
        made = features.run(model, replace(given, work=tmp_path / f"features{number}"))
        assert made.features is not None
        for feed in given.feeds(source):
            raw = load(made).run(feed)
            want = heads.logits(heads.layers(weights), rows_of(made.features, raw))
            assert np.allclose(raw["y"], want.reshape(1, 1, 3), atol=1e-4)


@pytest.mark.parametrize("hidden", [(), (16,)], ids=["softmax regression", "mlp"])
def test_outputs_keep_their_axes_where_a_bias_adds_one(hidden: tuple[int, ...], tmp_path: Path) -> None:
    """MatMul [N, C] + [1, 1, C] is [1, N, C], before and after, also of a head that has had more layers."""
    rng = np.random.default_rng(5)
    arrays = {"a": rng.normal(size=(8, 4)), "w": rng.normal(size=(4, 3)), "b": np.array([[[5, 0, -5]]])}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["s"], "s"),
        helper.make_node("Relu", ["s"], ["r"], "r"),
        helper.make_node("MatMul", ["r", "w"], ["h"], "h"),
        adding("h", "y"),
    ]
    weights = {name: array.astype(np.float32) for name, array in arrays.items()}
    model = source = open_model(onnx_model(tmp_path / "m.onnx", nodes, {"x": ["N", 8]}, {"y": [1, "N", 3]}, weights))
    feed = {"x": rng.normal(size=(5, 8)).astype(np.float32)}
    for number, sizes in enumerate([hidden, ()]):
        given = learned(4, *sizes, 3)
        model = head_onnx.merged(model, given, tmp_path / f"{number}.onnx")
        onnx_file.load(model.path)  # which checks it
        assert [*map(str, model.outputs)] == [*map(str, source.outputs)]
        assert load(model).run(feed)["y"].shape == load(source).run(feed)["y"].shape == (1, 5, 3)
        found = head_onnx.weights_of(model)
        assert all(np.array_equal(found[name], given[name]) for name in given)


def test_weights_that_were_constants_of_nodes_go_with_the_old_head(tmp_path: Path) -> None:
    source = two_layers(tmp_path, adding("h", "y"))
    document = onnx.load(source.path)
    for tensor in list(document.graph.initializer):
        document.graph.node.insert(
            0, helper.make_node("Constant", [], [tensor.name], f"of {tensor.name}", value=tensor)
        )
    document.graph.ClearField("initializer")
    onnx.save(document, source.path)
    source = open_model(source.path)
    given = learned(4, 3)
    made = head_onnx.merged(source, given, tmp_path / "merged.onnx")
    left = [node.output[0] for node in onnx.load(made.path).graph.node if node.op_type == "Constant"]
    assert left == ["a"]  # of the backbone; "rows" and "c" nobody has ever taken
    found = head_onnx.weights_of(made)
    assert all(np.array_equal(found[name], given[name]) for name in given)


def adding(takes: str, gives: str, constant: str = "b") -> onnx.NodeProto:
    return helper.make_node("Add", [takes, constant], [gives], f"add {gives}")


@pytest.mark.parametrize(
    ("behind", "layer", "more"),
    [
        ([adding("h", "y")], "Gemm", ()),
        ([adding("h", "t"), adding("t", "y", "c")], "MatMul", ()),
        ([helper.make_node("Reshape", ["h", "rows"], ["t"]), adding("t", "y")], "MatMul", ()),
        ([adding("h", "y"), helper.make_node("Softmax", ["h"], ["z"])], "MatMul", ("z",)),
        ([adding("h", "y")], "MatMul", ("h",)),
    ],
    ids=["gemm", "another", "reshaped", "another takes it, too", "shown, too"],
)
def test_what_is_added_and_is_no_bias_of_the_layer_is_refused(
    behind: list[onnx.NodeProto], layer: str, more: tuple[str, ...], tmp_path: Path
) -> None:
    """Devices would train without it, and what is merged would add it."""
    source = two_layers(tmp_path, *behind, layer=layer, more=more)
    told = "^two.onnx: has no features to train on: behind a dense layer, add y adds a constant that is no bias of it"
    for refused in (head_onnx.weights_of, partial(features_onnx.write, path=tmp_path / "f.onnx")):
        with pytest.raises(ConversionError, match=told):
            refused(source)


@pytest.mark.parametrize("as_operators", [False, True], ids=["qdq", "qoperator"])
@pytest.mark.parametrize("hidden", [None, (16,)], ids=["as it is", "mlp"])
def test_the_bias_of_a_matmul_is_one_also_in_integers(
    hidden: tuple[int, ...] | None, as_operators: bool, tmp_path: Path
) -> None:
    source = two_layers(tmp_path, adding("h", "y"))
    weights = head_onnx.weights_of(source)
    assert weights["head.0.bias"].tolist() == [5, 0, -5]
    if hidden:
        weights = learned(4, *hidden, 3)
        source = head_onnx.merged(source, weights, tmp_path / "merged.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32))
    given = context(tmp_path, "pi", Order("app", "1", "data.npz", "data.npz", tmp_path, 1))
    quantized = quantize_onnx.run(source, given)
    if as_operators:
        onnx.save(to_qoperator(onnx.load(quantized.path), given.target.onnx), quantized.path)
    kinds = {node.op_type for node in onnx.load(quantized.path).graph.node}
    assert hidden or ({"QLinearMatMul", "QLinearAdd"} if as_operators else {"MatMul", "Add"}) <= kinds
    (tmp_path / "features").mkdir()
    made = features.run(quantized, replace(given, work=tmp_path / "features"))
    assert made.features is not None
    assert (made.features.size, made.features.scale != 1.0) == (4, True)
    engine, agree, feeds = load(made), 0, list(given.feeds(source))
    for feed in feeds:
        raw = engine.run(feed)
        agree += int(heads.logits(heads.layers(weights), rows_of(made.features, raw)).argmax() == raw["y"].argmax())
    assert agree >= 0.9 * len(feeds)
