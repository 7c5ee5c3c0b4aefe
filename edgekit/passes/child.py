"""A converter in a process of its own: for formats that nobody vouches for, and for frameworks that keep what they get.

Parent and child speak JSON: one order goes in, one answer comes out. The limits are set by ``child_frame``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError

HERE = Path(__file__).parent
TIMEOUT_S = 900


@dataclass(frozen=True)
class Child:
    """A converter as messages call it, the file with its ``convert(order) -> answer``, and who runs it."""

    name: str
    task: str
    python: Path = Path(sys.executable)
    timeout_s: float = TIMEOUT_S

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """The child works in the folder of ``order["result"]``; ``order["source"]`` is what messages begin with.

        Raises: ConversionError.
        """
        source = Path(order["source"]).name
        try:
            done = self._run(json.dumps(order), Path(order["result"]).parent)
        except subprocess.TimeoutExpired as error:
            raise ConversionError(f"{source}: not converted within {self.timeout_s} s") from error
        if done.returncode or not done.stdout.strip():
            last = done.stderr.strip().rpartition("\n")[2][:400]
            raise ConversionError(f"{source}: {self.name} could not convert it: {last or 'it was killed'}")
        answer: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
        return answer

    def _run(self, order: str, folder: Path) -> subprocess.CompletedProcess[str]:
        # -P: no module is taken from the current folder. What PYTHONPATH adds is meant for this interpreter alone.
        command = [str(self.python), "-P", str(HERE / "child_frame.py"), str(HERE / self.task)]
        ours = self.python == Path(sys.executable)
        env = {name: value for name, value in os.environ.items() if ours or not name.startswith("PYTHON")}
        return subprocess.run(
            command,
            input=order,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=self.timeout_s,
            cwd=folder,
            env=env,
            check=False,
        )
