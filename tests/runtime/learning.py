"""What devices learn from, for tests and figures: CIFAR pictures that an int8 backbone was not made for.

The backbone is a published one (ResNet-8, int8, of its authors); the shift is fog: contrast at 0.4, and grey over all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.formats import tflite_file
from edgekit.model import open_model
from edgekit.passes import features_tflite
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session
from edgekit_train import features, heads
from edgekit_train.update import Weights
from tests.lab.models import RESNET8_INT8, shared

Array = NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """Features [samples, size] and classes."""

    x: Array
    y: Array

    @property
    def samples(self) -> list[tuple[Array, int]]:
        return list(zip(self.x, self.y.tolist(), strict=True))

    def part(self, start: int, stop: int) -> Rows:
        return Rows(self.x[start:stop], self.y[start:stop])


@cache
def session() -> Session:
    """A session whose artifact shows its features."""
    model = open_model(shared(RESNET8_INT8.model))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.tflite"
        told = replace(features_tflite.write(model, path), size=64)
        interface = Interface(model.inputs, model.outputs, features=told)
        return Session(path.read_bytes(), interface, [EngineNeed("litert")])


@cache
def pictures(split: str, *, fog: bool) -> tuple[Array, Array]:
    """int8, as the model takes them."""
    with np.load(shared("data/cifar10.npz")) as data:
        x, y = data[f"{split}_x"].astype(np.float32), data[f"{split}_y"]
    seen = np.clip(0.4 * x + 130, 0, 255) if fog else x
    return (seen.astype(np.int16) - 128).astype(np.int8), y


@cache
def rows(split: str = "test", *, fog: bool = True) -> Rows:
    x, y = pictures(split, fog=fog)
    return Rows(np.concatenate([features.of(session(), each[None]) for each in x]), y)


@cache
def shipped() -> Weights:
    """The head of the model as it is, out of the int8 file."""
    document = tflite_file.unpacked(shared(RESNET8_INT8.model).read_bytes())
    graph = document.subgraphs[0]
    operator = next(each for each in graph.operators if len(each.inputs) == 3 and _rank(graph, each.inputs[1]) == 2)
    weight, bias = (_value(document, graph.tensors[index]) for index in operator.inputs[1:])
    return {"head.0.weight": np.ascontiguousarray(weight.T), "head.0.bias": bias}


def _rank(graph: Any, index: int) -> int:
    return len(graph.tensors[index].shape)


def _value(document: Any, tensor: Any) -> Array:
    kind = np.int8 if len(tensor.shape) == 2 else np.int32
    whole = np.frombuffer(bytes(document.buffers[tensor.buffer].data), kind).reshape(tensor.shape)
    return (whole * np.float32(tensor.quantization.scale[0])).astype(np.float32)


def accuracy(weights: Weights, of: Rows) -> float:
    return float((heads.logits(heads.layers(weights), of.x).argmax(axis=-1) == of.y).mean())
