"""Weighing: the memory that a model needs here, measured in a process that does nothing else:

    python -m edgekit.building.weighing MANIFEST

prints a JSON object, with the bytes or an error.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from edgekit_runtime import engines, golden, manifest
from edgekit_runtime.errors import DeviceError, EdgekitError, EngineError
from edgekit_runtime.session import Session

STATUS, CLEAR = "/proc/self/status", "/proc/self/clear_refs"
FROM_NOW_ON = "5"
"""Written to CLEAR it takes the peak back to what is resident now (Linux 4.0; man 5 proc)."""


def peak_bytes(path: Path) -> int:
    """What loading the model beside a NAME.json (NAME.model, a manifest as for ``timing``) and predicting its golden
    inputs (NAME.npz) add to the resident memory of this process at the peak.

    The engine's libraries are loaded before; what of them only a model makes it touch counts.
    Raises: BundleError, EngineError, DeviceError where the system does not tell.
    """
    told = manifest.parse(path.read_bytes())
    inputs = [vector.inputs for vector in golden.parse(path.with_suffix(".npz").read_bytes())]
    with suppress(EngineError):  # no bytes are no model, but the engine is there now
        engines.load(b"", told.engines)
    with suppress(OSError):  # not everybody may; then it counts from the peak so far
        Path(CLEAR).write_text(FROM_NOW_ON)
    before = _peak()
    with Session(path.with_suffix(".model").read_bytes(), told.interface, told.engines) as session:
        for each in inputs:
            session.predict(each)
        return _peak() - before


def _peak() -> int:
    """The largest resident set of this process so far. That of getrusage is inherited from who started it."""
    try:
        with Path(STATUS).open() as file:
            (size,) = (line.split()[1] for line in file if line.startswith("VmHWM:"))
    except (OSError, ValueError) as error:
        raise DeviceError("this system does not tell how much memory a process takes") from error
    return int(size) << 10


def main() -> int:
    try:
        print(json.dumps({"peak_bytes": peak_bytes(Path(sys.argv[1]))}))
    except EdgekitError as error:
        print(json.dumps({"error": error.as_dict()}))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
