from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgekit.errors import UnsupportedFormat
from edgekit.formats import tflite_file, tflite_graph
from edgekit.model import open_model
from tests.lab.models import DSCNN_INT8, RESNET8, RESNET8_INT8, VWW, outputs_of, shared, tflite_model


def test_tensors_have_the_names_of_the_signature_in_the_order_of_the_graph(tmp_path: Path) -> None:
    model = open_model(tflite_model(tmp_path / "m.tflite"))
    assert [(spec.name, spec.inner) for spec in model.inputs] == [("first", "in:0"), ("second", "in:1")]
    assert [(spec.name, spec.inner) for spec in model.outputs] == [("the_difference", "out:1"), ("the_sum", "out:0")]
    feeds = {"first": np.full((1, 4), 3, np.float32), "second": np.full((1, 4), 1, np.float32)}
    given = outputs_of(model, feeds)
    assert list(given) == ["the_difference", "the_sum"]
    assert (given["the_difference"][0, 0], given["the_sum"][0, 0]) == (2, 4)


def test_without_a_signature_tensors_have_the_names_of_the_graph(tmp_path: Path) -> None:
    model = open_model(tflite_model(tmp_path / "m.tflite", signatures=()))
    assert [spec.name for spec in model.inputs] == ["in:0", "in:1"]
    assert [spec.name for spec in model.outputs] == ["out:1", "out:0"]


def test_several_signatures_are_refused_by_name(tmp_path: Path) -> None:
    path = tflite_model(tmp_path / "m.tflite", signatures=("train", "infer"))
    with pytest.raises(UnsupportedFormat, match="has 2 signatures: infer, train — convert it with one only"):
        open_model(path)


def test_a_type_that_is_not_served_is_named_with_its_tensor(tmp_path: Path) -> None:
    path = tflite_model(tmp_path / "m.tflite", kind=schema.TensorType.COMPLEX64)
    with pytest.raises(UnsupportedFormat, match=r"in:0 is of a type that edgekit does not serve \(complex64\)"):
        open_model(path)


def test_a_signature_is_given_to_a_model_without_one(tmp_path: Path) -> None:
    path = tflite_model(tmp_path / "m.tflite", signatures=())
    signed = tflite_file.with_signature(path.read_bytes())
    signatures = Interpreter(model_content=signed).get_signature_list()
    assert {name: (sorted(each["inputs"]), sorted(each["outputs"])) for name, each in signatures.items()} == {
        "serving_default": (["in:0", "in:1"], ["out:0", "out:1"])
    }
    path.write_bytes(signed)
    assert [spec.name for spec in open_model(path).outputs] == ["out:1", "out:0"]
    assert tflite_file.with_signature(signed) == signed


def test_pretrained_models() -> None:
    ours, quantized = open_model(shared(RESNET8.model)), open_model(shared(RESNET8_INT8.model))
    assert [str(spec).partition(": ")[2] for spec in (*ours.inputs, *ours.outputs)] == [
        "float32 [N, 32, 32, 3]",
        "float32 [N, 10]",
    ]
    assert not ours.quantized
    assert quantized.quantized
    assert [spec.dtype for spec in (*quantized.inputs, *quantized.outputs)] == ["int8", "int8"]
    assert open_model(shared(DSCNN_INT8.model)).quantized
    assert [spec.name for spec in open_model(shared(VWW.model)).inputs] == ["input_1"]


class TestDamage:
    @pytest.mark.parametrize("content", [b"", b"hello world\n" * 10, b"\x00" * 100, b"\x1c\x00\x00\x00TFL3"])
    def test_what_is_no_tflite_is_refused_in_one_line(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        with pytest.raises(UnsupportedFormat, match="not a TFLite model, or cut short — export or copy it again"):
            open_model(path)

    def test_a_model_cut_short_anywhere_is_refused(self, tmp_path: Path) -> None:
        whole, path = tflite_model(tmp_path / "m.tflite").read_bytes(), tmp_path / "cut.tflite"
        for end in range(0, len(whole), 7):
            path.write_bytes(whole[:end])
            with pytest.raises(UnsupportedFormat):
                open_model(path)

    def test_a_pretrained_model_cut_short_is_refused(self, tmp_path: Path) -> None:
        whole, path = shared(RESNET8.model).read_bytes(), tmp_path / "cut.tflite"
        for end in range(0, len(whole), len(whole) // 20):
            path.write_bytes(whole[:end])
            with pytest.raises(UnsupportedFormat):
                open_model(path)

    def test_a_name_that_is_no_text_is_refused(self, tmp_path: Path) -> None:
        path = tflite_model(tmp_path / "m.tflite")
        path.write_bytes(path.read_bytes().replace(b"in:0", b"in\xff0"))
        with pytest.raises(UnsupportedFormat):
            open_model(path)


def test_data_behind_the_schema_are_part_of_the_file(tmp_path: Path) -> None:
    """As the AI Edge Quantizer writes them; they are read where they lie, and are like any others once unpacked."""
    inner = shared(RESNET8.model).read_bytes()
    outer = moved_behind(inner)
    assert open_model(write(tmp_path / "outer.tflite", outer)).outputs == open_model(shared(RESNET8.model)).outputs
    graphs = [tflite_graph.read(data).graphs[0] for data in (inner, outer)]
    sizes = [[tensor.size for tensor in graph.tensors.values()] for graph in graphs]
    assert sizes[0] == sizes[1]
    again = open_model(write(tmp_path / "again.tflite", tflite_file.packed(tflite_file.unpacked(outer))))
    feeds = {again.inputs[0].name: np.random.default_rng(0).random((1, 32, 32, 3), np.float32)}
    given, want = outputs_of(again, feeds), outputs_of(open_model(shared(RESNET8.model)), feeds)
    assert all(np.array_equal(*pair) for pair in zip(given.values(), want.values(), strict=True))


def moved_behind(model: bytes) -> bytes:
    """The file with the data of its buffers at its end."""
    document = tflite_file.unpacked(model)
    held = [None if buffer.data is None else bytes(buffer.data) for buffer in document.buffers]
    for buffer, data in zip(document.buffers, held, strict=True):
        if data:
            buffer.data, buffer.offset, buffer.size = None, 1 << 30, len(data)
    at = len(tflite_file.packed(document))
    behind = bytearray()
    for buffer, data in zip(document.buffers, held, strict=True):
        if data:
            behind += bytes(-(at + len(behind)) % 16)
            buffer.offset = at + len(behind)
            behind += data
    return tflite_file.packed(document) + bytes(behind)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
