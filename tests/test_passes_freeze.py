from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.build import build
from edgekit.building.order import Order
from edgekit.building.recipe import plan
from edgekit.building.workshop import Workshop
from edgekit.errors import ConfigError, ConversionError, DataError
from edgekit.formats import tflite_file
from edgekit.model import Format, Model, open_model
from edgekit.passes import Context, freeze, freeze_tflite
from edgekit.passes.sizes import Shape, frozen, left_free
from edgekit.precision import Precision
from edgekit.target import load
from edgekit_runtime.tensors import TensorSpec
from tests.lab.models import TEXTLINE, context, onnx_model, outputs_of, samples, shared, tflite_model

LINES = {"x": (None, 3, 48, 192)}
RNG = np.random.default_rng(0)


def given(folder: Path, shapes: dict[str, Shape], **sizes: tuple[int, ...]) -> Context:
    data = samples(folder / "data.npz", **sizes)
    (folder / "work").mkdir(exist_ok=True)
    return replace(context(folder / "work", "pi", Order("app", "", data, data, folder, 1)), shapes=shapes)


def convolution(path: Path, *batch: Any) -> Path:
    """ONNX, x [N, 3, H, W] → its edges and a row of numbers, made by a Reshape of computed sizes."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["edges"]),
        helper.make_node("Shape", ["edges"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "first"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["edges", "wanted"], ["row"]),
    ]
    weights = {"w": RNG.normal(size=(2, 3, 3, 3)).astype(np.float32), "first": np.array([0]), "rest": np.array([-1])}
    sizes = {"x": [*(batch or ("N",)), 3, "?", "?"]}
    return onnx_model(path, nodes, sizes, {"edges": ["N", 2, "?", "?"], "row": ["N", "?"]}, weights)


def strings(model: Model) -> list[str]:
    return [str(spec) for spec in (*model.inputs, *model.outputs)]


class TestAskedFor:
    SPECS = (TensorSpec("x", "float32", (None, 3, None, None)), TensorSpec("a b", "int64", (None,)))

    def test_what_is_free_is_fixed_and_what_is_left_free_stays(self) -> None:
        made = frozen(self.SPECS, {"x": (None, 3, 20, None)})
        assert [spec.shape for spec in made] == [(None, 3, 20, None), (None,)]
        assert [spec.shape for spec in frozen(self.SPECS, {"x": (1, None, 20, 30), "a b": (4,)})] == [
            (1, 3, 20, 30),
            (4,),
        ]

    @pytest.mark.parametrize(
        ("shapes", "told"),
        [
            ({"y": (1,)}, "edgekit.toml: inputs.y: no such input — the model takes x, a b"),
            (
                {"x": (3, 20, 30)},
                "edgekit.toml: inputs.x.shape: 3 sizes, the model takes x: float32 [N, 3, N, N] — write one size an",
            ),
            (
                {"x": (1, 4, 20, 30)},
                "edgekit.toml: inputs.x.shape[1]: 4, the model takes x: float32 [N, 3, N, N] — write 3, which is fixed",
            ),
            (
                {"a b": ()},
                'edgekit.toml: inputs."a b".shape: 0 sizes, the model takes a b: int64 [N] — write one size an axis',
            ),
        ],
    )
    def test_what_does_not_fit_the_model_is_told_in_one_line(self, shapes: dict[str, Shape], told: str) -> None:
        with pytest.raises(ConfigError) as caught:
            frozen(self.SPECS, shapes)
        assert str(caught.value).startswith(told)
        assert caught.value.exit_code == 2


class TestOnnx:
    def test_sizes_of_one_name_are_fixed_each_on_its_own_and_all_others_follow(self, tmp_path: Path) -> None:
        source = convolution(tmp_path / "m.onnx")
        model = freeze.run(open_model(source), given(tmp_path, {"x": (None, 3, 12, 20)}, x=(3, 12, 20)))
        assert strings(model) == ["x: float32 [N, 3, 12, 20]", "edges: float32 [N, 2, 10, 18]", "row: float32 [N, N]"]
        assert strings(open_model(model.path)) == strings(model)
        assert (model.lineage, model.digest) == (("freeze",), open_model(model.path).digest)
        for batch in (1, 3):
            feeds = {"x": RNG.random((batch, 3, 12, 20), np.float32)}
            one, other = outputs_of(open_model(source), feeds), outputs_of(model, feeds)
            assert all(one[name].tolist() == other[name].tolist() for name in one)

    def test_a_batch_may_be_fixed_too(self, tmp_path: Path) -> None:
        model = freeze.run(
            open_model(convolution(tmp_path / "m.onnx", -1)), given(tmp_path, {"x": (1, 3, 12, 20)}, x=(3, 12, 20))
        )
        assert strings(model)[:2] == ["x: float32 [1, 3, 12, 20]", "edges: float32 [1, 2, 10, 18]"]

    def test_where_nothing_is_to_be_fixed_the_model_stays_the_file_that_it_is(self, tmp_path: Path) -> None:
        source = open_model(convolution(tmp_path / "m.onnx"))
        assert freeze.run(source, given(tmp_path, {}, x=(3, 12, 20))) == source
        once = freeze.run(source, given(tmp_path, {"x": (None, 3, 12, 20)}, x=(3, 12, 20)))
        assert freeze.run(once, given(tmp_path, {"x": (None, 3, 12, 20)}, x=(3, 12, 20))) == once

    def test_types_that_only_the_file_tells_are_kept(self, tmp_path: Path) -> None:
        document = onnx.load(convolution(tmp_path / "m.onnx"))
        document.graph.value_info.append(helper.make_tensor_value_info("sizes", TensorProto.INT64, ["?"]))
        onnx.save(document, tmp_path / "m.onnx")
        model = freeze.run(open_model(tmp_path / "m.onnx"), given(tmp_path, {"x": (1, 3, 9, 9)}, x=(3, 9, 9)))
        known = {value.name: value.type.tensor_type.elem_type for value in onnx.load(model.path).graph.value_info}
        assert known["sizes"] == TensorProto.INT64

    def test_weights_beside_the_model_are_taken_in(self, tmp_path: Path) -> None:
        document = onnx.load(convolution(tmp_path / "m.onnx"))
        onnx.save(document, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
        model = freeze.run(open_model(tmp_path / "m.onnx"), given(tmp_path, {"x": (None, 3, 9, 9)}, x=(3, 9, 9)))
        (tmp_path / "w.bin").unlink()
        assert outputs_of(model, {"x": np.ones((1, 3, 9, 9), np.float32)})["edges"].shape == (1, 2, 7, 7)

    def test_samples_of_another_size_are_told_of(self, tmp_path: Path) -> None:
        source = open_model(convolution(tmp_path / "m.onnx"))
        with pytest.raises(DataError, match=r"sample 0: input x: float32 \[N, 3, 12, 20\]: got shape \[1, 3, 9, 9\]"):
            freeze.run(source, given(tmp_path, {"x": (None, 3, 12, 20)}, x=(3, 9, 9)))


def free_tflite(path: Path) -> Path:
    """The sum and the difference of two inputs of any sizes [N, N]."""
    document = tflite_file.unpacked(tflite_model(path).read_bytes())
    for tensor in document.subgraphs[0].tensors:
        tensor.shape, tensor.shapeSignature = np.array([1, 1], np.int32), np.array([-1, -1], np.int32)
    path.write_bytes(tflite_file.packed(document))
    return path


class TestTflite:
    def test_sizes_are_fixed_and_all_others_follow(self, tmp_path: Path) -> None:
        source = open_model(free_tflite(tmp_path / "m.tflite"))
        shapes: dict[str, Shape] = {"first": (None, 6), "second": (None, 6)}
        model = freeze.run(source, given(tmp_path, shapes, first=(6,), second=(6,)))
        assert {str(spec).partition(":")[2] for spec in (*model.inputs, *model.outputs)} == {" float32 [N, 6]"}
        assert ([spec.name for spec in model.inputs], model.lineage) == (["first", "second"], ("freeze",))
        for batch in (1, 3):
            feeds = {name: RNG.random((batch, 6), np.float32) for name in shapes}
            assert np.allclose(outputs_of(model, feeds)["the_sum"], feeds["first"] + feeds["second"])

    def test_sizes_that_do_not_go_through_are_told_in_one_line(self, tmp_path: Path) -> None:
        source = open_model(free_tflite(tmp_path / "m.tflite"))
        shapes: dict[str, Shape] = {"first": (None, 6), "second": (None, 5)}
        with pytest.raises(ConversionError, match=r"m.tflite: cannot be of the sizes in edgekit.toml: "):
            freeze.run(source, given(tmp_path, shapes, first=(6,), second=(5,)))

    def test_the_file_tells_the_sizes_of_every_tensor(self, tmp_path: Path) -> None:
        made = freeze_tflite.freeze(free_tflite(tmp_path / "m.tflite").read_bytes(), [(2, 6), (2, 6)])
        tensors = tflite_file.unpacked(made).subgraphs[0].tensors
        assert [(list(each.shape), each.shapeSignature) for each in tensors] == [([2, 6], None)] * 4


def test_what_only_a_framework_can_load_is_declared_to_be_of_the_sizes(tmp_path: Path) -> None:
    program = Model(tmp_path / "m.pt2", Format.TORCH, (TensorSpec("x", "float32", (None, 3, None)),), (), "")
    made = freeze.run(program, given(tmp_path, {"x": (None, 3, 20)}, x=(3, 20)))
    assert (made.inputs[0].shape, made.lineage, made.path) == ((None, 3, 20), ("freeze",), program.path)
    keras = Model(tmp_path / "m.keras", Format.KERAS, (), (), "")
    assert freeze.run(keras, given(tmp_path, {"x": (None, 3, 20)}, x=(3, 20))).lineage == ("freeze",)


def test_what_leaves_sizes_free_is_told_with_the_line_to_write(tmp_path: Path) -> None:
    source = open_model(convolution(tmp_path / "m.onnx"))
    assert str(left_free(source, given(tmp_path, {}, x=(3, 12, 20)))) == (
        "m.onnx: input x: float32 [N, 3, N, N] leaves axes 2, 3 free, which TFLite cannot have — write under [inputs.x]"
        ' of edgekit.toml, as the calibration data are: shape = ["N", 3, 12, 20]'
    )
    assert left_free(open_model(tflite_model(tmp_path / "m.tflite")), given(tmp_path, {}, x=(3,))) is None


def test_what_was_made_of_other_sizes_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    source = open_model(convolution(tmp_path / "m.onnx"))
    data = samples(tmp_path / "data.npz", x=(3, 12, 20))
    for number, batch in enumerate((None, 1, None)):
        shapes: dict[str, Shape] = {"x": (batch, 3, 12, 20)}
        order = Order("app", "", data, data, tmp_path, 1, shapes=shapes, cache=tmp_path / "cache")
        (tmp_path / f"{number}").mkdir()
        workshop = Workshop(load("pi"), order, tmp_path / f"{number}")
        model = workshop.prepared(source, plan(source, load("pi"), [Precision.FLOAT32], [])[0])
        assert (model.inputs[0].shape, model.lineage) == ((batch, 3, 12, 20), ("freeze",))


@pytest.mark.slow
def test_a_real_model_of_free_height_and_width_is_built_at_the_sizes_of_its_data(tmp_path: Path) -> None:
    order = TEXTLINE.order(tmp_path, precisions=(Precision.INT8,), shapes=LINES)
    outcome = build(open_model(shared(TEXTLINE.model)), load("pi"), order, print)
    assert outcome.contents is not None
    manifest = outcome.contents.manifest
    assert [spec.shape for spec in manifest.interface.inputs] == [(None, 3, 48, 192)]
    assert next(iter(manifest.provenance["passes"])) == "freeze"
    baseline, chosen = outcome.measured[0], next(each for each in outcome.measured if each.chosen)
    assert baseline.accuracy == pytest.approx(TEXTLINE.accuracy, abs=0.003)
    assert chosen.accuracy is not None
    assert chosen.accuracy > TEXTLINE.accuracy - 0.01
