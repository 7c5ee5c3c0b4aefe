from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.building.order import Order
from edgekit.errors import ConversionError, UnsupportedFormat
from edgekit.model import Format, Model, open_model
from edgekit.passes import convert_savedmodel, freeze
from tests.lab.models import Task, arrays, context, in_keras, outputs_of, samples, shared, tensorflow

pytestmark = pytest.mark.slow

KWS = Task("dscnn_kws/saved_model", 0.913, arrays("speech_commands_mfcc"))
MAKE = """
import sys
from pathlib import Path
import tensorflow as tf
folder = Path(sys.argv[1])
tf.random.set_seed(0)
spec = tf.TensorSpec([None, 4], tf.float32)

class Several(tf.Module):
    def __init__(self):
        self.weight = tf.Variable(tf.random.normal([4, 4]))
    @tf.function(input_signature=[spec, spec])
    def __call__(self, right, left):
        return {"zeta": tf.matmul(right - left, self.weight), "alpha": right * 2.0}

module = Several()
tf.saved_model.save(module, str(folder / "several"), signatures=module.__call__.get_concrete_function())
tf.saved_model.save(module, str(folder / "two"), signatures={"a": module.__call__, "b": module.__call__})

class Outside(tf.Module):
    def __init__(self, run):
        self.run = tf.function(run, input_signature=[spec])

def python(x): return {"y": tf.ensure_shape(tf.py_function(lambda x: x, [x], tf.float32), [None, 4])}
def files(x): return {"y": x + tf.strings.to_number(tf.io.read_file("/etc/hostname"))}
for name, run in (("python", python), ("files", files)):
    module = Outside(run)
    tf.saved_model.save(module, str(folder / name), signatures=module.run.get_concrete_function())

import keras
from keras import layers
image = keras.Input((8, 8, 3), name="photo")
x = layers.BatchNormalization()(layers.Conv2D(4, 3, name="edges")(image))
scores = layers.Dense(3, name="scores")(layers.Flatten()(layers.ReLU()(x)))
keras.Model(image, scores).export(folder / "keras", verbose=False)
free = keras.Input((None, None, 3), name="photo")
edges = layers.Conv2D(4, 5, strides=2, name="edges")(free)
keras.Model(free, [edges, layers.GlobalAveragePooling2D(name="mean")(edges)]).export(folder / "free", verbose=False)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of SavedModels, made by TensorFlow in a process of its own."""
    folder = tmp_path_factory.mktemp("saved models")
    done = in_keras(MAKE, folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def converted(source: Path, order: Order, form: Format, target: str = "pi") -> Model:
    run = {Format.ONNX: convert_savedmodel.run_onnx, Format.TFLITE: convert_savedmodel.run_tflite}[form]
    work = order.base / form.value
    work.mkdir()
    return run(open_model(source), context(work, target, order))


def made_up(folder: Path, **sizes: tuple[int, ...]) -> Order:
    data = samples(folder / "data.npz", **sizes)
    return Order("app", "", data, data, folder, 1)


both = pytest.mark.parametrize("form", [Format.TFLITE, Format.ONNX], ids=lambda form: form.value)


@tensorflow
@both
class TestConversion:
    def test_a_real_model_of_older_days_keeps_names_and_accuracy(self, tmp_path: Path, form: Format) -> None:
        model = converted(shared(KWS.model), KWS.order(tmp_path), form)
        assert [str(spec) for spec in (*model.inputs, *model.outputs)] == [
            "input_1: float32 [N, 49, 10, 1]",
            "dense: float32 [N, 12]",
        ]
        assert model.lineage == (f"savedmodel-to-{form.value}",)
        with np.load(shared("data/speech_commands_mfcc.npz")) as data:
            scores = [outputs_of(model, {"input_1": x})["dense"] for x in np.array_split(data["test_x"], 9)]
            accuracy = np.mean(np.concatenate(scores).argmax(1) == data["test_y"])
        assert accuracy == pytest.approx(KWS.accuracy, abs=0.002)

    def test_several_inputs_and_outputs_keep_their_names(self, made: Path, tmp_path: Path, form: Format) -> None:
        model = converted(made / "several", made_up(tmp_path, right=(4,), left=(4,)), form)
        assert {spec.name for spec in model.inputs} == {"right", "left"}
        right, left = (np.full((2, 4), value, np.float32) for value in (1, 3))
        given = outputs_of(model, {"right": right, "left": left})
        assert np.allclose(given["alpha"], 2)
        assert np.allclose(given["zeta"], -outputs_of(model, {"right": left, "left": right})["zeta"], atol=1e-5)

    def test_free_sizes_become_those_that_are_asked_for(self, made: Path, tmp_path: Path, form: Format) -> None:
        source = open_model(made / "free")
        (name,) = (spec.name for spec in source.inputs)
        order, shapes = made_up(tmp_path, **{name: (20, 24, 3)}), {name: (None, 20, 24, 3)}
        run = {Format.ONNX: convert_savedmodel.run_onnx, Format.TFLITE: convert_savedmodel.run_tflite}[form]
        model = source
        for number, step in enumerate((freeze.run, run, freeze.run)):
            (tmp_path / f"{number}").mkdir()
            model = step(model, replace(context(tmp_path / f"{number}", "pi", order), shapes=shapes))
        assert [spec.shape for spec in (*model.inputs, *model.outputs)] == [
            (None, 20, 24, 3),
            (None, 8, 10, 4),
            (None, 4),
        ]
        assert model.lineage[:2] == ("freeze", f"savedmodel-to-{form.value}")

    def test_tflite_of_free_sizes_that_are_not_asked_for_is_told_with_the_line_to_write(
        self, made: Path, tmp_path: Path, form: Format
    ) -> None:
        (name,) = (spec.name for spec in open_model(made / "free").inputs)
        if form is Format.TFLITE:
            with pytest.raises(ConversionError, match=r'leaves axes 1, 2 free, .*: shape = \["N", 20, 24, 3\]'):
                converted(made / "free", made_up(tmp_path, **{name: (20, 24, 3)}), form)

    def test_what_keras_exports(self, made: Path, tmp_path: Path, form: Format) -> None:
        source = open_model(made / "keras")
        model = converted(made / "keras", made_up(tmp_path, **{source.inputs[0].name: (8, 8, 3)}), form)
        assert model.inputs[0].name == source.inputs[0].name
        image = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
        assert next(iter(outputs_of(model, {model.inputs[0].name: image}).values())).shape == (2, 3)

    def test_one_that_is_off_is_refused_with_its_first_layer(
        self, made: Path, tmp_path: Path, form: Format, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = open_model(made / "keras")
        other = tmp_path / "other"
        shutil.copytree(made / "keras", other)
        order = made_up(tmp_path, **{source.inputs[0].name: (8, 8, 3)})
        monkeypatch.setattr(convert_savedmodel, "derived", lambda model, path, step: _weakened(path, model, form))
        with pytest.raises(
            ConversionError, match=r"by .* of .*; the first layer that differs: functional_1/edges_1/conv"
        ):
            converted(other, order, form)


def _weakened(path: Path, source: Model, form: Format) -> Model:
    """The converted model with its first convolution's weights changed."""
    if form is Format.ONNX:
        document = onnx.load(path)
        (conv,) = (node for node in document.graph.node if node.op_type == "Conv")
        weight = next(tensor for tensor in document.graph.initializer if tensor.name == conv.input[1])
        array = onnx.numpy_helper.to_array(weight) + 1
        weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
        onnx.save(document, path)
    else:
        _weaken_tflite(path)
    written = open_model(path)
    return replace(
        written, inputs=_named(written.inputs, source.inputs), outputs=_named(written.outputs, source.outputs)
    )


def _named(written: Any, known: Any) -> Any:
    return tuple(replace(old, tensor=new.inner) for new, old in zip(written, known, strict=True))


def _weaken_tflite(path: Path) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    document = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    graph = document.subgraphs[0]
    codes = [code.builtinCode for code in document.operatorCodes]
    conv = next(op for op in graph.operators if codes[op.opcodeIndex] == schema.BuiltinOperator.CONV_2D)
    buffer = document.buffers[graph.tensors[conv.inputs[1]].buffer]
    buffer.data = np.frombuffer((np.frombuffer(bytes(buffer.data), np.float32) + 1).tobytes(), np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(document.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


@tensorflow
@pytest.mark.parametrize("target", ["pi", "jetson"])
def test_onnx_is_written_as_the_target_reads_it(tmp_path: Path, target: str) -> None:
    document = onnx.load(converted(shared(KWS.model), KWS.order(tmp_path), Format.ONNX, target).path)
    onnx.checker.check_model(document, full_check=True)
    assert document.ir_version == 8
    assert [(each.domain, each.version) for each in document.opset_import] == [("", 17)]


@tensorflow
class TestTrouble:
    @pytest.mark.parametrize(("name", "op"), [("python", "EagerPyFunc"), ("files", "ReadFile")])
    def test_what_would_run_python_or_read_files_is_not_loaded(self, made: Path, name: str, op: str) -> None:
        with pytest.raises(UnsupportedFormat, match=f"is a {op}, which does more than compute; it was not loaded"):
            open_model(made / name)

    def test_several_signatures_are_refused(self, made: Path) -> None:
        with pytest.raises(UnsupportedFormat, match="has 2 signatures: a, b — save it with one named"):
            open_model(made / "two")

    def test_without_its_variables_it_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "m").mkdir()
        shutil.copy(shared(KWS.model) / "saved_model.pb", tmp_path / "m")
        with pytest.raises(ConversionError, match=r"^m: TensorFlow could not convert it: ") as caught:
            converted(tmp_path / "m", KWS.order(tmp_path), Format.TFLITE)
        assert "\n" not in str(caught.value)

    def test_a_conversion_that_takes_too_long_is_stopped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(convert_savedmodel, "TIMEOUT_S", 0.2)
        with pytest.raises(ConversionError, match=r"^saved_model: not converted within 0.2 s"):
            converted(shared(KWS.model), KWS.order(tmp_path), Format.TFLITE)
