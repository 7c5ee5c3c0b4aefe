"""Device: what the host says to one machine over an open transport, and what it hears back.

The device does its own work (verify, install, prove, switch): here its runtime's commands are called and its answers
read. Nothing here knows how the transport works.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from itertools import chain
from typing import Any

from edgekit.errors import CommandError, DeviceError, EdgekitError, TransportError, TransportTimeout
from edgekit.transports import Completed, Transport
from edgekit_runtime import errors, fields

NOT_SET_UP = 97
NO_PYTHON = 98
LONGEST = 1000
ANSWER_S, WORK_S, CLEAN_UP_S = 60.0, 300.0, 15.0
"""How long a device may take over a question, over work, and over what can be left undone. The first is enough for the
digests of a gigabyte on a slow card; a device that hangs is given up after it, for a push begins with a question."""
QUESTIONS = ("status", "why", "report", "signers")

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
exec "$home/env/bin/python" -I -m edgekit_runtime "$@"
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
    transport: Transport,
    *command: str,
    stdin: Mapping[str, Any] | None = None,
    body: Iterable[bytes] | None = None,
    timeout_s: float | None = None,
) -> dict[str, Any]:
    """The answer of a runtime command; its input is a line of JSON, which ``body`` may follow.

    ``timeout_s``: how long it may take, as ``Transport.run`` has it; else what is usual for such a command.

    Raises: the error that the device reports, DeviceError, TransportError.
    """
    line = json.dumps(stdin).encode() + b"\n" if stdin is not None else b""
    data = line if body is None else chain([line], body)
    usual_s = ANSWER_S if command[0] in QUESTIONS else WORK_S
    with _hinting(command[0]):
        done = transport.run(["sh", "-c", RUNTIME, "edgekit", *command], stdin=data, timeout_s=timeout_s or usual_s)
    if done.status == NOT_SET_UP:
        raise DeviceError("edgekit is not set up on this device", "run 'edgekit device setup' for it")
    answer = _answer(done, command)
    if "error" in answer:
        raise reported(answer["error"])
    return answer


def app(transport: Transport, name: str) -> dict[str, Any]:
    """What a device says of an app (``status``); empty where it has none of that name. Raises: as ``call``."""
    return next((each for each in call(transport, "status")["apps"] if each["app"] == name), {})


@contextmanager
def _hinting(command: str) -> Iterator[None]:
    """A device that does not answer, not to what is asked of its runtime either."""
    try:
        yield
    except TransportTimeout as error:
        error.hint = error.hint or f"it was asked for {command}: log in and look, or start it again"
        raise


@contextmanager
def scratch(transport: Transport, home: str, purpose: str) -> Iterator[str]:
    """A folder of this caller's own in a device's home, for as long as the block runs. Raises: TransportError."""
    place = f"{home}/{purpose}-{uuid.uuid4().hex}"
    transport.run(["mkdir", "-p", place], timeout_s=ANSWER_S).check()
    try:
        yield place
    finally:
        with suppress(TransportError):
            transport.run(["rm", "-rf", place], timeout_s=CLEAN_UP_S)


def probe(transport: Transport) -> dict[str, Any]:
    """The facts of ``edgekit_runtime.probe``; works before anything is set up. Raises: DeviceError, TransportError."""
    source = files("edgekit_runtime").joinpath("probe.py").read_bytes()
    with _hinting("probe"):
        done = transport.run(["sh", "-c", PYTHON, "edgekit", "-"], stdin=source, timeout_s=ANSWER_S)
    if done.status == NO_PYTHON:
        raise DeviceError("there is no python3 on this device", "install Python 3.8 or newer")
    return _answer(done.check(), ["probe"])


def _answer(done: Completed, command: Sequence[str]) -> dict[str, Any]:
    """The one JSON object that a command printed."""
    try:
        answer: dict[str, Any] = _printable(fields.load(done.stdout))
    except (ValueError, RecursionError) as error:
        said = f": {last}" if (last := last_line(done.stderr or done.stdout)) else ", and said nothing"
        raise CommandError(
            f"the device's {command[0]} ended with status {done.status}{said}",
            "should its runtime be damaged: 'edgekit device setup'",
        ) from error
    return answer


def last_line(output: bytes) -> str:
    """The last line that a device printed, fit to be part of a message."""
    return printable(output.decode(errors="replace").strip().rpartition("\n")[2])[:LONGEST]


def printable(text: str) -> str:
    """A device's text without what could steer the terminal that shows it, on one line."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def _printable(value: Any) -> Any:
    """JSON, all its texts printable."""
    match value:
        case str():
            return printable(value)
        case list():
            return [_printable(each) for each in value]
        case dict():
            return {printable(key): _printable(each) for key, each in value.items()}
    return value


def reported(document: object) -> EdgekitError:
    """The error that a device describes, as one of those that a device can have."""
    said = document if isinstance(document, dict) else {"message": document}
    kinds = {
        kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EdgekitError)
    }
    hint = said.get("hint")
    kind = kinds.get(str(said.get("code")), DeviceError)
    return kind(str(said.get("message"))[:LONGEST], str(hint)[:LONGEST] if hint else None)
