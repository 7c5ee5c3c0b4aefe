"""Own trainers: a package that somebody installs on a device, by its entry point, beside edgekit's."""

from __future__ import annotations

from pathlib import Path

from tests.lab import distribution

LOUD = """
import ctypes, os, subprocess, sys
import numpy as np
from edgekit_train.trainer import Fitted
from edgekit_train.trainers import Kind

print("imported")

class Loud:
    def init(self, session):
        print("init")
        return {"mean": np.full(4, 0.25, np.float32)}

    def fit(self, weights, data, config):
        print("epoch 1: loss 0.5")
        os.write(1, b"a library in C\\n")
        subprocess.run(["echo", "a program"], check=True)
        ctypes.CDLL(None).printf(b"what C holds back\\n")
        sys.stdout.write("no end of line")
        rows = np.concatenate([x for x, _ in data])
        return Fitted({"mean": rows.mean(axis=0).astype(np.float32) - weights["mean"]}, len(rows))

kind = Kind(lambda session, bundle: Loud(), features=False)
"""


def install(folder: Path, name: str, source: str = LOUD) -> Path:
    """The folder is one for PYTHONPATH; ``source`` has the trainer's ``kind``."""
    return distribution.trainer(folder, name, source)
