"""Device: what the host says to one machine over an open transport, and what it hears back.

The device does its own work (verify, install, prove, switch): here its runtime's commands are called and its answers
read. Nothing here knows how the transport works.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from edgekit import errors
from edgekit.errors import CommandError, DeviceError, EdgekitError
from edgekit.transports import Completed, Transport

NOT_SET_UP = 97
NO_PYTHON = 98

_HOME = """\
home=${EDGEKIT_HOME:-}
if [ -z "$home" ]; then
  if [ "$(id -u)" = 0 ]; then home=/var/lib/edgekit; else home=$HOME/.local/share/edgekit; fi
fi
export EDGEKIT_HOME="$home"
"""
RUNTIME = (
    _HOME
    + f"""\
[ -x "$home/env/bin/python" ] || exit {NOT_SET_UP}
exec "$home/env/bin/python" -m edgekit_runtime "$@"
"""
)
PYTHON = (
    _HOME
    + f"""\
for python in "$home/env/bin/python" python3; do
  command -v "$python" >/dev/null 2>&1 && exec "$python" -I "$@"
done
exit {NO_PYTHON}
"""
)


def call(
    transport: Transport, *command: str, stdin: Mapping[str, Any] | None = None, timeout_s: float = 300.0
) -> dict[str, Any]:
    """The answer of a runtime command. Raises: the error that the device reports, DeviceError, TransportError."""
    data = json.dumps(stdin).encode() if stdin is not None else b""
    done = transport.run(["sh", "-c", RUNTIME, "edgekit", *command], stdin=data, timeout_s=timeout_s)
    if done.status == NOT_SET_UP:
        raise DeviceError("edgekit is not set up on this device", "run 'edgekit device setup' for it")
    answer = _answer(done, command)
    if "error" in answer:
        raise reported(answer["error"])
    return answer


def probe(transport: Transport) -> dict[str, Any]:
    """The facts of ``edgekit_runtime.probe``; works before anything is set up. Raises: DeviceError, TransportError."""
    source = files("edgekit_runtime").joinpath("probe.py").read_bytes()
    done = transport.run(["sh", "-c", PYTHON, "edgekit", "-"], stdin=source)
    if done.status == NO_PYTHON:
        raise DeviceError("there is no python3 on this device", "install Python 3.8 or newer")
    return _answer(done.check(), ["probe"])


def _answer(done: Completed, command: Sequence[str]) -> dict[str, Any]:
    """The one JSON object that a command printed."""
    try:
        document = json.loads(done.stdout)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        last = (done.stderr or done.stdout).decode(errors="replace").strip().rpartition("\n")[2][:300]
        raise CommandError(f"the device's {command[0]} ended with status {done.status}: {last or 'it said nothing'}")
    return document


def reported(document: Mapping[str, Any]) -> EdgekitError:
    """The error that a device describes, as one of ours."""
    kinds = {
        kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EdgekitError)
    }
    kind = kinds.get(str(document.get("code")), DeviceError)
    return kind(str(document.get("message")), document.get("hint"))
