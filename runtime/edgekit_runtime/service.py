"""Service: the systemd unit by which a program serves an app here; it takes up another release by starting again."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

TIMEOUT_S = 20.0
SERVER = "edgekit.service"
"""The unit of ``edgekit-runtime serve``; no app has it. The server takes up releases itself, so nobody restarts it."""
COURIER = "edgekit.courier.service"
"""The unit of ``edgekit-runtime deliver``; no app has it either."""


def unit(app: str) -> str:
    return f"edgekit-{app}.service"


def restart(home: Path, app: str) -> str:
    """Have an app's service start anew, where it has one that is enabled; the unit's name, "" for none."""
    root = os.geteuid() == 0
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    place = Path("/etc/systemd/system") if root else Path(config) / "systemd" / "user"
    name = unit(app)
    if not _ours(place / name, home):
        return ""
    manager = ["systemctl"] if root else ["systemctl", "--user"]
    if not (_done(*manager, "--quiet", "is-enabled", name) and _done(*manager, "--no-block", "restart", name)):
        return ""
    return name


def _ours(path: Path, home: Path) -> bool:
    """Whether a unit is one that serves from this home."""
    try:
        return f'"EDGEKIT_HOME={home}"' in path.read_text(encoding="utf-8", errors="replace").replace("%%", "%")
    except OSError:
        return False


def _done(*command: str) -> bool:
    """A session of SSH need not have the variable by which a user's manager is found."""
    variables = {"XDG_RUNTIME_DIR": f"/run/user/{os.geteuid()}", **os.environ}
    nothing = subprocess.DEVNULL
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return not subprocess.run(
            command, env=variables, stdin=nothing, stdout=nothing, stderr=nothing, timeout=TIMEOUT_S
        ).returncode
    return False
