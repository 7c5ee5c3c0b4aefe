"""A TFLite file with training signatures, as TensorFlow writes them: softmax regression on eight numbers.

The graphs stand in TensorFlow's order, by name, and not what serves first. Weights and a bias are variables, which a
graph that each of the others calls once begins with constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from tests.lab.models import in_keras

WRITE = """
import sys
import tensorflow as tf

class Net(tf.Module):
    def __init__(self):
        draw = tf.random.stateless_normal
        self.a, self.c = tf.Variable(draw((8, 12), (0, 0)) * 0.5), tf.Variable(tf.zeros((12,)))
        self.b, self.d = tf.Variable(draw((12, 3), (0, 1)) * 0.3), tf.Variable(tf.zeros((3,)))

    def logits(self, x):
        return tf.nn.relu(x @ self.a + self.c) @ self.b + self.d

    @tf.function(input_signature=[tf.TensorSpec((None, 8))])
    def infer(self, x):
        return {"logits": self.logits(x)}

    @tf.function(input_signature=[tf.TensorSpec((10, 8)), tf.TensorSpec((10,), tf.int32), tf.TensorSpec(())])
    def train(self, x, y, rate):
        hidden = tf.nn.relu(x @ self.a + self.c)
        p = tf.nn.softmax(hidden @ self.b + self.d)
        labels = tf.one_hot(y, 3)
        loss = -tf.reduce_mean(tf.reduce_sum(labels * tf.math.log(p + 1e-9), axis=1))
        error = (p - labels) / 10.0
        back = tf.matmul(error, self.b, transpose_b=True) * tf.cast(hidden > 0, tf.float32)
        self.b.assign_sub(rate * tf.matmul(hidden, error, transpose_a=True))
        self.d.assign_sub(rate * tf.reduce_sum(error, 0))
        self.a.assign_sub(rate * tf.matmul(x, back, transpose_a=True))
        self.c.assign_sub(rate * tf.reduce_sum(back, 0))
        return {"loss": loss}

    @tf.function(input_signature=[])
    def weights(self):
        return {"a": self.a.read_value(), "b": self.b.read_value(), "c": self.c.read_value(), "d": self.d.read_value()}

    @tf.function(input_signature=[tf.TensorSpec(s) for s in ((8, 12), (12, 3), (12,), (3,))])
    def restore(self, a, b, c, d):
        for variable, value in ((self.a, a), (self.b, b), (self.c, c), (self.d, d)):
            variable.assign(value)
        return {"done": tf.reduce_sum(d)}

net = Net()
named = {name: getattr(net, name).get_concrete_function() for name in ("train", "weights", "restore")}
named["serving_default"] = net.infer.get_concrete_function()
tf.saved_model.save(net, sys.argv[1], signatures=named)
converter = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1])
converter.experimental_enable_resource_variables = True
open(sys.argv[2], "wb").write(converter.convert())
"""
SIZE, CLASSES, BATCH = 8, 3, 10
FLOAT, INT, RESOURCE = schema.TensorType.FLOAT32, schema.TensorType.INT32, schema.TensorType.RESOURCE
OPS, KINDS = schema.BuiltinOperator, schema.BuiltinOptions
NAMES = ("restore", "serving_default", "train", "weights")
BEGINNING = 4
"""The number of the graph that is called once."""


def clusters(count: int, seed: int = 2) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Samples [count, 8] around a place for each of three classes, and which class each is of."""
    rng = np.random.default_rng(seed)
    y = rng.integers(CLASSES, size=count)
    return (rng.normal(size=(count, SIZE)) + 2 * np.eye(CLASSES, SIZE)[y]).astype(np.float32), y


def start() -> dict[str, NDArray[np.float32]]:
    """What the file's weights are."""
    drawn = np.random.default_rng(5).normal(size=(CLASSES, SIZE)).astype(np.float32)
    return {"bias": np.zeros(CLASSES, np.float32), "weight": drawn}


def trainable(
    path: Path,
    *names: str,
    frozen: bool = False,
    shared: bool = False,
    computed: bool = False,
    crossed: bool = False,
) -> Path:
    """``names``: of its signatures, in the order of its graphs. ``frozen``: it serves constants, which nobody trains.
    ``shared``: tensors of the same numbers share a buffer. ``computed``: weights begin with a sum of constants.
    ``crossed``: there is a second bias, which nothing takes, and what restores sets each of both to the other.
    """
    file = _File(frozen, shared, computed, crossed)
    parts = [file.restore(), file.serve(), file.train(), file.weights(), file.begin()]
    file.document.subgraphs = [part.graph for part in parts]
    ends = zip(names or NAMES, range(len(parts)), parts, strict=False)
    file.document.signatureDefs = [_signature(*each) for each in ends]
    builder = flatbuffers.Builder(1 << 14)
    builder.Finish(file.document.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def by_tensorflow(folder: Path) -> tuple[Path, Path]:
    """A SavedModel of a network with two layers, and the TFLite file that TensorFlow's converter makes of it.

    Its weights are ``a`` [8, 12], ``c``, ``b`` [12, 3] and ``d``.
    """
    done = in_keras(WRITE, folder / "saved", folder / "m.tflite")
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "saved", folder / "m.tflite"


@dataclass
class _Part:
    """A graph under way, and what its signature calls its ends."""

    file: _File
    graph: Any = field(default_factory=schema.SubGraphT)
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []

    def tensor(self, shape: Sequence[int], kind: int = FLOAT, data: Any = None, free: bool = False) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = f"t{len(self.graph.tensors)}:0".encode(), list(shape), kind
        tensor.buffer = self.file.buffer(data) if data is not None else 0
        if free:
            tensor.shapeSignature = [-1, *shape[1:]]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def takes(self, name: str, shape: Sequence[int], kind: int = FLOAT, free: bool = False) -> int:
        self.inputs[name] = self.tensor(shape, kind, free=free)
        self.graph.inputs.append(self.inputs[name])
        return self.inputs[name]

    def gives(self, name: str, index: int) -> None:
        self.outputs[name] = index
        self.graph.outputs.append(index)

    def op(
        self, name: str, inputs: Sequence[int], shape: Sequence[int] | None, options: Any = None, **more: Any
    ) -> int:
        """What it gives; -1 for nothing."""
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs = self.file.code(getattr(OPS, name)), list(inputs)
        given = [] if shape is None else [self.tensor(shape, **more)]
        operator.outputs = given
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(KINDS, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(operator)
        return given[0] if given else -1

    def handle(self, name: str) -> int:
        options = schema.VarHandleOptionsT()
        options.container, options.sharedName = b"", name.encode()
        return self.op("VAR_HANDLE", [], (), options, kind=RESOURCE)

    def read(self, name: str) -> int:
        return self.op("READ_VARIABLE", [self.handle(name)], self.file.start[name].shape, schema.ReadVariableOptionsT())

    def assign(self, name: str, value: int) -> None:
        self.op("ASSIGN_VARIABLE", [self.handle(name), value], None, schema.AssignVariableOptionsT())

    def constant(self, value: Any, dtype: Any = np.float32) -> int:
        array = np.asarray(value, dtype)
        return self.tensor(array.shape, FLOAT if array.dtype == np.float32 else INT, array)

    def summed(self, value: int, axis: Sequence[int], shape: Sequence[int]) -> int:
        return self.op("SUM", [value, self.constant(axis, np.int32)], shape, schema.ReducerOptionsT())


SHAPES = {"bias": (CLASSES,), "weight": (CLASSES, SIZE)}


class _File:
    def __init__(self, frozen: bool, shared: bool, computed: bool, crossed: bool) -> None:
        self.frozen, self.shared, self.computed, self.crossed = frozen, shared, computed, crossed
        self.start = start() | ({"second": start()["bias"]} if crossed else {})
        self.document = schema.ModelT()
        self.document.version, self.document.operatorCodes = 3, []
        self.document.buffers = [schema.BufferT()]

    def buffer(self, data: Any) -> int:
        made, raw = schema.BufferT(), np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        if self.shared:
            for at, each in enumerate(self.document.buffers):
                if each.data is not None and bytes(each.data) == raw.tobytes():
                    return at
        made.data = raw
        self.document.buffers.append(made)
        return len(self.document.buffers) - 1

    def code(self, builtin: int) -> int:
        for at, each in enumerate(self.document.operatorCodes):
            if each.builtinCode == builtin:
                return at
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
        self.document.operatorCodes.append(code)
        return len(self.document.operatorCodes) - 1

    def part(self) -> _Part:
        made, once = _Part(self), schema.CallOnceOptionsT()
        once.initSubgraphIndex = BEGINNING
        made.op("CALL_ONCE", [], None, once)
        return made

    def begin(self) -> _Part:
        part = _Part(self)
        for name, array in self.start.items():
            value = part.constant(array)
            if self.computed:
                value = part.op("ADD", [value, part.constant(0.0)], array.shape, schema.AddOptionsT())
            part.assign(name, value)
        return part

    def restore(self) -> _Part:
        part = self.part()
        others = {"bias": "second", "second": "bias"} if self.crossed else {}
        for name, array in self.start.items():
            part.assign(others.get(name, name), part.takes(name, array.shape))
        part.gives("done", part.summed(part.inputs["bias"], [0], ()))
        return part

    def serve(self) -> _Part:
        part = self.part()
        x = part.takes("x", (1, SIZE), free=True)
        known = {n: part.constant(a) if self.frozen else part.read(n) for n, a in start().items()}
        part.gives("logits", _dense(part, x, known, 1, free=True))
        return part

    def weights(self) -> _Part:
        part = self.part()
        for name in self.start:
            part.gives(name, part.read(name))
        return part

    def train(self) -> _Part:
        part = self.part()
        x, y = part.takes("x", (BATCH, SIZE)), part.takes("y", (BATCH,), INT)
        rate, known = part.takes("rate", ()), {name: part.read(name) for name in SHAPES}
        soft, last, rows = schema.SoftmaxOptionsT(), schema.OneHotOptionsT(), (BATCH, CLASSES)
        soft.beta, last.axis = 1.0, -1
        p = part.op("SOFTMAX", [_dense(part, x, known, BATCH)], rows, soft)
        hot = [part.constant(CLASSES, np.int32), part.constant(1.0), part.constant(0.0)]
        right = part.op("ONE_HOT", [y, *hot], rows, last)
        part.gives("loss", _loss(part, p, right))
        error = part.op("SUB", [p, right], rows, schema.SubOptionsT())
        share = part.op("MUL", [error, part.constant(1 / BATCH)], rows, schema.MulOptionsT())
        turned = schema.BatchMatMulOptionsT()
        turned.adjX = True
        steep = {
            "weight": part.op("BATCH_MATMUL", [share, x], SHAPES["weight"], turned),
            "bias": part.summed(share, [0], SHAPES["bias"]),
        }
        for name, shape in SHAPES.items():
            step = part.op("MUL", [rate, steep[name]], shape, schema.MulOptionsT())
            part.assign(name, part.op("SUB", [known[name], step], shape, schema.SubOptionsT()))
        return part


def _dense(part: _Part, x: int, known: dict[str, int], rows: int, free: bool = False) -> int:
    inputs = [x, known["weight"], known["bias"]]
    return part.op("FULLY_CONNECTED", inputs, (rows, CLASSES), schema.FullyConnectedOptionsT(), free=free)


def _loss(part: _Part, p: int, right: int) -> int:
    log = part.op("LOG", [p], (BATCH, CLASSES))
    told = part.op("MUL", [right, log], (BATCH, CLASSES), schema.MulOptionsT())
    whole = part.summed(told, [0, 1], ())
    return part.op("MUL", [whole, part.constant(-1 / BATCH)], (), schema.MulOptionsT())


def _signature(name: str, at: int, part: _Part) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = name.encode(), at
    signature.inputs, signature.outputs = (
        [_map(*each) for each in ends.items()] for ends in (part.inputs, part.outputs)
    )
    return signature


def _map(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry
