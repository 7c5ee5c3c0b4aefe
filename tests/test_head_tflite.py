from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import ConversionError
from edgekit.federated.deepening import deepened
from edgekit.formats import tflite_file
from edgekit.model import Model, open_model
from edgekit.passes import features, features_tflite, head, quantize_tflite
from edgekit.passes.proof import load
from edgekit.precision import Precision, Quantization
from edgekit_train import heads
from edgekit_train.features import rows as rows_of
from tests.lab.models import RESNET8, RESNET8_INT8, RESNET8_KERAS, VWW, Task, context, shared
from tests.test_head_onnx import learned
from tests.test_passes_fold_colours import BUILTIN, CONV, tflite

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)], ids=["softmax regression", "mlp", "deeper"])
@pytest.mark.parametrize("task", [RESNET8, VWW], ids=["resnet8", "vww"])
def test_a_merged_model_computes_what_backbone_and_head_do(task: Task, hidden: tuple[int, ...], tmp_path: Path) -> None:
    source = open_model(shared(task.model))
    weights = head.weights_of(source)
    size, classes = weights["head.0.weight"].shape
    given = {name: array * 0.1 for name, array in learned(size, *hidden, classes).items()}
    made = head.merged(source, given, tmp_path / "merged.tflite")
    again = head.merged(made, weights, tmp_path / "again.tflite")
    told = features_tflite.write(source, tmp_path / "backbone.tflite")
    whole, back, own, parts = (
        load(each) for each in (made, again, source, replace(source, path=tmp_path / "backbone.tflite"))
    )
    rng = np.random.default_rng(0)
    for _ in range(3):
        feed = {source.inputs[0].inner: rng.random([size or 1 for size in source.inputs[0].shape], np.float32)}
        want = heads.logits(heads.layers(given), rows_of(replace(told, size=size), parts.run(feed)))
        got = next(iter(whole.run(feed).values()))
        assert np.allclose(got, heads.probabilities(want), atol=1e-4)
        assert np.allclose(*(next(iter(each.run(feed).values())) for each in (own, back)), atol=1e-6)
    assert abs(again.size - source.size) < 4000  # the old weights are not left in it


@pytest.mark.slow
def test_merged_again_and_again(tmp_path: Path) -> None:
    """Each head takes the place of the one before, of however many layers."""
    source = open_model(shared(RESNET8.model))
    model, feed = source, {source.inputs[0].inner: RNG.random((1, 32, 32, 3), np.float32)}
    for number, hidden in enumerate([(16,), (16,), (32,), (16, 8), (), (24,)]):
        given = learned(64, *hidden, 10)
        model = head.merged(model, given, tmp_path / f"{number}.tflite")
        assert model.head_layers == len(hidden) + 1
        found = head.weights_of(model)
        assert found.keys() == given.keys()
        assert all(np.array_equal(found[name], given[name]) for name in given)
        alone = head.merged(source, given, tmp_path / "alone.tflite")
        assert np.array_equal(answer(model, feed), answer(alone, feed))
        assert abs(model.size - alone.size) < 4000


@pytest.mark.parametrize("kind", [BUILTIN.FULLY_CONNECTED, CONV], ids=["fully connected", "convolution"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_a_last_layer_of_either_kind_with_a_bias_or_without(kind: int, bias: bool, tmp_path: Path) -> None:
    one = (1, 1) if kind == CONV else ()
    sizes = {"x": (1, *one, 8), "r": (1, *one, 8), "w": RNG.normal(size=(3, *one, 8)).astype(np.float32)}
    sizes |= {"b": RNG.normal(size=3).astype(np.float32)} if bias or kind == CONV else {}
    layer = (kind, "rwb" if "b" in sizes else "rw", "y")
    source = open_model(tflite(tmp_path / "s.tflite", [(BUILTIN.RELU, "x", "r"), layer], {**sizes, "y": (1, *one, 3)}))
    feed = {"x": RNG.normal(size=(1, *one, 8)).astype(np.float32)}
    rows = np.maximum(feed["x"], 0).reshape(1, 8)
    own = heads.layers(head.weights_of(source))
    assert np.allclose(answer(source, feed).reshape(1, 3), heads.logits(own, rows), atol=1e-5)
    for hidden in ((), (5,), (7,)):
        given = learned(8, *hidden, 3)
        made = head.merged(source, given, tmp_path / "m.tflite")
        want = heads.logits(heads.layers(given), rows)
        assert np.allclose(answer(made, feed).reshape(1, 3), want, atol=1e-4)


def twins(path: Path) -> Model:
    """x → fully connected with ReLU → the same weights and bias once more: one tensor each, as TensorFlow's converter
    makes of constants that are alike.
    """
    sizes = {"x": (1, 4), "h": (1, 4), "r": (1, 4), "w": RNG.normal(size=(4, 4)).astype(np.float32)}
    layers = [(BUILTIN.FULLY_CONNECTED, "xwb", "h"), (BUILTIN.RELU, "h", "r"), (BUILTIN.FULLY_CONNECTED, "rwb", "y")]
    return open_model(tflite(path, layers, {**sizes, "b": np.zeros(4, np.float32), "y": (1, 4)}))


@pytest.mark.parametrize("hidden", [(), (5,)], ids=["softmax regression", "mlp"])
def test_a_layer_before_the_head_keeps_what_it_shares_with_it(hidden: tuple[int, ...], tmp_path: Path) -> None:
    """Also when the head goes back to one layer, and its constants are taken away."""
    source = twins(tmp_path / "s.tflite")
    feed, own = {"x": RNG.normal(size=(1, 4)).astype(np.float32)}, heads.layers(head.weights_of(source))
    rows, model = np.maximum(heads.logits(own, feed["x"]), 0), source
    for number, sizes in enumerate([hidden, (), hidden]):
        given = learned(4, *sizes, 4)
        given["head.0.bias"] += 1
        model = head.merged(model, given, tmp_path / f"{number}.tflite")
        assert np.allclose(answer(model, feed), heads.logits(heads.layers(given), rows), atol=1e-4)


def test_layers_of_a_head_that_share_a_bias_are_filled_and_taken_away_each_by_itself(tmp_path: Path) -> None:
    source = replace(twins(tmp_path / "s.tflite"), head_layers=1)
    two = head.merged(source, learned(4, 4, 4), tmp_path / "two.tflite")
    document = tflite_file.unpacked(two.path.read_bytes())
    *_, hidden, last = document.subgraphs[0].operators
    hidden.inputs = [*hidden.inputs[:2], last.inputs[2]]
    two.path.write_bytes(tflite_file.packed(document))
    feed = {"x": RNG.normal(size=(1, 4)).astype(np.float32)}
    rows = np.maximum(heads.logits(heads.layers(head.weights_of(source)), feed["x"]), 0)
    for sizes in ((4,), (), (5, 6)):
        given = {name: array + 1 for name, array in learned(4, *sizes, 4).items()}
        made = head.merged(two, given, tmp_path / "made.tflite")
        want = heads.logits(heads.layers(given), rows)
        assert np.allclose(answer(made, feed), want, rtol=1e-4)


@pytest.mark.parametrize(
    ("quantized", "hidden"),
    [(False, 32), (True, 32), pytest.param(True, 4096, marks=pytest.mark.slow)],
    ids=["float", "int8", "int8 of more than 256 KiB"],
)
def test_what_is_merged_shows_what_its_head_takes(quantized: bool, hidden: int, tmp_path: Path) -> None:
    """Not what its last layer takes: the next round goes on with all layers. Of large files the quantizer puts the
    weights behind the schema's part.
    """
    order, source = RESNET8.order(tmp_path), open_model(shared(RESNET8.model))
    given = deepened(head.weights_of(source), hidden)
    model, work = head.merged(source, given, tmp_path / "m.tflite"), context(tmp_path, "pi", order)
    if quantized:
        model = quantize_tflite.run(model, work)
    (tmp_path / "features").mkdir()
    made = features.run(model, replace(work, work=tmp_path / "features"))
    assert made.features is not None
    assert (made.features.size, made.features.scale != 1.0) == (64, quantized)
    engine, agree = load(made), 0
    feeds = list(islice(work.feeds(made), 32))
    for feed in feeds:
        raw = engine.run(feed)
        scores = heads.logits(heads.layers(given), rows_of(made.features, raw))
        agree += int(scores.argmax() == raw[made.outputs[0].inner].argmax())
    assert agree >= 0.9 * len(feeds)


def answer(model: Model, feed: dict[str, np.ndarray]) -> np.ndarray:
    [found] = load(model).run(feed).values()
    return found


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    source = open_model(shared(RESNET8.model))
    with pytest.raises(ConversionError, match="64 features and 10 classes"):
        head.merged(source, learned(64, 9), tmp_path / "m.tflite")
    with pytest.raises(ConversionError, match="give the float model"):
        head.weights_of(open_model(shared(RESNET8_INT8.model)))
    with pytest.raises(ConversionError, match="not into keras"):
        head.weights_of(
            replace(open_model(shared(RESNET8.model)), format=open_model(shared(RESNET8_KERAS.model)).format)
        )


def test_weights_of_float16_are_refused_as_others_that_are_not_float32(tmp_path: Path) -> None:
    """Its last layer takes them from an operator that makes float32 of them."""
    work = context(tmp_path, "pi", RESNET8.order(tmp_path), Quantization(Precision.FLOAT16))
    made = quantize_tflite.run(open_model(shared(RESNET8.model)), work)
    with pytest.raises(ConversionError, match="its last layer is no matrix of floats — give the float model"):
        head.weights_of(made)


@pytest.mark.parametrize("kind", [BUILTIN.FULLY_CONNECTED, CONV], ids=["fully connected", "convolution"])
def test_a_last_layer_with_an_activation_in_it_gives_no_logits(kind: int, tmp_path: Path) -> None:
    one = (1, 1) if kind == CONV else ()
    sizes = {"x": (1, *one, 8), "r": (1, *one, 8), "w": RNG.normal(size=(3, *one, 8)).astype(np.float32)}
    sizes |= {"b": np.zeros(3, np.float32), "y": (1, *one, 3)}
    path = tflite(tmp_path / "s.tflite", [(BUILTIN.RELU, "x", "r"), (kind, "rwb", "y")], sizes)
    assert len(head.weights_of(open_model(path))) == 2
    document = tflite_file.unpacked(path.read_bytes())
    last = document.subgraphs[0].operators[-1]
    last.builtinOptionsType = last.builtinOptionsType or schema.BuiltinOptions.FullyConnectedOptions
    last.builtinOptions = last.builtinOptions or schema.FullyConnectedOptionsT()
    last.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    path.write_bytes(tflite_file.packed(document))
    told = "s.tflite: has no features to train on: its last layer gives no logits, but what RELU6 makes of them"
    with pytest.raises(ConversionError) as caught:
        head.weights_of(open_model(path))
    assert caught.value.message == told
    with pytest.raises(ConversionError, match="but what RELU6 makes"):
        features_tflite.write(open_model(path), tmp_path / "f.tflite")
