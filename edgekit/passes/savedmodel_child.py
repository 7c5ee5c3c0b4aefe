"""The task of convert_savedmodel's child process: the only place where a SavedModel is loaded.

By TensorFlow 1's loader, which reads what newer ones stop at (slots of optimizers that no longer exist) and gives the
reference. Writes the converted model, and what the SavedModel gives for the inputs in ``feeds``. With ``layers`` in
the order, it writes what each operation gives for those of that number instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edgekit.passes.references import write_layers, write_probes
from edgekit.passes.write_onnx import write_onnx

TAGS = ["serve"]


def convert(order: dict[str, Any]) -> dict[str, Any]:
    import numpy as np
    import tensorflow as tf

    with np.load(order["feeds"], allow_pickle=False) as file:
        feeds = [[file[f"{index}.{i}"] for i in range(len(order["inputs"]))] for index in range(order["probes"])]
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        tf.compat.v1.saved_model.load(session, TAGS, order["source"])
        if "layers" in order:
            layers_file(session, order, feeds[order["layers"]])
            return {}
        write_probes(order["probe"], feeds, partial(fetch, session, order))
        if len(order["signatures"]) == 1:
            {"tflite": to_tflite, "onnx": to_onnx}[order["format"]](session, order)
            return {}
    with_training(order)
    return {}


def fetch(session: Any, order: dict[str, Any], inputs: Sequence[Any]) -> Any:
    return session.run(order["outputs"], dict(zip(order["inputs"], inputs, strict=True)))


def to_tflite(session: Any, order: dict[str, Any]) -> None:
    import tensorflow as tf

    if order["shapes"]:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([of_sizes(session, order)])
    else:
        converter = tf.lite.TFLiteConverter.from_saved_model(
            order["source"], signature_keys=order["signatures"], tags=TAGS
        )
    Path(order["result"]).write_bytes(converter.convert())


def with_training(order: dict[str, Any]) -> None:
    """TFLite with all signatures of the order, and weights in variables; TensorFlow 1's converter takes one only."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(order["source"], signature_keys=order["signatures"], tags=TAGS)
    converter.experimental_enable_resource_variables = True
    Path(order["result"]).write_bytes(converter.convert())


def of_sizes(session: Any, order: dict[str, Any]) -> Any:
    """The graph as a function of inputs of the order's shapes."""
    import tensorflow as tf

    graph, types = frozen(session, order), [session.graph.get_tensor_by_name(name).dtype for name in order["inputs"]]

    def imported(*inputs: Any) -> Any:
        given = dict(zip(order["inputs"], inputs, strict=True))
        return tf.import_graph_def(graph, input_map=given, return_elements=order["outputs"])

    with tf.init_scope():  # out of the session's graph
        specs = [tf.TensorSpec(shape, dtype) for shape, dtype in zip(order["shapes"], types, strict=True)]
        return tf.compat.v1.wrap_function(imported, specs)


def to_onnx(session: Any, order: dict[str, Any]) -> None:
    import tf2onnx

    document, _ = tf2onnx.convert.from_graph_def(
        frozen(session, order), input_names=order["inputs"], output_names=order["outputs"], opset=order["opset"]
    )
    write_onnx(document, order)


def frozen(session: Any, order: dict[str, Any]) -> Any:
    """The graph with its variables as constants."""
    import tensorflow as tf

    operations = [name.partition(":")[0] for name in order["outputs"]]
    graph = tf.compat.v1.graph_util.extract_sub_graph(session.graph.as_graph_def(), operations)
    drop_unused_functions(graph)
    return tf.compat.v1.graph_util.convert_variables_to_constants(session, graph, operations)


def drop_unused_functions(graph: Any) -> None:
    """Those of other signatures: freezing renames the functions that they call and then misses them."""
    bodies = {body.signature.name: body for body in graph.library.function}
    waiting, used = list(graph.node), set[str]()
    while waiting:
        node = waiting.pop()
        called = {node.op, *(name for value in node.attr.values() for name in functions_in(value))}
        fresh = called & bodies.keys() - used
        used |= fresh
        waiting += [inner for name in fresh for inner in bodies[name].node_def]
    del graph.library.function[:]
    graph.library.function.extend(bodies[name] for name in sorted(used))


def functions_in(attribute: Any) -> list[str]:
    return [attribute.func.name, *(each.name for each in attribute.list.func)]


def layers_file(session: Any, order: dict[str, Any], inputs: Sequence[Any]) -> None:
    """What each operation gives, once those of called functions stand in the graph itself."""
    import tensorflow as tf
    from tf2onnx import tf_loader

    flat = tf_loader.tf_optimize(order["inputs"], order["outputs"], frozen(session, order))
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as flat_session:
        tf.import_graph_def(flat, name="")
        operations = computed(graph, order["inputs"])
        fed = {label(each.outputs[0]): [label(tensor) for tensor in each.inputs] for each in operations}
        tensors = [each.outputs[0] for each in operations]
        values = flat_session.run(tensors, dict(zip(order["inputs"], inputs, strict=True)))
        write_layers(order["probe"], dict(zip(fed, values, strict=True)), fed)


def label(tensor: Any) -> str:
    """A tensor's name as people know it: without the functions that it was called through."""
    return re.sub(r"^((Stateful)?PartitionedCall\w*/)+", "", tensor.name).removesuffix(":0")


def computed(graph: Any, inputs: Sequence[str]) -> list[Any]:
    """The operations of floats that depend on the inputs; a graph names them in their order."""
    reached, operations = set(inputs), []
    for each in graph.get_operations():
        if any(tensor.name in reached for tensor in each.inputs):
            reached |= {tensor.name for tensor in each.outputs}
            operations += [each] if each.outputs and each.outputs[0].dtype.is_floating else []
    return operations
