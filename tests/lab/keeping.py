"""Keeping: have a device keep samples, as the program does that serves there."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgekit import transports

PROGRAM = """
import sys, numpy as np
from edgekit_train.samples import Samples
data = np.load(sys.argv[2])
with Samples(sys.argv[1]) as kept:
    for x, y in zip(data["x"], data["labels"]):
        kept.keep(x[None], int(y))
"""


def keep(uri: str, home: Path | str, app: str, x: np.ndarray, labels: np.ndarray) -> None:
    """Each row of ``x`` is a sample, of the class beside it; ``home``: the EDGEKIT_HOME of the device."""
    with TemporaryDirectory() as here, transports.connect(uri) as link:
        file, there = Path(here, "kept.npz"), f"{home}/kept.npz"
        np.savez(file, x=x, labels=labels)
        link.put(file, there)
        link.run([f"{home}/env/bin/python", "-c", PROGRAM, app, there]).check()
