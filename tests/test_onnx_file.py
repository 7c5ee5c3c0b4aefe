from __future__ import annotations

import ctypes
import os
import random
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import UnsupportedFormat
from edgekit.formats import onnx_file
from edgekit.model import open_model
from tests.lab.models import DIGITS, RESNET20, TEXTLINE, dense, onnx_model, shared, two_by_two

LIBC = ctypes.CDLL(None, use_errno=True)
IN_ACCESS, IN_OPEN, IN_NONBLOCK = 0x1, 0x20, 0o4000


@contextmanager
def untouched(path: Path) -> Iterator[None]:
    """Fails when anything opens or reads the file: the kernel is asked (inotify), so native code is seen as well."""
    watch = LIBC.inotify_init1(IN_NONBLOCK)
    assert watch >= 0
    assert LIBC.inotify_add_watch(watch, os.fsencode(path), IN_OPEN | IN_ACCESS) >= 0
    try:
        yield
        with pytest.raises(BlockingIOError):
            os.read(watch, 4096)
    finally:
        os.close(watch)


def with_weights_in(path: Path, location: str) -> Path:
    """The dense model with its weights in another file, written as ``location``, whether that is there or not."""
    model = onnx.load(dense(path))
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    return path


def weights() -> bytes:
    return struct.pack("<32f", *range(32))


def refused(path: Path) -> str:
    with pytest.raises(UnsupportedFormat) as caught:
        open_model(path)
    assert caught.value.exit_code == 1
    assert caught.value.hint
    assert str(path) in caught.value.message
    return str(caught.value)


class TestTensors:
    def test_names_types_and_sizes_are_those_of_the_graph(self) -> None:
        model = open_model(DIGITS / "digits.onnx")
        assert [str(spec) for spec in model.inputs] == ["image: float32 [N, 1, 8, 8]"]
        assert [str(spec) for spec in model.outputs] == ["logits: float32 [N, 10]"]
        assert not model.quantized

    def test_several_inputs_and_outputs_keep_their_order(self, tmp_path: Path) -> None:
        model = open_model(two_by_two(tmp_path / "m.onnx"))
        assert [spec.name for spec in model.inputs] == ["right", "left"]
        assert [spec.name for spec in model.outputs] == ["sum", "product"]

    @pytest.mark.parametrize("size", [None, 0, -1, "N"])
    def test_a_free_size_however_it_is_written(self, tmp_path: Path, size: int | str | None) -> None:
        node = helper.make_node("Relu", ["x"], ["y"])
        path = onnx_model(tmp_path / "m.onnx", [node], {"x": [1, size, 3]}, {"y": [1, size, 3]})
        assert open_model(path).inputs[0].shape == (1, None, 3)

    def test_a_weight_that_is_listed_as_an_input_is_none(self, tmp_path: Path) -> None:
        model = onnx.load(dense(tmp_path / "m.onnx"))
        model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [8, 4]))
        onnx.save(model, tmp_path / "m.onnx")
        assert [spec.name for spec in open_model(tmp_path / "m.onnx").inputs] == ["x"]

    @pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.BFLOAT16, TensorProto.COMPLEX64])
    def test_a_type_that_is_not_served_is_named_with_its_tensor(self, tmp_path: Path, kind: int) -> None:
        value = [helper.make_tensor_value_info(name, kind, [1]) for name in ("words", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["words"], ["y"])], "g", value[:1], value[1:])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
        with pytest.raises(UnsupportedFormat, match="words is of a type that edgekit does not serve"):
            open_model(tmp_path / "m.onnx")

    def test_a_sequence_is_not_served(self, tmp_path: Path) -> None:
        node = helper.make_node("SequenceConstruct", ["x"], ["many"])
        path = onnx_model(tmp_path / "m.onnx", [node], {"x": [1]}, {})
        model = onnx.load(path)
        model.graph.output.append(helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, [1]))
        onnx.save(model, path)
        with pytest.raises(UnsupportedFormat, match="many is of a type that edgekit does not serve"):
            open_model(path)

    def test_weights_in_int8_make_a_model_a_quantized_one(self, tmp_path: Path) -> None:
        nodes = [
            helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ]
        weights = {"q": np.ones((8, 4), np.int8), "scale": np.array(0.1, np.float32)}
        assert open_model(onnx_model(tmp_path / "m.onnx", nodes, {"x": [1, 8]}, {"y": [1, 4]}, weights)).quantized

    def test_pretrained_models(self) -> None:
        resnet, textline = open_model(shared(RESNET20.model)), open_model(shared(TEXTLINE.model))
        assert [str(spec) for spec in resnet.inputs] == ["image: float32 [N, 3, 32, 32]"]
        assert [str(spec) for spec in textline.inputs] == ["x: float32 [N, 3, N, N]"]
        assert onnx_file.opset(onnx_file.load(textline.path)) == 11
        assert not resnet.quantized
        assert not textline.quantized


class TestDamage:
    @pytest.mark.parametrize("content", [b"", b"hello world\n" * 10, b"\x00" * 100, b"PK\x03\x04", b"\xff" * 1000])
    def test_what_is_no_onnx_is_refused_in_one_line(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        assert "\n" not in refused(path)

    def test_a_model_cut_short_anywhere_is_refused(self, tmp_path: Path) -> None:
        whole, path = dense(tmp_path / "m.onnx").read_bytes(), tmp_path / "cut.onnx"
        for end in range(len(whole)):
            path.write_bytes(whole[:end])
            refused(path)

    def test_the_digits_cut_short_are_refused(self, tmp_path: Path) -> None:
        whole, path = (DIGITS / "digits.onnx").read_bytes(), tmp_path / "cut.onnx"
        for end in range(0, len(whole), len(whole) // 50):
            path.write_bytes(whole[:end])
            refused(path)

    def test_changed_bytes_are_refused_or_give_a_model_but_never_another_error(self, tmp_path: Path) -> None:
        whole, path, chance = dense(tmp_path / "m.onnx").read_bytes(), tmp_path / "changed.onnx", random.Random(0)
        opened = 0
        for _ in range(500):
            changed = bytearray(whole)
            for _ in range(chance.choice([1, 2, 10])):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            path.write_bytes(changed)
            with suppress(UnsupportedFormat):
                opened += bool(open_model(path).inputs)
        assert 0 < opened < 500

    def test_a_graph_without_nodes_is_no_model(self, tmp_path: Path) -> None:
        assert "without a single node" in refused(onnx_model(tmp_path / "m.onnx", [], {"x": [1]}, {"x": [1]}))


class TestWeightsElsewhere:
    def test_beside_the_model_they_are_taken_in(self, tmp_path: Path) -> None:
        path = with_weights_in(tmp_path / "m.onnx", "weights.bin")
        (tmp_path / "weights.bin").write_bytes(weights())
        assert open_model(path).inputs[0].name == "x"
        (bias,) = [tensor for tensor in onnx_file.load(path).graph.initializer if tensor.name == "b"]
        assert onnx.numpy_helper.to_array(bias).tolist() == [0, 1, 2, 3]

    def test_in_a_folder_beside_it_too(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "weights.bin").write_bytes(weights())
        open_model(with_weights_in(tmp_path / "m.onnx", "data/weights.bin"))

    def test_that_are_missing_are_named(self, tmp_path: Path) -> None:
        assert "weights.bin" in refused(with_weights_in(tmp_path / "m.onnx", "weights.bin"))

    def test_that_are_cut_short_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "weights.bin").write_bytes(weights()[:-1])
        refused(with_weights_in(tmp_path / "m.onnx", "weights.bin"))

    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        (tmp_path / "outside").mkdir()
        (tmp_path / "models").mkdir()
        path = tmp_path / "outside" / "secret.bin"
        path.write_bytes(weights())
        return path

    @pytest.mark.parametrize(
        "location",
        ["../outside/secret.bin", "models/../../outside/secret.bin", "./../outside/secret.bin", "{absolute}"],
    )
    def test_outside_of_its_folder_they_are_never_read(self, tmp_path: Path, secret: Path, location: str) -> None:
        path = with_weights_in(tmp_path / "models" / "m.onnx", location.format(absolute=secret))
        with untouched(secret):
            refused(path)

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_through_a_link_they_are_never_read(self, tmp_path: Path, secret: Path, link: object) -> None:
        link(secret, tmp_path / "models" / "weights.bin")  # type: ignore[operator]
        path = with_weights_in(tmp_path / "models" / "m.onnx", "weights.bin")
        with untouched(secret):
            refused(path)

    def test_through_a_link_to_a_folder_they_are_never_read(self, tmp_path: Path, secret: Path) -> None:
        (tmp_path / "models" / "data").symlink_to(secret.parent)
        path = with_weights_in(tmp_path / "models" / "m.onnx", "data/secret.bin")
        with untouched(secret):
            refused(path)

    def test_of_a_constant_within_a_branch_they_are_never_read(self, tmp_path: Path, secret: Path) -> None:
        value = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
        value.external_data.add(key="location", value="../outside/secret.bin")
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
        branch = helper.make_graph([helper.make_node("Constant", [], ["y"], value=value)], "branch", [], [out])
        true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
        nodes = [
            helper.make_node("Constant", [], ["yes"], value=true),
            helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        ]
        graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])], [out])
        path = tmp_path / "models" / "m.onnx"
        path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
        with untouched(secret):
            refused(path)

    def test_the_watch_sees_a_read(self, tmp_path: Path, secret: Path) -> None:
        def read() -> None:
            with untouched(secret):
                shutil.copy(secret, tmp_path / "copy")

        with pytest.raises(pytest.fail.Exception):
            read()
