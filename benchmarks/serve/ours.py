"""Our own server, and the bundle that it serves."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from benchmarks.push.course import equip
from benchmarks.serve.entries import Bench, Command, Entry
from benchmarks.serve.task import CLASSES, NAME, SHAPE, Task
from benchmarks.serve.wire import V2_BINARY
from edgekit import bundle, transports
from edgekit import push as pushing
from edgekit.bundle import Contents
from edgekit.fleet import Device
from edgekit.signing import Signer
from edgekit_runtime import golden
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed, Manifest, ProofLimits
from edgekit_runtime.tensors import TensorSpec

SERVE = (sys.executable, "-m", "edgekit_runtime", "serve")
INTERFACE = Interface((TensorSpec("x", "float32", SHAPE),), (TensorSpec("y", "float32", (1, CLASSES)),))


def entry(bundle_folder: Path) -> Entry:
    """A device of its own each time, to which the bundle was pushed."""

    def command(bench: Bench) -> Command:
        home = bench.folder / "home"
        equip(home, _signer(bundle_folder.parent))
        device = Device("here", f"local:{home}", _manifest().target)
        with transports.connect(device.uri) as link:
            pushing.push(pushing.open_parcel(bundle_folder), device, link, lambda line: None)
        return Command([*SERVE, "--listen", str(bench.port), NAME], {**os.environ, "EDGEKIT_HOME": str(home)})

    return Entry("edgekit", V2_BINARY, command)


def write_bundle(task: Task, folder: Path) -> Path:
    """A bundle as a build writes it, signed by a key that is thrown away."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "benchmark", "-f", str(key)], check=True)
    pairs = ((x, {"y": y}) for x, y in zip(task.inputs[:1], task.answers[:1], strict=True))
    vectors = golden.dump([golden.Vector({"x": x}, y, y) for x, y in pairs])
    bundle.write(Contents(_manifest(), task.model.read_bytes(), vectors), folder / "bundle", _signer(folder))
    return folder / "bundle"


def _signer(folder: Path) -> Signer:
    return Signer(folder / "key")


def _manifest() -> Manifest:
    arch = platform.machine()
    return Manifest(
        app=NAME,
        version="1",
        sequence=1,
        target=f"generic-{arch.replace('_', '-')}",
        arch=arch,
        format="onnx",
        precision="float32",
        engines=(EngineNeed("onnxruntime", "", ("CPUExecutionProvider",), 1),),
        interface=INTERFACE,
        proof=ProofLimits(1, 1e-3, 1.0),
        provenance={},
    )
