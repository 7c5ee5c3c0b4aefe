"""The child process of convert_keras: the only place where a Keras file is loaded.

Reads one JSON order from standard input, writes the converted model and an .npz of probe inputs with Keras's own
outputs, and prints one JSON line: the tensors as Keras names them. An error is the last line of standard error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

MEMORY_BYTES = 16 << 30
FILE_BYTES = 4 << 30


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    os.environ.update(CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3")
    order = json.loads(sys.stdin.read())
    model, flavour = load(order["source"])
    if order["format"] == "tflite":
        to_tflite(model, order)
    else:
        to_onnx(model, flavour, order)
    probe = probe_file(model, order)
    facts = {"inputs": specs(model.inputs), "outputs": specs(model.outputs, model.output_names), "probe": probe}
    print(json.dumps(facts))


def load(path: str) -> tuple[Any, str]:
    """The model by Keras 3; by tf_keras (Keras 2) where Keras 3 refuses a legacy .h5."""
    import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True), "keras"
    except (TypeError, ValueError):
        if not path.endswith(".h5"):
            raise
        import tf_keras

        return tf_keras.models.load_model(path, compile=False), "tf_keras"


def to_tflite(model: Any, order: dict[str, Any]) -> None:
    import tensorflow as tf

    Path(order["result"]).write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete(model)]).convert())


def to_onnx(model: Any, flavour: str, order: dict[str, Any]) -> None:
    import onnx
    import tf2onnx

    signature = tuple(concrete(model).inputs)
    document, _ = tf2onnx.convert.from_function(None, signature, opset=order["opset"])
    document.ir_version = order["ir_version"]
    onnx.save(document, order["result"])


def concrete(model: Any) -> Any:
    """The model as a TensorFlow function; a free batch stays free."""
    import tensorflow as tf

    signature = [tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, tensor.name.partition(":")[0]) for tensor in model.inputs]
    return tf.function(lambda *inputs: model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)).get_concrete_function(*signature)


def specs(tensors: Any, names: Any = None) -> list[dict[str, Any]]:
    return [
        {"name": (names[i] if names else t.name).partition(":")[0], "dtype": str(getattr(t.dtype, "name", t.dtype)), "shape": [None, *t.shape[1:]]}
        for i, t in enumerate(tensors)
    ]


def probe_file(model: Any, order: dict[str, Any]) -> str:
    import numpy as np

    rng = np.random.default_rng(0)
    arrays = {}
    for index in range(order["probes"]):
        inputs = [rng.random((1, *(size or 1 for size in t.shape[1:]))).astype(str(getattr(t.dtype, "name", t.dtype))) for t in model.inputs]
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
    except Exception as error:  # noqa: BLE001 — the outermost frame of this process
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
