from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter as Litert
from ai_edge_litert.interpreter import OpResolverType
from onnx import helper, numpy_helper

from edgekit.model import Model, open_model
from edgekit.quantization import activations
from edgekit_runtime.interface import Interface
from tests.lab.models import RESNET8, RESNET20, TEXTLINE, Task, dense, onnx_model, outputs_of, shared, tflite_model

REAL = {"onnx": RESNET20, "onnx, opset 11": TEXTLINE, "tflite": RESNET8}


def feeds(task: Task, model: Model, folder: Path, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first samples of a task, as people give them and as the file takes them."""
    _, evaluation = task.data(folder)
    with np.load(folder / evaluation) as data:
        given = {model.inputs[0].name: data["x"][:count]}
    prepared = Interface(model.inputs, model.outputs, task.preprocess).feeds(given)
    return {spec.name: prepared[spec.inner] for spec in model.inputs}, prepared


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("count", [1, 3])
def test_the_outputs_are_those_of_the_engine_for_any_batch(tmp_path: Path, name: str, count: int) -> None:
    task = REAL[name]
    model = open_model(shared(task.model))
    given, prepared = feeds(task, model, tmp_path, count)
    found, want = activations.of(model).run(prepared), outputs_of(model, given)
    for spec in model.outputs:
        assert found[spec.inner].shape == want[spec.name].shape
        assert np.allclose(found[spec.inner], want[spec.name], atol=1e-4)
    assert all(np.array_equal(found[inner], array) for inner, array in prepared.items())
    assert len(found) > 15
    assert all(array.dtype == np.float32 for array in found.values())


def test_batches_of_several_sizes_one_after_the_other(tmp_path: Path) -> None:
    for task in (RESNET20, RESNET8):
        model = open_model(shared(task.model))
        within = activations.of(model)
        _, whole = feeds(task, model, tmp_path, 3)
        (inner, array) = next(iter(whole.items()))
        alone = [within.run({inner: array[index : index + 1]}) for index in range(3)]
        together = within.run(whole)
        assert np.allclose(
            together[model.outputs[0].inner],
            np.concatenate([each[model.outputs[0].inner] for each in alone]),
            atol=1e-4,
        )
        assert together.keys() == alone[0].keys()


class TestOnnx:
    def test_every_tensor_within_is_what_the_graph_up_to_it_computes(self, tmp_path: Path) -> None:
        """The graph is cut behind each tensor, and what is left is run as a model of its own."""
        source = shared(RESNET20.model)
        model = open_model(source)
        _, prepared = feeds(RESNET20, model, tmp_path, 1)
        found = activations.of(model).run(prepared)
        names = [output for node in onnx.load(source).graph.node for output in node.output]
        assert set(names) - set(found) <= {n for n in names if n not in found and not _is_float(source, n)}
        for name in [name for name in names if name in found][::15]:
            whole = onnx.shape_inference.infer_shapes(onnx.load(source))
            cut = onnx.utils.Extractor(whole).extract_model([model.inputs[0].inner], [name])
            onnx.save(cut, tmp_path / "cut.onnx")
            want = outputs_of(open_model(tmp_path / "cut.onnx"), prepared)[name]
            assert np.allclose(found[name], want, atol=1e-4)

    def test_nothing_is_fused_away(self, tmp_path: Path) -> None:
        """onnxruntime would make one node of these three."""
        weights = {"w": np.eye(8, 4, dtype=np.float32) - np.float32(0.5), "b": np.ones(4, np.float32)}
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["sum"]),
            helper.make_node("Relu", ["sum"], ["y"]),
        ]
        path = onnx_model(tmp_path / "m.onnx", nodes, {"x": ["N", 8]}, {"y": ["N", 4]}, weights)
        x = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
        found = activations.of(open_model(path)).run({"x": x})
        assert found.keys() == {"x", "product", "sum", "y"}
        assert np.allclose(found["product"], x @ weights["w"], atol=1e-6)
        assert np.allclose(found["sum"], x @ weights["w"] + 1, atol=1e-6)
        assert np.array_equal(found["y"], np.maximum(found["sum"], 0))

    def test_integers_are_left_out(self, tmp_path: Path) -> None:
        weights = {"table": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), "one": np.int64([1])}
        nodes = [
            helper.make_node("Add", ["int_x", "one"], ["int_more"]),
            helper.make_node("Gather", ["table", "int_more"], ["rows"]),
            helper.make_node("Relu", ["rows"], ["y"]),
        ]
        path = onnx_model(tmp_path / "m.onnx", nodes, {"int_x": ["N"]}, {"y": ["N", 3]}, weights)  # type: ignore[arg-type]
        found = activations.of(open_model(path)).run({"int_x": np.int64([0, 3])})
        assert found.keys() == {"rows", "y"}
        assert np.array_equal(found["rows"], weights["table"][[1, 4]])

    def test_weights_beside_the_model_are_read(self, tmp_path: Path) -> None:
        document = onnx.load(dense(tmp_path / "m.onnx"))
        w, b = (numpy_helper.to_array(each) for each in document.graph.initializer)
        onnx.save(document, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
        x = np.ones((1, 8), np.float32)
        found = activations.of(open_model(tmp_path / "m.onnx")).run({"x": x})
        assert np.allclose(found["scores"], x @ w + b, atol=1e-5)

    def test_the_model_itself_is_left_as_it_is(self, tmp_path: Path) -> None:
        path = dense(tmp_path / "m.onnx")
        before = path.read_bytes()
        activations.of(open_model(path)).run({"x": np.ones((1, 8), np.float32)})
        assert path.read_bytes() == before


class TestTflite:
    def test_every_tensor_within_is_what_the_reference_kernels_compute(self, tmp_path: Path) -> None:
        model = open_model(shared(RESNET8.model))
        _, prepared = feeds(RESNET8, model, tmp_path, 1)
        found = activations.of(model).run(prepared)
        interpreter = Litert(
            model_content=model.path.read_bytes(),
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], next(iter(prepared.values())))
        interpreter.invoke()
        details = {each["index"]: each for each in interpreter.get_tensor_details()}
        made = [details[index] for operator in interpreter._get_ops_details() for index in operator["outputs"]]
        assert {each["name"] for each in made} | prepared.keys() == found.keys()
        assert len(made) > 12
        for each in made:
            assert np.allclose(found[each["name"]], interpreter.get_tensor(each["index"]), rtol=1e-3, atol=1e-3)

    def test_sum_and_difference(self, tmp_path: Path) -> None:
        first, second = np.float32([[1, 2, 3, 4]]), np.float32([[4, 4, 4, 4]])
        found = activations.of(open_model(tflite_model(tmp_path / "m.tflite"))).run({"in:0": first, "in:1": second})
        assert {name: array.tolist() for name, array in found.items()} == {
            "in:0": first.tolist(),
            "in:1": second.tolist(),
            "out:0": (first + second).tolist(),
            "out:1": (first - second).tolist(),
        }

    def test_what_was_given_back_is_not_overwritten_by_the_next_sample(self, tmp_path: Path) -> None:
        within = activations.of(open_model(tflite_model(tmp_path / "m.tflite")))
        one = within.run(dict.fromkeys(("in:0", "in:1"), np.ones((1, 4), np.float32)))
        within.run(dict.fromkeys(("in:0", "in:1"), np.zeros((1, 4), np.float32)))
        assert one["out:0"].tolist() == [[2, 2, 2, 2]]


def _is_float(path: Path, name: str) -> bool:
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    kinds = {each.name: each.type.tensor_type.elem_type for each in (*graph.value_info, *graph.output)}
    return kinds.get(name) == onnx.TensorProto.FLOAT
