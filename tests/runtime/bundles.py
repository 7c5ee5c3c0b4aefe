"""Small real models, and the bundles of them: signed, sent, installed, as a push does it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import edgekit_runtime
from edgekit import bundle
from edgekit.bundle import Contents
from edgekit.signing import Signer
from edgekit_runtime import golden, releases, switches
from edgekit_runtime.bundle import IMAGE_TYPE, Bundle, Descriptor, blob_path, open_layout
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed, Manifest, ProofLimits
from edgekit_runtime.releases import Release
from edgekit_runtime.session import Session
from edgekit_runtime.tensors import TensorSpec

MODELS = Path(__file__).parents[3] / "shared" / "models"
APP = "scores"
INTERFACE = Interface((TensorSpec("x", "float32", (None, 4)),), (TensorSpec("y", "float32", (None, 3)),))


def model_file(path: str) -> bytes:
    """A trained model of the development set; the test is skipped where there is none."""
    if not (MODELS / path).is_file():
        pytest.skip(f"no {path} in ../shared/models")
    return (MODELS / path).read_bytes()


def make_key(path: Path) -> Signer:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return Signer(path)


def weights(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)


def onnx_bytes(nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any], *constants: Any) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString()
    return data


def tensor(name: str, *shape: int | str | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


@cache
def linear(seed: int) -> bytes:
    """An ONNX model, y = x · W, for any batch."""
    return linear_by(weights(seed))


def linear_by(matrix: NDArray[np.float32]) -> bytes:
    constant = onnx.numpy_helper.from_array(matrix, "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return onnx_bytes([node], [tensor("x", None, 4)], [tensor("y", None, 3)], constant)


def samples(n: int = 4) -> list[NDArray[np.float32]]:
    return [np.random.default_rng(i).normal(size=(1, 4)).astype(np.float32) for i in range(n)]


def vectors(seed: int) -> list[golden.Vector]:
    """Golden vectors of the linear model, by numpy."""
    outputs = [(x, {"y": x @ weights(seed)}) for x in samples()]
    return [golden.Vector({"x": x}, y, y) for x, y in outputs]


MANIFEST = Manifest(
    app=APP,
    version="1",
    sequence=1,
    target="generic-x86-64",
    arch="x86_64",
    format="onnx",
    precision="float32",
    engines=(EngineNeed("onnxruntime", ">=1.17", ("CPUExecutionProvider",)),),
    interface=INTERFACE,
    proof=ProofLimits(4, 1e-4, 0.9),
    provenance={"tools": {"onnx": onnx.__version__}},
)


def contents(seed: int = 1, **changes: Any) -> Contents:
    """What a bundle of the linear model holds; changes are of its manifest."""
    manifest = replace(MANIFEST, **{"version": str(seed), "sequence": seed, **changes})
    return Contents(manifest, linear(seed), golden.dump(vectors(seed)))


def tflite_contents(engine: str, **changes: Any) -> Contents:
    """What a bundle of a trained TFLite model holds; its golden vectors are of LiteRT."""
    model = model_file("resnet8_cifar10/resnet8_cifar10_float32.tflite")
    interface = Interface(
        (TensorSpec("image", "float32", (None, 32, 32, 3), "input_1"),),
        (TensorSpec("scores", "float32", (None, 10), "Identity"),),
    )
    proof = ProofLimits(3, 1e-3, 1.0)
    made = replace(MANIFEST, format="tflite", engines=(EngineNeed(engine),), interface=interface, proof=proof)
    images = [np.random.default_rng(i).integers(0, 256, (1, 32, 32, 3)).astype(np.float32) for i in range(3)]
    with Session(model, interface, [EngineNeed("litert")]) as session:
        outputs = [(x, session.predict(x)) for x in images]
    given = [golden.Vector({"image": x}, y, y) for x, y in outputs]
    return Contents(replace(made, **changes), model, golden.dump(given))


def write(place: Path, signer: Signer, given: Contents | None = None) -> Bundle:
    return bundle.write(given or contents(), place, signer)


def blobs(parcel: Bundle) -> list[Descriptor]:
    size = blob_path(parcel.root, parcel.digest).stat().st_size
    return [Descriptor(IMAGE_TYPE, parcel.digest, size), parcel.config, *parcel.layers]


def send(parcel: Bundle, home: Path) -> Path:
    """What a transport does: put what is missing into the place that the device gives for it; that place."""
    place, lacking = releases.missing(home, blobs(parcel))
    for blob in lacking:
        shutil.copyfile(blob_path(parcel.root, blob.digest), place / blob.digest[7:])
    return place


def install(parcel: Bundle, home: Path) -> Release:
    return take_in(parcel, home, send(parcel, home))


def take_in(parcel: Bundle, home: Path, place: Path) -> Release:
    return releases.install(home, place, parcel.digest, open_layout(parcel.root)[1])


def go_live(parcel: Bundle, home: Path) -> Release:
    """Installed, taken as proven, current, and confirmed."""
    tried = try_out(parcel, home)
    return switches.confirm(home, tried.bundle.manifest.app, tried.digest)


def try_out(parcel: Bundle, home: Path) -> Release:
    """Installed, taken as proven, and current, on trial."""
    release = releases.mark(install(parcel, home), "proven")
    return switches.activate(home, release.bundle.manifest.app, release.digest)


@dataclass(frozen=True)
class Parcels:
    """Two bundles of one app, and one of another app."""

    one: Bundle
    two: Bundle
    other: Bundle


def serves(parcel: Bundle) -> bool:
    """Whether the app that is live computes what this bundle's model computes."""
    with edgekit_runtime.load(APP) as session:
        return computes(session, parcel)


def computes(session: Session, parcel: Bundle) -> bool:
    """Whether a session computes what this bundle's model computes."""
    return all(np.allclose(session.predict(x)["y"], x @ weights(parcel.manifest.sequence)) for x in samples())
