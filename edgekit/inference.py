"""Inference: one call on a device, from the host."""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import device as devices
from edgekit.errors import DataError
from edgekit.transports import Transport


@dataclass(frozen=True)
class Result:
    """Outputs by name, and how long ``predict`` took there."""

    app: str
    latency_ms: float
    engine: dict[str, str]
    outputs: dict[str, NDArray[Any]]

    def as_dict(self) -> dict[str, Any]:
        outputs = {
            name: {"dtype": array.dtype.name, "shape": list(array.shape), "data": _plain(array)}
            for name, array in self.outputs.items()
        }
        return {"app": self.app, "latency_ms": self.latency_ms, "engine": self.engine, "outputs": outputs}


def _plain(array: NDArray[Any]) -> Any:
    """Nested lists; what JSON has no number for becomes None."""
    plain = array.astype(object)
    if array.dtype.kind == "f":
        plain[~np.isfinite(array)] = None
    return plain.tolist()


def run(transport: Transport, home: str, app: str, source: Path, keep: Path | None) -> Result:
    """Send an .npz, predict, fetch the outputs (to ``keep`` too). Raises: DataError, InvalidInput, EngineError, …"""
    if not source.is_file():
        raise DataError(f"{source}: no such file", "give an .npz with one array per input, or x")
    place = f"{home}/run-{uuid.uuid4().hex}"
    transport.run(["mkdir", "-p", place]).check()
    try:
        transport.put(source, f"{place}/input.npz")
        answer = devices.call(transport, "run", app, "--input", f"{place}/input.npz", "--output", f"{place}/output.npz")
        with tempfile.TemporaryDirectory() as folder:
            fetched = Path(folder, "output.npz")
            transport.get(f"{place}/output.npz", fetched)
            with np.load(fetched, allow_pickle=False) as file:
                outputs = {name: file[name] for name in file.files}
            if keep:
                copyfile(fetched, keep)
    finally:
        transport.run(["rm", "-rf", place])
    return Result(app, answer["latency_ms"], answer["engine"], outputs)
