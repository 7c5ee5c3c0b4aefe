from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit import environments
from edgekit.building.order import Order
from edgekit.errors import ConversionError, EdgekitError
from edgekit.model import Model, open_model
from edgekit.passes import convert_onnx, freeze
from edgekit.passes.child import Child
from tests.lab.models import RESNET20, TEXTLINE, context, onnx_model, outputs_of, samples, shared, two_by_two

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    """The environment of onnx2tf, in the user's cache as the program makes it; kept for the next run."""
    try:
        environments.ensure(convert_onnx.ONNX2TF, print)
    except EdgekitError as error:
        pytest.skip(str(error))


def converted(source: Path, order: Order) -> Model:
    (order.base / "work").mkdir()
    return convert_onnx.run(open_model(source), context(order.base / "work", "pi", order))


def made_up(folder: Path, **sizes: tuple[int, ...]) -> Order:
    data = samples(folder / "data.npz", **sizes)
    return Order("app", "", data, data, folder, 1)


def weights(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


def same(source: Path, model: Model, **sizes: tuple[int, ...]) -> None:
    """Gives what the source gives, by its names, in its layout, for more than one at a time where it may be."""
    known = open_model(source)
    assert [str(spec) for spec in (*model.inputs, *model.outputs)] == [
        str(spec) for spec in (*known.inputs, *known.outputs)
    ]
    for batch in (1, 3) if known.inputs[0].shape[0] is None else (1,):
        feeds = {name: weights(batch, *size) for name, size in sizes.items()}
        one, other = outputs_of(known, feeds), outputs_of(model, feeds)
        for name in one:
            assert np.allclose(one[name], other[name], atol=1e-3)


def test_a_real_model_with_shortcuts_of_padded_channels(tmp_path: Path) -> None:
    model = converted(shared(RESNET20.model), RESNET20.order(tmp_path))
    assert model.lineage == ("onnx-to-tflite",)
    same(shared(RESNET20.model), model, image=(3, 32, 32))


def test_a_real_model_with_squeeze_and_excitation(tmp_path: Path) -> None:
    order = TEXTLINE.order(tmp_path)
    (tmp_path / "frozen").mkdir()
    given = replace(context(tmp_path / "frozen", "pi", order), shapes={"x": (None, 3, 48, 192)})
    source = freeze.run(open_model(shared(TEXTLINE.model)), given).path
    same(source, converted(source, order), x=(3, 48, 192))


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize("size", [(16, 20), (8, 8)], ids=str)
def test_an_image_that_comes_out_keeps_its_layout(tmp_path: Path, batch: Any, size: tuple[int, int]) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["mask"]),
    ]
    ends = {"x": [batch, 8, *size]}, {"mask": [batch, 8, *size]}
    source = onnx_model(tmp_path / "m.onnx", nodes, *ends, {"w": weights(8, 8, 3, 3), "v": weights(8, 8, 1, 1)})
    same(source, converted(source, made_up(tmp_path, x=(8, *size))), x=(8, *size))


def test_several_inputs_and_outputs_in_an_order_that_is_not_the_alphabets(tmp_path: Path) -> None:
    source = two_by_two(tmp_path / "m.onnx")
    same(source, converted(source, made_up(tmp_path, right=(4,), left=(4,))), right=(4,), left=(4,))


def test_names_that_onnx2tf_would_change(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["/in:0", "w"], ["c"]), helper.make_node("Flatten", ["c"], ["out put"])]
    ends = {"/in:0": ["N", 3, 4, 4]}, {"out put": ["N", 8]}
    source = onnx_model(tmp_path / "m.onnx", nodes, *ends, {"w": weights(2, 3, 3, 3)})
    sizes = {"/in:0": (3, 4, 4)}
    same(source, converted(source, made_up(tmp_path, **sizes)), **sizes)


def test_free_sizes_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r'leaves axes 2, 3 free, .* are: shape = \["N", 3, 48, 192\]'):
        converted(shared(TEXTLINE.model), TEXTLINE.order(tmp_path))


def test_one_that_is_off_is_refused_with_its_first_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = convert_onnx._variants
    name = "/layer2/layer2.1/conv2/Conv_output_0"

    def wrong(*arguments: Any) -> Any:
        for variant in whole(*arguments):
            document = onnx.load(variant.path)
            weight = next(node for node in document.graph.node if node.output[0] == name).input[1]
            for tensor in document.graph.initializer:
                if tensor.name == weight:
                    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, weight))
            onnx.save(document, variant.path)
            yield variant

    monkeypatch.setattr(convert_onnx, "_variants", wrong)
    with pytest.raises(ConversionError, match=f"output logits differs .*; the first layer that differs: {name}"):
        converted(shared(RESNET20.model), RESNET20.order(tmp_path))


def test_what_onnx2tf_cannot_convert_is_one_line(tmp_path: Path) -> None:
    nodes = [helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[1.0], scale=[2.0])]
    opsets = [("", 17), ("ai.onnx.ml", 3)]
    source = onnx_model(tmp_path / "m.onnx", nodes, {"x": [1, 3]}, {"y": [1, 3]}, opsets=opsets)
    with pytest.raises(
        ConversionError, match=r"^m.onnx: what onnx2tf makes of it does not run: .*ONNX_SCALER"
    ) as caught:
        converted(source, made_up(tmp_path, x=(3,)))
    assert "\n" not in str(caught.value)


def test_what_onnx2tf_stops_at_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"hello world\n" * 10)
    child = Child("onnx2tf", "onnx2tf_child.py", convert_onnx.ONNX2TF.python)
    with pytest.raises(ConversionError, match=r"^m.onnx: onnx2tf could not convert it: ") as caught:
        child.answer({"source": str(tmp_path / "m.onnx"), "result": str(tmp_path / "m.tflite"), "inputs": []})
    assert "\n" not in str(caught.value)


def test_what_is_in_the_way_on_the_path_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnx2tf.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    converted(two_by_two(tmp_path / "m.onnx"), made_up(tmp_path, right=(4,), left=(4,)))
    assert not (tmp_path / "ran").exists()
