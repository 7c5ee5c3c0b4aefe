"""Files with training signatures beside the one that serves: which one that is, and how it becomes the first."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgekit.errors import UnsupportedFormat
from edgekit.formats import tflite_file, tflite_graph, tflite_signatures
from edgekit.model import open_model
from edgekit_train.signature_trainer import SignatureTrainer, weights_of
from tests.lab.trainable import clusters, start, trainable


def test_the_model_takes_and_gives_what_its_serving_signature_does_wherever_it_stands(tmp_path: Path) -> None:
    path = trainable(tmp_path / "m.tflite")
    model = open_model(path)
    assert [str(spec) for spec in (*model.inputs, *model.outputs)] == ["x: float32 [N, 8]", "logits: float32 [N, 3]"]
    assert model.trains
    assert not model.quantized
    first = Interpreter(model_content=path.read_bytes()).get_input_details()
    assert model.inputs[0].inner not in {detail["name"] for detail in first if len(detail["shape"]) == 2}


def test_what_serves_becomes_what_an_engine_runs_and_all_signatures_do_what_they_did(tmp_path: Path) -> None:
    before = trainable(tmp_path / "m.tflite").read_bytes()
    after = tflite_file.serving_first(before)
    x, y = clusters(95)
    interpreter = Interpreter(model_content=after)
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(taken["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], x)
    interpreter.invoke()
    assert np.allclose(interpreter.get_tensor(given["index"]), x @ start()["weight"].T + start()["bias"], atol=1e-5)
    named = Interpreter(model_content=before).get_signature_runner("serving_default")(x=x[:1])["logits"]
    assert np.array_equal(interpreter.get_signature_runner("serving_default")(x=x[:1])["logits"], named)
    one, two = (
        SignatureTrainer(data, 3).fit(weights_of(data), zip(x, y, strict=True), {"epochs": 3})
        for data in (before, after)
    )
    assert {name: array.tobytes() for name, array in one.delta.items()} == {
        name: array.tobytes() for name, array in two.delta.items()
    }
    assert all(np.abs(array).max() > 0.01 for array in one.delta.values())
    assert tflite_file.serving_first(after) is after


def test_all_that_names_a_graph_by_number_follows_it() -> None:
    document, options = schema.ModelT(), [schema.IfOptionsT(), schema.WhileOptionsT(), schema.StablehloCaseOptionsT()]
    options[0].thenSubgraphIndex, options[0].elseSubgraphIndex = 0, 3
    options[1].condSubgraphIndex, options[1].bodySubgraphIndex = 1, 2
    options[2].branchSubgraphIndices = [0, 2, 3]
    document.subgraphs, document.signatureDefs = [schema.SubGraphT() for _ in range(4)], [schema.SignatureDefT()]
    for graph, name in zip(document.subgraphs, b"abcd", strict=True):
        graph.name, graph.operators = bytes([name]), []
    for each in options:
        operator = schema.OperatorT()
        operator.builtinOptions = each
        document.subgraphs[3].operators.append(operator)
    document.signatureDefs[0].subgraphIndex = 3
    tflite_signatures.put_first(document, 2)
    assert [graph.name for graph in document.subgraphs] == [b"c", b"a", b"b", b"d"]
    assert (options[0].thenSubgraphIndex, options[0].elseSubgraphIndex) == (1, 3)
    assert (options[1].condSubgraphIndex, options[1].bodySubgraphIndex) == (2, 0)
    assert (options[2].branchSubgraphIndices, document.signatureDefs[0].subgraphIndex) == ([1, 0, 3], 3)


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (("restore", "infer", "train", "weights"), "infer"),
        (("restore", "serving_default", "train", "weights", "encode"), "serving_default"),
        (("restore", "infer", "train", "weights", "encode"), None),
        (("restore", "train", "weights"), None),
    ],
)
def test_which_one_serves(names: tuple[str, ...], key: str | None) -> None:
    assert tflite_signatures.trains(set(names))
    assert tflite_signatures.serving(set(names)) == key


def test_where_nothing_tells_which_one_serves_the_line_says_what_to_do(tmp_path: Path) -> None:
    path = trainable(tmp_path / "m.tflite", "restore", "infer", "train", "weights", "encode")
    with pytest.raises(UnsupportedFormat, match=r"which .* serves\? encode, infer, .* — give it one named serving_def"):
        open_model(path)
    part = trainable(tmp_path / "part.tflite", "restore", "infer", "train", "values")
    with pytest.raises(UnsupportedFormat, match="convert it with one only, or with restore, train, weights beside it"):
        open_model(part)


def test_changed_bytes_are_refused_or_give_a_model_but_never_another_error(tmp_path: Path) -> None:
    whole, path, draw = trainable(tmp_path / "m.tflite").read_bytes(), tmp_path / "changed.tflite", random.Random(1)
    refused = 0
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(draw.choice((1, 1, 2, 4))):
            changed[draw.randrange(len(whole))] = draw.choice((0, 1, 255))
        path.write_bytes(changed)
        try:
            open_model(path)
        except UnsupportedFormat as error:
            assert "\n" not in str(error)
            refused += 1
    assert 0 < refused < 150


def test_numbers_that_lead_out_of_the_file_are_refused(tmp_path: Path) -> None:
    document = tflite_file.unpacked(trainable(tmp_path / "m.tflite").read_bytes())
    document.subgraphs[2].operators[0].builtinOptions.initSubgraphIndex = 4100
    with pytest.raises(ValueError, match="not a TFLite file"):
        tflite_file.serving_first(tflite_file.packed(document))


def test_what_serves_is_looked_into_without_the_graphs_that_train(tmp_path: Path) -> None:
    data = tflite_file.serving_first(trainable(tmp_path / "m.tflite").read_bytes())
    main, beginning = tflite_graph.read(data).graphs
    assert {each.op for each in main.operators} == {"CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "FULLY_CONNECTED"}
    assert {each.op for each in beginning.operators} == {"VAR_HANDLE", "ASSIGN_VARIABLE"}
    assert set(tflite_graph.read(data).needs) >= {"SOFTMAX", "FULLY_CONNECTED"}
