"""App: a small model whose head has any size, and what a device that serves it has kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgekit.bundle import Contents
from edgekit.signing import Signer
from edgekit_runtime import golden, trust
from edgekit_runtime.features import Features
from edgekit_runtime.interface import Interface
from edgekit_runtime.tensors import TensorSpec
from edgekit_train.samples import Samples
from tests.lab.faces import PYTHON
from tests.runtime import bundles

Array = NDArray[Any]
APP, INPUTS, SAMPLES = "shop", 4, 60


@dataclass(frozen=True)
class App:
    """y = relu(x · A) · B of random numbers, ``features`` into ``classes``; what is learned is B and a bias."""

    features: int
    classes: int

    @property
    def name(self) -> str:
        return f"{self.features} × {self.classes}"

    @property
    def numbers(self) -> int:
        """Of the head, float32 each."""
        return (self.features + 1) * self.classes

    @cached_property
    def layers(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(5)
        shapes = (INPUTS, self.features), (self.features, self.classes)
        first, last = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
        return first, last

    @cached_property
    def model(self) -> bytes:
        """ONNX, which shows its features."""
        names = [["x", "a", "h"], ["h", "f"], ["f", "b", "y"]]
        kinds = ("MatMul", "Relu", "MatMul")
        nodes = [helper.make_node(kind, each[:-1], each[-1:]) for kind, each in zip(kinds, names, strict=True)]
        constants = [numpy_helper.from_array(array, name) for array, name in zip(self.layers, "ab", strict=True)]
        shown = [bundles.tensor("y", None, self.classes), bundles.tensor("f", None, self.features)]
        return bundles.onnx_bytes(nodes, [bundles.tensor("x", None, INPUTS)], shown, *constants)

    def contents(self) -> Contents:
        """Of its bundle."""
        specs = (TensorSpec("x", "float32", (None, INPUTS)),), (TensorSpec("y", "float32", (None, self.classes)),)
        interface = Interface(*specs, features=Features("f", self.features))
        x = np.ones((1, INPUTS), np.float32)
        y = {"y": self.answers(x)}
        vectors = golden.dump([golden.Vector({"x": x}, y, y)])
        return Contents(replace(bundles.MANIFEST, app=APP, interface=interface), self.model, vectors)

    def answers(self, x: Array) -> Array:
        first, last = self.layers
        return np.asarray(np.maximum(x @ first, 0) @ last)

    def install(self, home: Path, place: Path, signer: Signer, seed: int) -> None:
        """Let it be live on a device, which has samples of other labels; ``place``: for the bundle."""
        trust.add(trust.file(home), signer.allowed_line())
        bundles.go_live(bundles.write(place, signer, self.contents()), home)
        python = home / "env" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(PYTHON)
        python.chmod(0o755)
        rows = np.random.default_rng(seed).normal(size=(SAMPLES, 1, INPUTS)).astype(np.float32)
        with Samples(APP, home) as kept:
            for x in rows:
                kept.keep(x, self.classes - 1 - int(self.answers(x).argmax()))
