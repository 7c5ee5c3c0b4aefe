"""TFLite models as people get them: TensorFlow's converter, the AI Edge Quantizer, Flex and custom operators, stamps.

The converter's need the extra [tensorflow]; without it those are left out.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import compat_tflite_nodes
import numpy as np
from compat_tflite_nodes import Node, Tensor

RECIPES = [
    "static_wi8_ai8",
    "static_wi8_ai16",
    "dynamic_wi8_afp32",
    "dynamic_wi4_afp32",
    "dynamic_wi4c_afp32",
    "dynamic_wi4b32_afp32",
    "dynamic_wi2c_afp32",
    "dynamic_legacy_wi8_afp32",
    "weight_only_wi8_afp32",
    "weight_only_wi4_afp32",
]
IMAGE, ROW = (1, 16, 16, 4), (1, 64)


def artifacts() -> Iterator[tuple[str, bytes]]:
    """A label and a model of each."""
    yield from _stamps()
    if find_spec("tensorflow") is not None:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        for label, model in _converted():
            yield label, model
            if label.startswith(("convolutions, float", "dense, float")):
                yield from quantized(label.partition(",")[0], model)


def _stamps() -> Iterator[tuple[str, bytes]]:
    yield "a custom operator", compat_tflite_nodes.custom("Thing")
    yield "a Flex operator", compat_tflite_nodes.custom("FlexErf")
    add = Node(
        "ADD",
        (Tensor((1, 4), "float32"), Tensor((1, 4), "float32", np.ones((1, 4)))),
        (Tensor((1, 4), "float32"),),
        "AddOptions",
    )
    for version in (1, 5, 6, 99):
        yield f"ADD stamped {version}", compat_tflite_nodes.model(add, version)
    shape = (1, 4, 4, 2)
    transpose = Node(
        "TRANSPOSE",
        (Tensor(shape, "qint8"), Tensor((4,), "int32", np.array([0, 1, 2, 3]))),
        (Tensor(shape, "qint8"),),
        "TransposeOptions",
    )
    for version in (6, 7, 8, 9):
        yield f"TRANSPOSE stamped {version}", compat_tflite_nodes.model(transpose, version)


def quantized(name: str, model: bytes) -> Iterator[tuple[str, bytes]]:
    """The float model by the recipes of the AI Edge Quantizer; those that it cannot follow are left out."""
    from ai_edge_quantizer import quantizer, recipe

    for chosen in RECIPES:
        with _quiet():
            worker = quantizer.Quantizer(bytearray(model))
            worker.load_quantization_recipe(getattr(recipe, chosen)())
            try:
                statistics = worker.calibrate(_samples(model)) if worker.need_calibration else None
                made = worker.quantize(statistics).quantized_model
            except (ValueError, RuntimeError, KeyError, NotImplementedError, AttributeError):
                continue
        yield f"{name}, {chosen}", bytes(made)


def _samples(model: bytes) -> dict[str, list[dict[str, Any]]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    key, signature = next(iter(interpreter.get_signature_list().items()))
    inputs = interpreter.get_signature_runner(key).get_input_details()
    rng = np.random.default_rng(0)
    return {
        key: [{name: rng.random(inputs[name]["shape"], np.float32) for name in signature["inputs"]} for _ in range(4)]
    }


def _functions() -> dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]]:
    import tensorflow as tf

    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return tf.constant(rng.normal(size=shape).astype(np.float32) / 8)

    def network(x: Any) -> Any:
        x = tf.nn.relu6(tf.nn.conv2d(x, kernel, 1, "SAME") + 0.1)
        x = tf.nn.relu(tf.nn.depthwise_conv2d(x, depth, [1, 1, 1, 1], "SAME") + 0.1)
        x = tf.nn.max_pool2d(x, 2, 2, "SAME") + tf.nn.avg_pool2d(x, 2, 2, "SAME")
        return tf.nn.softmax(tf.reduce_mean(x, [1, 2]) @ head + 0.1)

    kernel, depth, head, wide = weights(3, 3, 4, 32), weights(3, 3, 32, 1), weights(32, 8), weights(64, 64)
    stack = weights(1, 64, 32)
    image: dict[str, Callable[[Any], Any]] = {
        "convolutions": network,
        "resizing": lambda x: tf.image.resize(x, (24, 24)) + tf.image.resize(x, (24, 24), "nearest"),
        "transposed convolution": lambda x: tf.nn.conv2d_transpose(x, weights(3, 3, 8, 4), (1, 32, 32, 8), 2, "SAME"),
        "hard swish": lambda x: x * tf.nn.relu6(x + 3) / 6,
        "leaky": lambda x: tf.nn.leaky_relu(tf.nn.conv2d(x, kernel, 1, "SAME")),
        "padding and slices": lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])[:, 1:-1:2, ::2, :],
        "mirror": lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT"),
        "split and concat": lambda x: tf.concat([tf.nn.relu(part) for part in tf.split(x, 2, 3)], 3),
        "space and depth": lambda x: tf.nn.depth_to_space(tf.nn.space_to_depth(x, 2), 4),
        "normalized": lambda x: (
            (x - tf.reduce_mean(x, [1, 2], True)) * tf.math.rsqrt(tf.reduce_mean(x * x, [1, 2], True) + 1e-3)
        ),
        "five sizes": lambda x: tf.transpose(tf.reshape(x, (1, 4, 4, 16, 4)), (0, 2, 1, 3, 4)) + 1.0,
        "local response": lambda x: tf.nn.local_response_normalization(x),
        "dilated": lambda x: tf.nn.conv2d(x, kernel, 1, "SAME", dilations=2),
        "grouped": lambda x: tf.nn.conv2d(x, weights(3, 3, 2, 8), 1, "SAME"),
        "three-dimensional": lambda x: tf.nn.conv3d(
            tf.reshape(x, (1, 4, 4, 16, 4)), weights(3, 3, 3, 4, 4), [1] * 5, "SAME"
        ),
        "maxima": lambda x: tf.cast(tf.argmax(x, 3), tf.float32) + tf.reduce_max(x, 3),
    }
    row: dict[str, Callable[[Any], Any]] = {
        "dense": lambda x: tf.nn.relu(x @ wide + 0.5) @ wide + 0.5,
        "gelu": lambda x: tf.nn.gelu(x @ wide, approximate=True),
        "gelu, exact": lambda x: tf.nn.gelu(x @ wide),
        "elu and tanh": lambda x: tf.nn.elu(x) + tf.tanh(x) + tf.sigmoid(x),
        "batches of products": lambda x: tf.matmul(tf.reshape(x, (1, 1, 64)), stack),
        "products of activations": lambda x: tf.matmul(
            tf.reshape(x, (1, 8, 8)), tf.reshape(x, (1, 8, 8)), transpose_b=True
        ),
        "sums so far": lambda x: tf.cumsum(x, 1),
        "best": lambda x: tf.math.top_k(x, 4)[0],
        "gathered": lambda x: tf.gather(x, [3, 1, 2], axis=1),
        "comparison": lambda x: tf.where(x > 0.5, x, tf.square(x) - 0.5),
        "whole numbers": lambda x: tf.cast(tf.cast(x * 8, tf.int32) // 3 + tf.cast(x, tf.int32) % 5, tf.float32),
        "logs and powers": lambda x: tf.math.log(tf.exp(x) + 1) + tf.pow(tf.abs(x), 1.5) + tf.sqrt(tf.abs(x)),
        "waves": lambda x: tf.sin(x) + tf.cos(x) + tf.floor(x) + tf.round(x) + tf.sign(x),
        "one hot": lambda x: tf.one_hot(tf.cast(x, tf.int32), 4),
        "log softmax": lambda x: tf.nn.log_softmax(x),
        "loop": lambda x: tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 0.5), (0, x))[1],
        "complex numbers": lambda x: tf.abs(tf.signal.rfft(x)),
        "TensorFlow's own": lambda x: tf.linalg.inv(tf.reshape(x, (1, 8, 8)) + tf.eye(8)),
    }
    return {
        **{name: (each, IMAGE) for name, each in image.items()},
        **{name: (each, ROW) for name, each in row.items()},
    }


FORMS = ("float", "int8", "int16", "dynamic", "float16")
OFTEN = ("convolutions", "dense", "batches of products", "transposed convolution")


def _converted() -> Iterator[tuple[str, bytes]]:
    for name, (function, shape) in _functions().items():
        for form in FORMS if name in OFTEN else FORMS[:3]:
            made = _convert(function, shape, form)
            if made is not None:
                yield f"{name}, {form}", made


def _convert(function: Callable[[Any], Any], shape: tuple[int, ...], form: str) -> bytes | None:
    """None where the converter has no such form of it."""
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    rng = np.random.default_rng(0)
    module = tf.Module()
    module.run = tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float32, name="x")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
    plain = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    converter.target_spec.supported_ops = plain
    if form != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if form in ("int8", "int16"):
        converter.representative_dataset = lambda: ([rng.random(shape, np.float32)] for _ in range(4))
    if form == "int16":
        wide = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [wide, *plain]
    try:
        with _quiet():
            return bytes(converter.convert())
    except (ValueError, RuntimeError, tf.errors.OpError, ConverterError):
        return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def feeds(model: bytes) -> dict[str, Any]:
    """Ones, by the names of the inputs."""
    from ai_edge_litert import schema_py_generated as schema

    from edgekit.compat.fingerprint_tflite import TYPES

    document = schema.ModelT.InitFromPackedBuf(bytearray(model), 0)
    graph = document.subgraphs[0]
    taken = [graph.tensors[place] for place in graph.inputs]
    return {each.name.decode(): np.ones(list(each.shape), TYPES[each.type]) for each in taken}
