"""The course: a device on a real sshd behind a wire that counts, and a model of 16 MiB that changes."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

from edgekit import fleet
from edgekit.bundle import write
from edgekit.fleet import Device
from edgekit.signing import Signer
from edgekit.simulate import Simulated
from edgekit_runtime import golden
from edgekit_runtime.bundle import Bundle
from tests.lab.wire import Wire, configuration, through
from tests.runtime.bundles import MANIFEST, contents, onnx_bytes, tensor

SIDE = {"int8": 4096, "float32": 2048}
TAIL = 256 << 10
CASES = ("first time", "unchanged", "last 256 KiB changed", "retrained")


@dataclass(frozen=True)
class Course:
    """A device, the wire to it, and a project whose fleet has it, all in one folder."""

    folder: Path
    device: Simulated
    wire: Wire
    signer: Signer

    @property
    def configuration(self) -> Path:
        return configuration(self.device, self.wire, self.folder)

    @property
    def uri(self) -> str:
        return through(self.device, self.wire, self.folder)

    @property
    def target(self) -> Path:
        """Where the others put the model."""
        return copied_to(self.device)

    def empty(self) -> None:
        """A device that is set up and has nothing, and a host that has sent nothing."""
        shutil.rmtree(self.folder / "cache" / "edgekit" / "sent", ignore_errors=True)
        empty(self.device, self.signer)

    def enlist(self) -> None:
        (self.folder / "project").mkdir()
        fleet.add(self.folder / "project", Device("pi", self.uri, MANIFEST.target))


def copied_to(device: Simulated) -> Path:
    """Where others than edgekit put the model."""
    return device.folder / "account" / "model.onnx"


def equip(home: Path, signer: Signer) -> None:
    """Make the home of a device that is set up: with this program's environment, and a signer that it trusts."""
    (home / "trust").mkdir(parents=True)
    (home / "trust" / "allowed_signers").write_text(f"{signer.allowed_line()}\n")
    (home / "env").symlink_to(sys.prefix)


def empty(device: Simulated, signer: Signer) -> None:
    """Leave a device that is set up and has no model."""
    shutil.rmtree(device.home, ignore_errors=True)
    equip(device.home, signer)
    copied_to(device).unlink(missing_ok=True)


@dataclass(frozen=True)
class Model:
    """A model's file, and the bundle of it."""

    file: Path
    bundle: Bundle


def models(kind: str, folder: Path, signer: Signer) -> dict[str, Model]:
    """The model at first, with its last bytes changed, and retrained: every weight a little different."""
    chance, side = np.random.default_rng(0), SIDE[kind]
    before = chance.normal(size=(side, side)).astype(np.float32) * (30 if kind == "int8" else 0.05)
    step = chance.normal(size=(side, side)).astype(np.float32) * before.std() / 50
    after = before + step
    tail = before.copy()
    changed = TAIL // (1 if kind == "int8" else 4)
    tail.reshape(-1)[-changed:] = chance.permutation(after.reshape(-1)[-changed:])
    found = {"first time": before, "last 256 KiB changed": tail, "retrained": after}
    return {name: _model(kind, name, weights, (folder, signer, n)) for n, (name, weights) in enumerate(found.items())}


def _model(kind: str, name: str, weights: np.ndarray, where: tuple[Path, Signer, int]) -> Model:
    folder, signer, number = where
    stored = np.clip(np.rint(weights), -127, 127).astype(np.int8) if kind == "int8" else weights
    constants = [numpy_helper.from_array(stored, "w"), numpy_helper.from_array(np.float32(1e-3), "s")]
    scale = helper.make_node("DequantizeLinear", ["w", "s"], ["f"])
    product = helper.make_node("Add", ["x", "f" if kind == "int8" else "w"], ["sum"])  # golden vectors stay small
    mean = helper.make_node("ReduceMean", ["sum"], ["y"], keepdims=1)
    nodes = [scale, product, mean] if kind == "int8" else [product, mean]
    data = onnx_bytes(nodes, [tensor("x", None, 1)], [tensor("y", None, 1)], *constants[: len(nodes) - 1])
    x = np.ones((1, 1), np.float32)
    y = {"y": x + np.mean(stored.astype(np.float64) * (1e-3 if kind == "int8" else 1), keepdims=True, dtype=np.float32)}
    interface = replace(
        MANIFEST.interface,
        inputs=(replace(MANIFEST.interface.inputs[0], shape=(None, 1)),),
        outputs=(replace(MANIFEST.interface.outputs[0], shape=(None, 1)),),
    )
    proof = replace(MANIFEST.proof, vectors=1, max_abs_error=0.1)
    given = contents(1, sequence=10 + number, interface=interface, proof=proof)
    made = replace(given, model=data, golden=golden.dump([golden.Vector({"x": x}, y, y)]))
    place = folder / f"{kind}-{number}"
    file = folder / f"{kind}-{number}.onnx"
    file.write_bytes(data)
    return Model(file, write(made, place, signer))
