"""Inference: one call on a device, from the host."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import device as devices
from edgekit.errors import DataError, DeviceError
from edgekit.transports import Transport
from edgekit_runtime import arrays


@dataclass(frozen=True)
class Result:
    """Outputs by name, and how long ``predict`` took there; None where it is emulated."""

    app: str
    latency_ms: float | None
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
    try:
        _arrays(source)
    except ValueError as error:
        raise DataError(f"{source}: {error}", "give an .npz with one array per input, or x") from error
    with devices.scratch(transport, home, "run") as place:
        transport.put(source, f"{place}/input.npz")
        answer = devices.call(transport, "run", app, "--input", f"{place}/input.npz", "--output", f"{place}/output.npz")
        with tempfile.TemporaryDirectory() as folder:
            fetched = Path(folder, "output.npz")
            transport.get(f"{place}/output.npz", fetched)
            outputs = _outputs(fetched, keep)
    return Result(app, answer["latency_ms"], answer["engine"], outputs)


def _outputs(fetched: Path, keep: Path | None) -> dict[str, NDArray[Any]]:
    try:
        outputs = _arrays(fetched)
    except ValueError as error:
        raise DeviceError(f"the outputs that the device sent are unusable: {error}") from error
    try:
        if keep:
            copyfile(fetched, keep)
    except OSError as error:
        raise DataError(f"{keep}: the outputs cannot be kept: {error.strerror}") from error
    return outputs


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    """Raises: ValueError that says in what way it is no .npz of numbers."""
    try:
        return arrays.load(file.read_bytes())
    except OSError as error:
        raise ValueError(error.strerror) from error
