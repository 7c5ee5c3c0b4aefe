"""The task of convert_keras's child process: the only place where a Keras file is loaded.

Writes the converted model and an .npz of probe inputs with Keras's own outputs; the answer has the tensors as Keras
names them. With ``layers`` in the order, it writes what each layer gives for that probe instead.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from edgekit.passes.references import write_layers, write_probes
from edgekit.passes.write_onnx import write_onnx

FREE = 64
"""What the probes have where a size is free: enough for most windows and strides."""


def convert(order: dict[str, Any]) -> dict[str, Any]:
    # The person's own keras.json may name another backend; without one, Keras would write it into their home.
    os.environ.update(KERAS_BACKEND="tensorflow", KERAS_HOME=str(Path(order["result"]).parent))
    model = load(order["source"])
    if "layers" in order:
        layers_file(model, order, order["layers"])
        return {}
    {"tflite": to_tflite, "onnx": to_onnx}[order["format"]](model, order)
    write_probes(order["probe"], probes(model, order), runner(model))
    outputs = [[None, *tensor.shape[1:]] for tensor in model.outputs]
    if order["shapes"]:
        outputs = [list(tensor.shape) for tensor in traced(model, order).outputs]
    return {
        "inputs": specs(model.inputs, [name_of(tensor) for tensor in model.inputs], sizes(model, order)),
        "outputs": specs(model.outputs, output_names(model), outputs),
    }


def load(path: str) -> Any:
    """The model by Keras 3; by tf_keras (Keras 2) where Keras 3 refuses a legacy .h5."""
    import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (TypeError, ValueError):
        if not path.endswith(".h5"):
            raise
        import tf_keras
        from tf_keras.src.saving.serialization_lib import SafeModeScope

        with SafeModeScope(True):  # load_model passes it on for .keras files only
            return tf_keras.models.load_model(path, compile=False)


def to_tflite(model: Any, order: dict[str, Any]) -> None:
    import tensorflow as tf

    function = traced(model, order)
    Path(order["result"]).write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())


def to_onnx(model: Any, order: dict[str, Any]) -> None:
    import tf2onnx

    document, _ = tf2onnx.convert.from_function(as_function(model), signature(model, order), opset=order["opset"])
    write_onnx(document, order)


def as_function(model: Any) -> Any:
    """The model as a TensorFlow function of one argument an input, in inference mode."""
    import tensorflow as tf

    return tf.function(lambda *inputs: model(list(inputs) if len(inputs) > 1 else inputs[0], training=False))


def traced(model: Any, order: dict[str, Any]) -> Any:
    return as_function(model).get_concrete_function(*signature(model, order))


def signature(model: Any, order: dict[str, Any]) -> list[Any]:
    """What the function takes."""
    import tensorflow as tf

    pairs = zip(sizes(model, order), model.inputs, strict=True)
    return [tf.TensorSpec(shape, dtype_of(tensor), name_of(tensor)) for shape, tensor in pairs]


def sizes(model: Any, order: dict[str, Any]) -> list[list[int | None]]:
    """Of the inputs: the batch is free, and so is what the file leaves free, unless the order gives a size.

    A shape that does not fit is told of by whoever gave it, once the inputs are known.
    """
    return [merged([None, *tensor.shape[1:]], order["shapes"].get(name_of(tensor), [])) for tensor in model.inputs]


def merged(known: list[int | None], asked: list[int | None]) -> list[int | None]:
    if len(known) != len(asked):
        return known
    return [have or want for have, want in zip(known, asked, strict=True)]


def name_of(tensor: Any) -> str:
    name: str = tensor.name
    return name.partition(":")[0]


def output_names(model: Any) -> list[str]:
    """As Keras has them: the layers that the outputs come from. A Sequential of Keras 3 doesn't tell."""
    names: list[str] = getattr(model, "output_names", None) or [model.layers[-1].name]
    return names


def dtype_of(tensor: Any) -> str:
    return str(getattr(tensor.dtype, "name", tensor.dtype))


def specs(tensors: Any, names: list[str], shapes: list[list[int | None]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "dtype": dtype_of(tensor), "shape": shape}
        for name, tensor, shape in zip(names, tensors, shapes, strict=True)
    ]


def probes(model: Any, order: dict[str, Any]) -> list[list[Any]]:
    """Inputs between 0 and 1."""
    import numpy as np

    rng = np.random.default_rng(0)
    full = [(batch or 1, *(size or FREE for size in rest)) for batch, *rest in sizes(model, order)]
    return [
        [rng.random(size).astype(dtype_of(tensor)) for size, tensor in zip(full, model.inputs, strict=True)]
        for _ in range(order["probes"])
    ]


def runner(model: Any) -> Any:
    """The model as a function from a list of inputs to a list of outputs."""

    def run(inputs: Sequence[Any]) -> Sequence[Any]:
        outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
        return outputs if isinstance(outputs, (list, tuple)) else [outputs]

    return run


def layers_file(model: Any, order: dict[str, Any], index: int) -> None:
    """What each layer of one output gives for a probe. Each counts as fed by the one before it."""
    layers = [layer for layer in model.layers if not isinstance(getattr(layer, "output", []), (list, tuple))]
    framework = import_module(type(model).__module__.partition(".")[0])
    whole = framework.Model(model.inputs, [layer.output for layer in layers])
    names = [layer.name for layer in layers]
    values = dict(zip(names, runner(whole)(probes(model, order)[index]), strict=True))
    write_layers(order["probe"], values, dict(zip(names, [[], *([name] for name in names)], strict=False)))
