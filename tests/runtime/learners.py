"""A device that learns: a small app that is live on it and shows its features, samples of it, and tasks of a host."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgekit.bundle import Contents
from edgekit.model import open_model
from edgekit.passes import features_tflite
from edgekit.signing import Signer
from edgekit_runtime import golden, releases, trust
from edgekit_runtime.features import Features
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.releases import Release
from edgekit_runtime.session import Session
from edgekit_runtime.tensors import TensorSpec
from edgekit_train import device_key, family, update, words
from edgekit_train import task as tasks
from edgekit_train.head_trainer import HeadTrainer
from edgekit_train.samples import Samples
from edgekit_train.task import Task
from edgekit_train.trainer import Fitted
from edgekit_train.update import Update
from tests.lab.models import RESNET8_INT8, shared
from tests.runtime import bundles
from tests.runtime.bundles import go_live, write
from tests.runtime.learning import pictures

Array = NDArray[Any]
APP, ROUND, OTHER = "faces", "0a" * 16, "0b" * 16
SIZE, CLASSES = 8, 3


@cache
def layers() -> tuple[Array, Array]:
    """Of the backbone [4, SIZE] and of the head [SIZE, CLASSES]."""
    rng = np.random.default_rng(5)
    return rng.normal(size=(4, SIZE)).astype(np.float32), rng.normal(size=(SIZE, CLASSES)).astype(np.float32)


@cache
def contents() -> Contents:
    """y = relu(x · A) · B, whose features are relu(x · A)."""
    names = [["x", "a", "h"], ["h", "f"], ["f", "b", "y"]]
    kinds = ("MatMul", "Relu", "MatMul")
    nodes = [helper.make_node(kind, each[:-1], each[-1:]) for kind, each in zip(kinds, names, strict=True)]
    constants = [numpy_helper.from_array(array, name) for array, name in zip(layers(), "ab", strict=True)]
    given = [bundles.tensor("y", None, CLASSES), bundles.tensor("f", None, SIZE)]
    model = bundles.onnx_bytes(nodes, [bundles.tensor("x", None, 4)], given, *constants)
    specs = (TensorSpec("x", "float32", (None, 4)),), (TensorSpec("y", "float32", (None, CLASSES)),)
    interface = Interface(*specs, features=Features("f", SIZE))
    outputs = [(x, {"y": features(x) @ layers()[1]}) for x in bundles.samples()]
    vectors = golden.dump([golden.Vector({"x": x}, y, y) for x, y in outputs])
    return Contents(replace(bundles.MANIFEST, app=APP, interface=interface), model, vectors)


def features(x: Array) -> Array:
    rows: Array = np.maximum(x @ layers()[0], 0)
    return rows


def seen(count: int = 60, seed: int = 0) -> list[tuple[Array, int]]:
    """Samples of classes that the head does not know: others than its own."""
    x = np.random.default_rng(seed).normal(size=(count, 1, 4)).astype(np.float32)
    labels = (features(x) @ layers()[1][:, ::-1]).argmax(axis=-1)[:, 0]
    return [(each, int(label)) for each, label in zip(x, labels, strict=True)]


def keep(home: Path, samples: list[tuple[Array, int]]) -> None:
    with Samples(APP, home) as kept:
        for x, y in samples:
            kept.keep(x, y)


def shipped() -> dict[str, Array]:
    return {"head.0.weight": layers()[1], "head.0.bias": np.zeros(CLASSES, np.float32)}


def a_task(live: Release, **changes: Any) -> Task:
    of = family.of(live.bundle.manifest, live.digest)
    return replace(Task(APP, of, ROUND, "pi-1", weights=shipped()), **changes)


def send(home: Path, asked: Task, signer: Signer, place: str = ROUND) -> None:
    """Put a task where a host does."""
    folder, data = home / "rounds" / APP / place, tasks.dump(asked)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.safetensors").write_bytes(data)
    (folder / "task.sig").write_text(signer.sign(f"sha256:{hashlib.sha256(data).hexdigest()}"))


def foggy_contents(place: Path) -> Contents:
    """ResNet-8 as its authors quantized it, with its features; ``place``: a folder to write it to."""
    model = open_model(shared(RESNET8_INT8.model))
    told = replace(features_tflite.write(model, place / "m.tflite"), size=64)
    interface = Interface(model.inputs, model.outputs, features=told)
    data, needs = (place / "m.tflite").read_bytes(), (EngineNeed("litert"),)
    x = pictures("test", fog=True)[0][:1]
    with Session(data, interface, list(needs)) as session:
        given = session.predict(x)
    vectors = golden.dump([golden.Vector({model.inputs[0].name: x}, given, given)])
    made = replace(bundles.MANIFEST, app=APP, format="tflite", precision="int8", engines=needs, interface=interface)
    return Contents(made, data, vectors)


@pytest.fixture(scope="module")
def born(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Path:
    """A device with the app, samples and a key."""
    place = tmp_path_factory.mktemp("born")
    trust.add(trust.file(place / "home"), signer.allowed_line())
    keep(place / "home", seen())
    go_live(write(place / "bundle", signer, contents()), place / "home")
    device_key.public(place / "home")
    return place / "home"


@pytest.fixture
def live(born: Path, home: Path) -> Release:
    """The app is live on the device at ``home``, which has kept samples."""
    shutil.copytree(born, home, symlinks=True, dirs_exist_ok=True)
    return releases.current(home, APP)


def fitted(samples: list[tuple[Array, int]] | None = None) -> Fitted:
    """What the device has to come to."""
    rows = [(features(x)[0], y) for x, y in samples or seen()]
    return HeadTrainer().fit(shipped(), rows, {})


def read(answer: dict[str, Any]) -> Update:
    return update.parse(Path(answer["path"]).read_bytes(), 1 << 20)


def learned(home: Path, signer: Signer, asked: Task) -> Update:
    send(home, asked, signer, asked.round)
    return read(words.learn(home, APP, asked.round))
