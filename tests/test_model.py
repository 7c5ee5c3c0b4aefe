from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.errors import UnsupportedFormat
from edgekit.model import Format, derived, digest_of, open_model
from edgekit_runtime.tensors import TensorSpec
from tests.lab.models import dense, tflite_model, two_by_two


def test_a_file_is_read_by_its_suffix_in_any_case(tmp_path: Path) -> None:
    assert open_model(dense(tmp_path / "a.onnx")).format is Format.ONNX
    assert open_model(dense(tmp_path / "A.ONNX")).format is Format.ONNX
    assert open_model(tflite_model(tmp_path / "b.tflite")).format is Format.TFLITE


def test_a_model_knows_its_bytes(tmp_path: Path) -> None:
    path = dense(tmp_path / 'my model\'s (2) "best".onnx')
    model = open_model(path)
    assert model.digest == digest_of(path) == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert model.size == path.stat().st_size
    assert model.lineage == ()


@pytest.mark.parametrize("name", ["none.onnx", "folder.onnx", ""])
def test_what_is_no_file_is_no_model(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UnsupportedFormat, match="no such model file — give the path of") as caught:
        open_model(tmp_path / name)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("name", ["model.ckpt", "model.pb", "model", "onnx", "model.onnx.zip"])
def test_an_unknown_suffix_tells_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnsupportedFormat, match=r"not a model format that edgekit reads — known: .h5, .keras, .onnx, "):
        open_model(tmp_path / name)


def test_what_a_pass_wrote_keeps_the_names_of_its_source_in_their_order(tmp_path: Path) -> None:
    source, written = open_model(two_by_two(tmp_path / "a.onnx")), tflite_model(tmp_path / "b.tflite")
    model = derived(replace(source, lineage=("before",)), written, "step")
    assert model.lineage == ("before", "step")
    assert [(spec.name, spec.inner) for spec in model.inputs] == [("right", "in:0"), ("left", "in:1")]
    assert [(spec.name, spec.inner) for spec in model.outputs] == [("sum", "out:1"), ("product", "out:0")]
    assert model.digest == digest_of(written)


def test_a_name_given_by_the_source_goes_through_several_passes(tmp_path: Path) -> None:
    source = open_model(two_by_two(tmp_path / "a.onnx"))
    once = derived(source, tflite_model(tmp_path / "b.tflite"), "one")
    twice = derived(once, two_by_two(tmp_path / "c.onnx"), "two")
    assert [(spec.name, spec.inner) for spec in twice.inputs] == [("right", "right"), ("left", "left")]
    assert twice.lineage == ("one", "two")


def test_a_model_with_another_number_of_tensors_keeps_its_own_names(tmp_path: Path) -> None:
    model = derived(open_model(dense(tmp_path / "a.onnx")), two_by_two(tmp_path / "b.onnx"), "step")
    assert [spec.name for spec in model.inputs] == ["right", "left"]


def test_names_from_elsewhere_go_over_those_of_the_file(tmp_path: Path) -> None:
    source = open_model(dense(tmp_path / "a.onnx"))
    known = replace(source, inputs=(TensorSpec("image", "float32", (None, 8)),))
    assert derived(source, source.path, "step", names_of=known).inputs[0].name == "image"
