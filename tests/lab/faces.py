"""A project of the small app "faces", and devices that learn: folders of this machine, on the tests' own Python."""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import copytree

import numpy as np

from edgekit import fleet, signing
from edgekit.fleet import Device
from edgekit_runtime import trust
from tests.lab.bundles import TARGET
from tests.runtime.bundles import go_live, write
from tests.runtime.learners import APP, contents, keep, seen

ROOT = Path(__file__).parents[2]
PYTHON = f"""#!/bin/sh
[ "$1" = -I ] && shift
PYTHONPATH={ROOT}:{ROOT / "runtime"} exec {sys.executable} "$@"
"""
TOML = f"""app = "{APP}"
model = "faces.onnx"
targets = ["{TARGET}"]
[data]
calibration = "evaluation.npz"
evaluation = "evaluation.npz"
"""


def settle(project: Path) -> None:
    """The float model, and samples of the kind that devices keep."""
    samples = seen(200, seed=99)
    x, labels = np.concatenate([x for x, _ in samples]), np.array([y for _, y in samples])
    np.savez(project / "evaluation.npz", x=x, labels=labels)
    (project / "faces.onnx").write_bytes(contents().model)
    (project / "edgekit.toml").write_text(TOML)


def learning(project: Path, *names: str) -> None:
    """Devices in fleet.toml that serve the app and have kept samples, each its own."""
    born = project / names[0]
    signer = signing.signer(None)
    trust.add(trust.file(born), signer.allowed_line())
    go_live(write(project / "bundles" / APP, signer, contents()), born)
    python = born / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    for name in names[1:]:
        copytree(born, project / name, symlinks=True)
    for seed, name in enumerate(names):
        keep(project / name, seen(seed=seed))
        fleet.add(project, Device(name, f"local:{project / name}", TARGET))
