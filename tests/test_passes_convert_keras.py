from __future__ import annotations

import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.building.order import Order
from edgekit.errors import ConfigError, ConversionError
from edgekit.model import Format, Model, open_model
from edgekit.passes import convert_keras, freeze
from tests.lab.models import context, in_keras, outputs_of, samples, tensorflow

pytestmark = pytest.mark.slow

MAKE = """
import sys
from pathlib import Path
import keras
import tensorflow as tf
from keras import layers
folder = Path(sys.argv[1])
keras.utils.set_random_seed(0)

def save(name, inputs, outputs):
    keras.Model(inputs, outputs).save(folder / f"{name}.keras")

right = keras.Input((4,), name="right")
left = keras.Input((4,), name="left")
word = keras.Input((3,), dtype="int32", name="word")
second = layers.Dense(4, name="zeta")(layers.Subtract(name="minus")([right, left]))
first = layers.Dense(2, name="alpha")(layers.Flatten(name="flat")(layers.Embedding(5, 2, name="embed")(word)))
save("several", [right, word, left], [second, first])

image = keras.Input((8, 8, 3), name="photo")
save("image", image, layers.Dense(3, name="scores")(layers.Flatten()(layers.Conv2D(4, 3)(image))))

free = keras.Input((None, None, 3), name="image")
save("free", free, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 5, strides=2, activation="relu")(free)))

x = keras.Input((4,))
save("nameless", x, layers.Dense(2)(x))
save("random", x, layers.Dense(2)(layers.Dropout(0.9)(layers.GaussianNoise(0.9)(layers.BatchNormalization()(x)))))
save("itself", x, x)
keras.Sequential([keras.Input((4,)), layers.Dense(2, activation="softmax")]).save(folder / "sequence.keras")

import tf_keras  # only Keras 2 allows such names
image = tf_keras.Input((8, 8, 3), name="camera/image")
flat = tf_keras.layers.Flatten()(tf_keras.layers.Conv2D(4, 3)(image))
tf_keras.Model(image, tf_keras.layers.Dense(3, name="head/scores")(tf.nn.relu(flat))).save(folder / "slash.h5")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Keras models, made by Keras in a process of its own."""
    folder = tmp_path_factory.mktemp("keras models")
    done = in_keras(MAKE, folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def converted(source: Path, work: Path, form: Format, target: str = "pi") -> Model:
    run = {Format.ONNX: convert_keras.run_onnx, Format.TFLITE: convert_keras.run_tflite}[form]
    return run(open_model(source), context(work, target, Order("app", "", "", "", work, 1)))


def of_sizes(source: Path, work: Path, form: Format, shapes: dict[str, tuple[int | None, ...]]) -> Model:
    """Converted as in a build in which sizes are asked for."""
    run = {Format.ONNX: convert_keras.run_onnx, Format.TFLITE: convert_keras.run_tflite}[form]
    data, model = samples(work / "data.npz", image=(20, 24, 3)), open_model(source)
    for number, step in enumerate((freeze.run, run, freeze.run)):
        (work / f"{number}").mkdir()
        given = context(work / f"{number}", "pi", Order("app", "", data, data, work, 1))
        model = step(model, replace(given, shapes=shapes))
    return model


both = pytest.mark.parametrize("form", [Format.TFLITE, Format.ONNX], ids=lambda form: form.value)


@tensorflow
@both
class TestNames:
    def test_several_inputs_and_outputs_keep_names_types_and_order(
        self, made: Path, tmp_path: Path, form: Format
    ) -> None:
        model = converted(made / "several.keras", tmp_path, form)
        assert [str(spec) for spec in model.inputs] == [
            "right: float32 [N, 4]",
            "word: int32 [N, 3]",
            "left: float32 [N, 4]",
        ]
        assert [str(spec) for spec in model.outputs] == ["zeta: float32 [N, 4]", "alpha: float32 [N, 2]"]
        ones, zeros, words = np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32), np.array([[1, 2, 3]], np.int32)
        one, other = (
            outputs_of(model, {"right": right, "word": words, "left": left})
            for right, left in ((ones, zeros), (zeros, ones))
        )
        assert np.allclose(one["zeta"], -other["zeta"], atol=1e-6)
        assert np.abs(one["zeta"]).max() > 0.01
        assert np.allclose(one["alpha"], other["alpha"])

    def test_a_name_with_a_slash_is_kept(self, made: Path, tmp_path: Path, form: Format) -> None:
        model = converted(made / "slash.h5", tmp_path, form)
        assert [spec.name for spec in (*model.inputs, *model.outputs)] == ["camera/image", "head/scores"]
        given = outputs_of(model, {"camera/image": np.zeros((1, 8, 8, 3), np.float32)})
        assert given["head/scores"].shape == (1, 3)

    def test_names_that_nobody_chose_are_those_of_keras(self, made: Path, tmp_path: Path, form: Format) -> None:
        model = converted(made / "nameless.keras", tmp_path, form)
        assert all(spec.name and ":" not in spec.name for spec in (*model.inputs, *model.outputs))
        assert model.lineage == (f"keras-to-{form.value}",)


@tensorflow
@both
class TestShapes:
    def test_the_batch_is_free(self, made: Path, tmp_path: Path, form: Format) -> None:
        model = converted(made / "sequence.keras", tmp_path, form)
        (name,) = [spec.name for spec in model.inputs]
        x = np.random.default_rng(0).random((5, 4), np.float32)
        (scores,) = outputs_of(model, {name: x}).values()
        assert scores.shape == (5, 2)
        assert np.allclose(scores.sum(1), 1)

    def test_a_free_height_and_width_stay_free(self, made: Path, tmp_path: Path, form: Format) -> None:
        if form is Format.TFLITE:  # LiteRT allocates free sizes as 1 first, which is less than the window of this model
            with pytest.raises(ConversionError, match=r'leaves axes 1, 2 free, .*: shape = \["N", 20, 24, 3\]'):
                of_sizes(made / "free.keras", tmp_path, form, {})
            return
        model = converted(made / "free.keras", tmp_path, form)
        assert [str(spec) for spec in model.inputs] == ["image: float32 [N, N, N, 3]"]
        for size in (16, 33):
            assert next(
                iter(outputs_of(model, {"image": np.zeros((1, size, size, 3), np.float32)}).values())
            ).shape == (1, 4)

    @pytest.mark.parametrize("batch", [None, 1])
    def test_they_become_those_that_are_asked_for(
        self, made: Path, tmp_path: Path, form: Format, batch: int | None
    ) -> None:
        model = of_sizes(made / "free.keras", tmp_path, form, {"image": (batch, 20, 24, 3)})
        assert [spec.shape for spec in (*model.inputs, *model.outputs)] == [(batch, 20, 24, 3), (batch, 4)]
        assert [spec.shape for spec in open_model(model.path).inputs] == [(batch, 20, 24, 3)]
        assert model.lineage == ("freeze", f"keras-to-{form.value}")

    @pytest.mark.parametrize(
        ("shape", "told"),
        [
            ((1, 20, 24), "image.shape: 3 sizes, the model takes image: float32 [N, N, N, 3]"),
            ((1, 20, 24, 4), "image.shape[3]: 4, the model takes image: float32 [1, 20, 24, 3]"),
        ],
    )
    def test_what_does_not_fit_is_told_in_one_line(
        self, made: Path, tmp_path: Path, form: Format, shape: tuple[int, ...], told: str
    ) -> None:
        with pytest.raises(ConfigError, match=re.escape(f"edgekit.toml: inputs.{told}")):
            of_sizes(made / "free.keras", tmp_path, form, {"image": shape})

    def test_what_is_random_in_training_is_not_in_what_ships(self, made: Path, tmp_path: Path, form: Format) -> None:
        model = converted(made / "random.keras", tmp_path, form)
        x = {model.inputs[0].name: np.ones((1, 4), np.float32)}
        one, other = (next(iter(outputs_of(model, x).values())) for _ in range(2))
        assert (one == other).all()


@tensorflow
@pytest.mark.parametrize("name", ["image.keras", "sequence.keras", "slash.h5"])
def test_one_that_is_off_is_refused_with_its_first_layer(
    made: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = convert_keras.derived

    def wrong(model: Model, path: Path, step: str, names_of: Model) -> Model:
        document = onnx.load(path)
        last = [node for node in document.graph.node if node.op_type in ("Gemm", "MatMul")][-1]
        weight = next(tensor for tensor in document.graph.initializer if tensor.name == last.input[1])
        changed = onnx.numpy_helper.to_array(weight)[:, ::-1]
        weight.CopyFrom(onnx.numpy_helper.from_array(changed.copy(), weight.name))
        onnx.save(document, path)
        return right(model, path, step, names_of=names_of)

    monkeypatch.setattr(convert_keras, "derived", wrong)
    with pytest.raises(ConversionError, match=r"; the first layer that differs: (scores|dense\w*|head/scores) — "):
        converted(made / name, tmp_path, Format.ONNX)


@tensorflow
@pytest.mark.parametrize("target", ["pi", "jetson"])
def test_onnx_is_written_as_the_target_reads_it(made: Path, tmp_path: Path, target: str) -> None:
    document = onnx.load(converted(made / "image.keras", tmp_path, Format.ONNX, target).path)
    onnx.checker.check_model(document, full_check=True)
    assert document.ir_version == 8
    assert [(each.domain, each.version) for each in document.opset_import] == [("", 17)]


@tensorflow
class TestTrouble:
    def test_a_model_that_keras_cannot_load_is_one_line(self, made: Path, tmp_path: Path) -> None:
        path = tmp_path / "odd.keras"
        with zipfile.ZipFile(made / "image.keras") as source, zipfile.ZipFile(path, "w") as changed:
            for name in source.namelist():
                changed.writestr(name, source.read(name).replace(b'"Conv2D"', b'"Conv9D"'))
        with pytest.raises(ConversionError, match=r"^odd.keras: Keras could not convert it: ") as caught:
            converted(path, tmp_path, Format.TFLITE)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500

    def test_a_conversion_that_takes_too_long_is_stopped(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(convert_keras, "TIMEOUT_S", 0.2)
        with pytest.raises(ConversionError, match=r"not converted within 0.2 s"):
            converted(made / "image.keras", tmp_path, Format.TFLITE)

    def test_a_module_in_the_current_folder_is_not_run(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("keras", "tensorflow", "numpy"):
            (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
        converted(made / "sequence.keras", tmp_path, Format.TFLITE)
        assert not (tmp_path / "ran").exists()

    def test_nothing_of_the_person_is_touched(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "person").mkdir()
        (tmp_path / "work").mkdir()
        monkeypatch.setenv("HOME", str(tmp_path / "person"))
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        converted(made / "sequence.keras", tmp_path / "work", Format.TFLITE)
        assert list((tmp_path / "person").iterdir()) == []
