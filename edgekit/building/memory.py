"""Memory: what a candidate needs when it serves, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgekit.bundle import Contents
from edgekit.errors import EngineError
from edgekit_runtime import manifest

TIMEOUT_S = 600.0


def peak_mib(contents: Contents) -> float | None:
    """Mebibytes that loading it and predicting its golden inputs take at the peak on this host, engine apart.

    None where the system does not tell. Raises: EngineError when it does not run by itself.
    """
    if sys.platform != "linux":
        return None
    with tempfile.TemporaryDirectory(prefix="edgekit-memory-") as folder:
        parts = {".json": manifest.dump(contents.manifest), ".model": contents.model, ".npz": contents.golden}
        for suffix, data in parts.items():
            Path(folder, f"model{suffix}").write_bytes(data)
        answer = _weighed(Path(folder, "model.json"))
    if "error" in answer:
        raise EngineError(f"its memory cannot be measured: {answer['error']['message']}", answer["error"]["hint"])
    return round(int(answer["peak_bytes"]) / 2**20, 3)


def _weighed(path: Path) -> dict[str, Any]:
    """The answer of ``weighing`` in a fresh process, as one keeps much of what it frees."""
    command = [sys.executable, "-P", "-m", "edgekit.building.weighing", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"its memory could not be measured within {TIMEOUT_S:g} s") from error
    except ValueError as error:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:400]
        raise EngineError(f"its memory cannot be measured: {last or 'the process was killed'}") from error
    return answer
