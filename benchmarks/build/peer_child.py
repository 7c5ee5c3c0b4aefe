"""The converters and quantizers that edgekit calls, called as their manuals do: a task of ``edgekit.passes.child``.

The answer is how many ``seconds`` the tool took once it was imported. All quantizers leave float at both ends, and get
the same calibration samples.
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Order = dict[str, Any]

AS_IT_IS: Order = {"shapes": {}}
"""No sizes but those that the file gives."""


def convert(order: Order) -> dict[str, float]:
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    work = TOOLS[order["tool"]](order)
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        work()
    return {"seconds": time.perf_counter() - started}


def samples(order: Order) -> Iterator[dict[str, Any]]:
    """Calibration samples by the names of the source's inputs."""
    with np.load(order["feeds"]) as data:
        arrays = [data[str(place)] for place in range(len(order["inputs"]))]
    for each in zip(*arrays, strict=True):
        yield dict(zip(order["inputs"], each, strict=True))


def onnxruntime_static(order: Order) -> Callable[[], None]:
    """``flags``: none for the defaults, else the calibration method beside the best of the other flags.

    Best on onnxruntime's CPU: activations uint8, weights int8 per channel, after its own preparation (its manual,
    "Quantize ONNX models").
    """
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = samples(order)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.feeds, None)

    def defaults() -> None:
        quantize_static(order["source"], order["result"], Reader())

    def best() -> None:
        prepared = f"{order['result']}.prepared.onnx"
        quant_pre_process(order["source"], prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            order["result"],
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[order["flags"]],
        )

    return best if order["flags"] else defaults


def ai_edge(order: Order) -> Callable[[], None]:
    from ai_edge_quantizer import quantizer, recipe

    from edgekit.formats import tflite_file

    def work() -> None:
        ends = [{"regex": ".*", "operation": end, "algorithm_key": "no_quantize"} for end in ("INPUT", "OUTPUT")]
        worker = quantizer.Quantizer(tflite_file.with_signature(Path(order["source"]).read_bytes()))
        worker.load_quantization_recipe([*recipe.static_wi8_ai8(), *ends])
        statistics = worker.calibrate({order["signature"]: list(samples(order))})
        Path(order["result"]).write_bytes(worker.quantize(statistics).quantized_model)

    return work


def tflite_converter(order: Order) -> Callable[[], None]:
    """``flags``: none for float, else full int8. From a Keras file, or the folder of a SavedModel."""
    import tensorflow as tf

    from edgekit.passes import keras_child

    source = Path(order["source"])

    def made() -> Any:
        if source.is_dir():
            return tf.lite.TFLiteConverter.from_saved_model(str(source), signature_keys=[order["signature"]])
        model = keras_child.load(str(source))
        function = keras_child.as_function(model).get_concrete_function(*keras_child.signature(model, AS_IT_IS))
        return tf.lite.TFLiteConverter.from_concrete_functions([function])

    def shown() -> Iterator[Any]:
        for each in samples(order):
            yield each if source.is_dir() else list(each.values())

    def work() -> None:
        converter = made()
        if order["flags"]:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = shown
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        Path(order["result"]).write_bytes(converter.convert())

    return work


def tf2onnx_float(order: Order) -> Callable[[], None]:
    import tensorflow as tf
    import tf2onnx

    from edgekit.passes import keras_child

    def work() -> None:
        source = Path(order["source"])
        if source.is_dir():
            graph, ends = _graph_of(source, order["signature"])
            tf2onnx.convert.from_graph_def(
                graph, input_names=ends[0], output_names=ends[1], opset=17, output_path=order["result"]
            )
            return
        model = keras_child.load(str(source))
        signature = keras_child.signature(model, AS_IT_IS)
        tf2onnx.convert.from_function(keras_child.as_function(model), signature, opset=17, output_path=order["result"])

    def _graph_of(source: Path, key: str) -> tuple[Any, tuple[list[str], list[str]]]:
        with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
            meta = tf.compat.v1.saved_model.load(session, ["serve"], str(source)).signature_def[key]
            ends = ([each.name for each in meta.inputs.values()], [each.name for each in meta.outputs.values()])
            names = [name.partition(":")[0] for name in ends[1]]
            variables = tf.compat.v1.graph_util.convert_variables_to_constants
            return variables(session, graph.as_graph_def(), names), ends

    return work


TOOLS: dict[str, Callable[[Order], Callable[[], None]]] = {
    "onnxruntime": onnxruntime_static,
    "ai-edge-quantizer": ai_edge,
    "tflite-converter": tflite_converter,
    "tf2onnx": tf2onnx_float,
}
