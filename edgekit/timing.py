"""Timing: candidates of a build on a real device, before anything is installed there."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit import device as devices
from edgekit.answer import reported
from edgekit.bundle import Contents
from edgekit.errors import DeviceError, EdgekitError
from edgekit.transports import Transport
from edgekit_runtime import manifest

TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class DeviceClock:
    """Times over an open transport to ``device``, which has been set up."""

    device: str
    transport: Transport

    def __call__(self, candidates: Sequence[Contents]) -> list[Sequence[int] | EdgekitError]:
        """Nanoseconds of each call, or why a candidate does not run there. Raises: DeviceError, TransportError."""
        facts = devices.probe(self.transport)
        if facts["emulated"]:
            raise DeviceError(f"{self.device} is emulated: its times are no latencies", "build without --on")
        home = facts["home"]
        with devices.scratch(self.transport, home, "time") as place:
            for number, contents in enumerate(candidates):
                self._send(contents, f"{place}/{number:03}")
            answer = devices.call(self.transport, "time", place, timeout_s=TIMEOUT_S)
        try:
            return [_times(answer["models"][f"{number:03}"]) for number in range(len(candidates))]
        except (TypeError, ValueError) as error:
            raise DeviceError(f"the times that the device sent are unusable: {error!r}") from error

    def _send(self, contents: Contents, stem: str) -> None:
        parts = {".json": manifest.dump(contents.manifest), ".model": contents.model, ".npz": contents.golden}
        with tempfile.TemporaryDirectory() as folder:
            for suffix, data in parts.items():
                file = Path(folder, f"part{suffix}")
                file.write_bytes(data)
                self.transport.put(file, f"{stem}{suffix}")


def _times(found: dict[str, object]) -> Sequence[int] | EdgekitError:
    if "error" in found:
        return reported(found["error"])
    times = found["times_ns"]
    if not isinstance(times, list) or not times:
        raise ValueError("no times")
    return [int(each) for each in times]
