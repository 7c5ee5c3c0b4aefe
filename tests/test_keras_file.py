"""No test here loads a Keras file: the files are written by hand, and a payload that ran would leave a file."""

from __future__ import annotations

import json
import marshal
import os
import random
import subprocess
import sys
import zipfile
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ExtraNotInstalled, UnsupportedFormat
from edgekit.model import Format, open_model
from tests.lab.models import IMAGENET_H5, RESNET8_H5, RESNET8_KERAS, VWW_H5, in_keras, shared, tensorflow

Config = dict[str, Any]


def layer(name: str, config: Config | None = None, **more: Any) -> Config:
    return {"class_name": name, "config": {"name": name.lower(), **(config or {})}, **more}


def model(*layers: Config) -> Config:
    return layer("Sequential", {"layers": [layer("InputLayer", {"batch_shape": [None, 4]}), *layers]})


def payload(path: Path) -> Config:
    """A Lambda layer's configuration whose bytecode makes a file."""
    code = compile(f"lambda *x: (open({str(path)!r}, 'w').close(), x[0])[1]", "<string>", "eval").co_consts[0]
    return {
        "function": [b64encode(marshal.dumps(code)).decode(), None, None],
        "function_type": "lambda",
        "output_shape": None,
        "output_shape_type": "raw",
        "arguments": {},
    }


def archive(path: Path, config: object) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("metadata.json", json.dumps({"keras_version": "3.15.0"}))
        file.writestr("model.weights.h5", b"")
    return path


def hdf5(path: Path, config: object) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"], file.attrs["backend"] = "2.15.0", "tensorflow"
        file.create_group("model_weights").attrs["layer_names"] = []
    return path


each_kind = pytest.mark.parametrize("write", [archive, hdf5])
SUFFIX = {archive: ".keras", hdf5: ".h5"}
DENSE = layer("Dense", {"units": 2}, module="keras.layers", registered_name=None)


def refused(path: Path) -> str:
    with pytest.raises(UnsupportedFormat) as caught:
        open_model(path)
    assert caught.value.exit_code == 1
    assert caught.value.hint
    return caught.value.message


@each_kind
def test_a_model_of_keras_own_layers_is_taken(tmp_path: Path, write: Any) -> None:
    legacy = layer("Activation", {"activation": "relu"}, module="tensorflow.keras.layers", registered_name="Activation")
    found = open_model(write(tmp_path / f"m{SUFFIX[write]}", model(DENSE, legacy)))
    assert (found.format, found.inputs, found.outputs) == (Format.KERAS, (), ())


@tensorflow
@pytest.mark.parametrize("task", [RESNET8_KERAS, RESNET8_H5, VWW_H5, IMAGENET_H5], ids=lambda task: task.model)
def test_pretrained_models_are_taken(task: Any) -> None:
    assert open_model(shared(task.model)).format is Format.KERAS


@each_kind
@pytest.mark.parametrize("name", ["Lambda", "TFSMLayer", "TorchModuleWrapper", "__lambda__", "TensorFlowOpLayer"])
def test_a_layer_that_holds_code_is_refused_by_its_name(tmp_path: Path, write: Any, name: str) -> None:
    path = write(tmp_path / f"m{SUFFIX[write]}", model(DENSE, layer(name, {"name": "trick"})))
    assert refused(path) == f"{path}: layer 'trick' is a {name} layer, which holds code; it was not loaded"


@each_kind
@pytest.mark.parametrize(
    "hidden",
    [
        lambda bad: model(model(DENSE, bad)),
        lambda bad: model(layer("TimeDistributed", {"layer": bad})),
        lambda bad: model(layer("Bidirectional", {"layer": layer("RNN", {"cell": bad})})),
        lambda bad: model(layer("Dense", {"kernel_initializer": bad})),
        lambda bad: model({**DENSE, "inbound_nodes": [[["x", 0, 0, {"more": [bad]}]]]}),
        lambda bad: {**model(DENSE), "build_config": {"input_shape": [bad]}},
    ],
)
def test_however_deep_it_is_found(tmp_path: Path, write: Any, hidden: Any) -> None:
    path = tmp_path / "ran"
    bad = layer("Lambda", payload(path))
    assert "which holds code" in refused(write(tmp_path / f"m{SUFFIX[write]}", hidden(bad)))
    assert not path.exists()


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (layer("Lambda", module="keras.layers", registered_name="Dense"), "which holds code"),
        (layer("Dense", module="keras.layers", registered_name="Lambda"), "which holds code"),
        (layer("Custom>Lambda", module=None, registered_name="Custom>Lambda"), "which holds code"),
        (layer("keras.layers.Lambda"), "which holds code"),
        (layer("Popen", module="subprocess"), "is made by subprocess.Popen, which is not a part of Keras"),
        (layer("Mine", module="my_layers", registered_name="Mine"), "is made by my_layers.Mine"),
        (layer("Mine", module="keras_mine.layers"), "is made by keras_mine.layers.Mine"),
        (layer("Mine", module="kerasmine"), "is made by kerasmine.Mine"),
        (layer("Mine", module="tensorflow.python.ops"), "is made by tensorflow.python.ops.Mine"),
        (layer("Mine", module="__main__"), "is made by __main__.Mine"),
        (layer("function", module="os", registered_name="system"), "is made by os.function"),
    ],
)
def test_another_name_for_the_same_does_not_help(tmp_path: Path, bad: Config, told: str) -> None:
    assert told in refused(archive(tmp_path / "m.keras", model(DENSE, bad)))


@pytest.mark.parametrize("function", ["io.write_file", "load_library", "py_function", "print", "io.read_file", None, 3])
def test_a_function_of_tensorflow_that_does_more_than_compute_is_refused(tmp_path: Path, function: object) -> None:
    bad = layer("TFOpLambda", {"name": "op", "function": function})
    assert f"layer 'op' calls tf.{function}, which may" in refused(archive(tmp_path / "m.keras", model(bad)))


@pytest.mark.parametrize("function", ["math.add", "nn.relu", "__operators__.getitem", "reshape", "concat", "cast"])
def test_a_function_of_tensorflow_that_computes_is_taken(tmp_path: Path, function: str) -> None:
    open_model(archive(tmp_path / "m.keras", model(layer("SlicingOpLambda", {"function": function}))))


def test_a_loss_of_ones_own_is_no_reason_to_refuse_a_model(tmp_path: Path) -> None:
    loss = {"module": "my_losses", "class_name": "function", "config": "focal", "registered_name": "focal"}
    open_model(archive(tmp_path / "m.keras", {**model(DENSE), "compile_config": {"loss": loss}}))
    within = model({**model(DENSE), "compile_config": {"loss": loss}})
    assert "is made by my_losses.function" in refused(archive(tmp_path / "within.keras", within))


def test_a_file_that_is_a_zip_and_an_hdf5_is_read_as_keras_reads_it(tmp_path: Path) -> None:
    """Keras takes a .keras that ends in a zip for a zip, whatever it begins with."""
    good, bad = hdf5(tmp_path / "good.h5", model(DENSE)), archive(tmp_path / "bad.keras", model(layer("Lambda")))
    both = tmp_path / "both.keras"
    both.write_bytes(good.read_bytes() + bad.read_bytes())
    assert "which holds code" in refused(both)


@tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Lambda", "ResidualWrapper", "TFOpLambda"])
def test_the_payloads_would_run_and_edgekit_does_not_run_them(tmp_path: Path, kind: str) -> None:
    """Keras 2 loads these files (it is asked to here, in a process of its own) and the payload leaves a file."""
    ran, path = tmp_path / "ran", tmp_path / "m.h5"
    code = payload(ran)
    bad = {
        "Lambda": layer("Lambda", code),
        "ResidualWrapper": layer(
            "RNN",
            {
                "cell": layer(
                    "ResidualWrapper",
                    {
                        "cell": layer("GRUCell", {"units": 4}),
                        "residual_fn": code["function"],
                        "residual_fn_type": "lambda",
                        "residual_fn_module": None,
                    },
                )
            },
        ),
        "TFOpLambda": layer("TFOpLambda", {"function": "io.write_file"}),
    }[kind]
    hdf5(path, functional(bad, ran) if kind == "TFOpLambda" else sequential(bad, kind))
    with pytest.raises(UnsupportedFormat, match="it was not loaded"):
        open_model(path)
    assert not ran.exists()
    load = (
        "import sys, numpy, tf_keras\n"
        "model = tf_keras.models.load_model(sys.argv[1], compile=False)\n"
        "model(numpy.zeros([1 if size is None else size for size in model.input_shape], 'float32'))\n"
    )
    done = in_keras(load, path)
    assert ran.exists(), done.stderr


def sequential(bad: Config, kind: str) -> Config:
    shape = [None, 4] if kind == "Lambda" else [None, 3, 4]
    start = layer("InputLayer", {"batch_input_shape": shape, "dtype": "float32", "sparse": False, "name": "input"})
    return layer("Sequential", {"layers": [start, bad]})


def functional(bad: Config, ran: Path) -> Config:
    """A model of Keras 2 that calls a function of TensorFlow with constants, which happens when it is loaded."""
    start = layer("InputLayer", {"batch_input_shape": [None, 4], "dtype": "float32", "sparse": False, "name": "input"})
    call = ["_CONSTANT_VALUE", -1, str(ran), {"contents": "written"}]
    return layer(
        "Functional",
        {
            "layers": [
                {**start, "name": "input", "inbound_nodes": []},
                {**bad, "name": "op", "inbound_nodes": [call]},
            ],
            "input_layers": [["input", 0, 0]],
            "output_layers": [["input", 0, 0]],
        },
    )


class TestDamage:
    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    @pytest.mark.parametrize(
        "content", [b"", b"hello world\n" * 10, b"PK\x03\x04", b"\x89HDF\r\n\x1a\n" + b"\x00" * 99]
    )
    def test_what_is_no_keras_model_is_refused_in_one_line(self, tmp_path: Path, suffix: str, content: bytes) -> None:
        if suffix == ".h5":
            pytest.importorskip("h5py")
        path = tmp_path / f"model{suffix}"
        path.write_bytes(content)
        assert "\n" not in refused(path)

    @each_kind
    def test_a_model_cut_short_anywhere_is_refused(self, tmp_path: Path, write: Any) -> None:
        whole = write(tmp_path / f"m{SUFFIX[write]}", model(DENSE)).read_bytes()
        path = tmp_path / f"cut{SUFFIX[write]}"
        for end in range(0, len(whole), len(whole) // (100 if write is archive else 6)):
            path.write_bytes(whole[:end])
            refused(path)

    @each_kind
    def test_changed_bytes_are_refused_or_give_a_model_but_never_another_error(
        self, tmp_path: Path, write: Any
    ) -> None:
        whole = write(tmp_path / f"m{SUFFIX[write]}", model(DENSE)).read_bytes()
        path, chance, opened = tmp_path / f"changed{SUFFIX[write]}", random.Random(0), 0
        times = 300 if write is archive else 8
        for _ in range(times):
            changed = bytearray(whole)
            for _ in range(chance.choice([1, 2, 10])):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            path.write_bytes(changed)
            with suppress(UnsupportedFormat):
                opened += open_model(path).format is Format.KERAS
        assert 0 < opened < times

    @each_kind
    @pytest.mark.parametrize("config", [None, 3, "text", [], {}])
    def test_a_configuration_without_objects_names_nothing_to_load(
        self, tmp_path: Path, write: Any, config: object
    ) -> None:
        open_model(write(tmp_path / f"m{SUFFIX[write]}", config))  # Keras says what is wrong with it, in the child

    def test_an_archive_without_a_configuration_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
            file.writestr("something.else", b"")
        assert "not a Keras model" in refused(tmp_path / "m.keras")

    def test_weights_alone_are_no_model(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "m.weights.h5", "w") as file:
            file.create_dataset("kernel", data=[1.0])
        with pytest.raises(UnsupportedFormat, match="no Keras model in it"):
            open_model(tmp_path / "m.weights.h5")

    @each_kind
    def test_json_nested_without_end_is_refused_or_read(self, tmp_path: Path, write: Any) -> None:
        deep: Any = layer("Lambda")
        for _ in range(300):
            deep = {"config": [deep]}
        assert "which holds code" in refused(write(tmp_path / f"m{SUFFIX[write]}", deep))
        path = tmp_path / "deeper.keras"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("config.json", "[" * 200_000)
        refused(path)


def test_without_the_extra_an_h5_tells_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    code = (
        "import sys\nsys.modules['h5py'] = None\n"
        "from pathlib import Path\nfrom edgekit.errors import ExtraNotInstalled\nfrom edgekit.model import open_model\n"
        "try:\n    open_model(Path(sys.argv[1]))\nexcept ExtraNotInstalled as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout == f"{path}: Keras models need TensorFlow — pip install 'edgekit-sdk[tensorflow]'\n"
    assert ExtraNotInstalled.exit_code == 1
