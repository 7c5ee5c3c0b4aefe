"""The child process of convert_keras: the only place where a Keras file is loaded.

Reads one JSON order from standard input, writes the converted model and an .npz of probe inputs with Keras's own
outputs, and prints one JSON line: the tensors as Keras names them. An error is the last line of standard error.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

MEMORY_BYTES = 16 << 30
FILE_BYTES = 4 << 30
FREE = 64
"""What the probes have where a size is free: enough for most windows and strides."""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    order = json.loads(sys.stdin.read())
    # The person's own keras.json may name another backend; without one, Keras would write it into their home.
    os.environ.update(KERAS_BACKEND="tensorflow", KERAS_HOME=str(Path(order["result"]).parent))
    os.environ.update(CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3")
    model = load(order["source"])
    {"tflite": to_tflite, "onnx": to_onnx}[order["format"]](model, order)
    inputs = specs(model.inputs, [name_of(tensor) for tensor in model.inputs])
    outputs = specs(model.outputs, output_names(model))
    print(json.dumps({"inputs": inputs, "outputs": outputs, "probe": probe_file(model, order)}))


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

    function = as_function(model).get_concrete_function(*signature(model))
    Path(order["result"]).write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())


def to_onnx(model: Any, order: dict[str, Any]) -> None:
    import onnx
    import tf2onnx

    from edgekit import onnx_file

    document, _ = tf2onnx.convert.from_function(as_function(model), signature(model), opset=order["opset"])
    onnx_file.drop_unused_opsets(document)
    document.ir_version = order["ir_version"]
    onnx.save(document, order["result"])


def as_function(model: Any) -> Any:
    """The model as a TensorFlow function of one argument an input, in inference mode."""
    import tensorflow as tf

    return tf.function(lambda *inputs: model(list(inputs) if len(inputs) > 1 else inputs[0], training=False))


def signature(model: Any) -> list[Any]:
    """What the function takes; the batch is free."""
    import tensorflow as tf

    return [tf.TensorSpec([None, *tensor.shape[1:]], dtype_of(tensor), name_of(tensor)) for tensor in model.inputs]


def name_of(tensor: Any) -> str:
    name: str = tensor.name
    return name.partition(":")[0]


def output_names(model: Any) -> list[str]:
    """As Keras has them: the layers that the outputs come from. A Sequential of Keras 3 doesn't tell."""
    names: list[str] = getattr(model, "output_names", None) or [model.layers[-1].name]
    return names


def dtype_of(tensor: Any) -> str:
    return str(getattr(tensor.dtype, "name", tensor.dtype))


def specs(tensors: Any, names: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "dtype": dtype_of(tensor), "shape": [None, *tensor.shape[1:]]}
        for name, tensor in zip(names, tensors, strict=True)
    ]


def probe_file(model: Any, order: dict[str, Any]) -> str:
    """Inputs between 0 and 1 with what Keras gives for them."""
    import numpy as np

    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for index in range(order["probes"]):
        sizes = [(1, *(size or FREE for size in tensor.shape[1:])) for tensor in model.inputs]
        inputs = [rng.random(size).astype(dtype_of(t)) for size, t in zip(sizes, model.inputs, strict=True)]
        outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        arrays.update({f"in.{index}.{i}": array for i, array in enumerate(inputs)})
        arrays.update({f"out.{index}.{o}": np.asarray(array) for o, array in enumerate(outputs)})
    path = f"{order['result']}.probe.npz"
    np.savez(path, **arrays)
    return path


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # Keras prints in bold
        print(f"{type(error).__name__}: {' '.join(plain.split())}", file=sys.stderr)
        sys.exit(1)
