"""Device: what the host says to one machine over an open transport, and what it hears back.

The device does its own work (verify, install, prove, switch): here its runtime's commands are called and its answers
read. Nothing here knows how the transport works.
"""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.resources import files
from itertools import chain
from typing import TYPE_CHECKING, Any

from edgekit.answer import Answer, last_line, parsed
from edgekit.errors import CommandError, DeviceError, EdgekitError, TransportError, TransportTimeout
from edgekit.transports import Completed, Transport

if TYPE_CHECKING:
    from edgekit.transports.talk import Talk

NOT_SET_UP = 97
NO_PYTHON = 98
UNKNOWN_WORD = 2
KILLED = 128 + signal.SIGKILL
ANSWER_S, WORK_S, CLEAN_UP_S = 60.0, 300.0, 15.0
"""How long a device may take over a question, over work, and over what can be left undone. The first is enough for the
digests of a gigabyte on a slow card; a device that hangs is given up after it, for a push begins with a question."""
QUESTIONS = ("status", "why", "report", "signers")

HOME = """\
home=${EDGEKIT_HOME:-}
if [ -z "$home" ]; then
  if [ "$(id -u)" = 0 ]; then home=/var/lib/edgekit; else home=$HOME/.local/share/edgekit; fi
fi
export EDGEKIT_HOME="$home"
"""
RUNTIME = (
    HOME
    + f"""\
[ -x "$home/env/bin/python" ] || exit {NOT_SET_UP}
exec "$home/env/bin/python" -I -m edgekit_runtime "$@"
"""
)
TRAIN = RUNTIME.replace("edgekit_runtime", "edgekit_train")
PYTHON = (
    HOME
    + f"""\
for python in "$home/env/bin/python" python3; do
  command -v "$python" >/dev/null 2>&1 && exec "$python" -I "$@"
done
exit {NO_PYTHON}
"""
)


def call(
    transport: Transport, *command: str, stdin: Mapping[str, Any] | None = None, timeout_s: float | None = None
) -> Answer:
    """The answer of a runtime command; its input is a line of JSON.

    ``timeout_s``: how long it may take, as ``Transport.run`` has it; else what is usual for such a command.

    Raises: the error that the device reports, DeviceError, TransportError.
    """
    data = json.dumps(stdin).encode() + b"\n" if stdin is not None else b""
    usual_s = ANSWER_S if command[0] in QUESTIONS else WORK_S
    with _hinting(command[0]):
        done = transport.run(["sh", "-c", RUNTIME, "edgekit", *command], stdin=data, timeout_s=timeout_s or usual_s)
    return _answer(done.stdout, command, lambda: done)


def train(transport: Transport, *command: str, timeout_s: float = ANSWER_S) -> Answer:
    """The answer of a command of ``edgekit_train``. Raises: as ``call``."""
    with _hinting(command[0]):
        done = transport.run(["sh", "-c", TRAIN, "edgekit", *command], timeout_s=timeout_s)
    return _answer(done.stdout, command, lambda: done)


class Conversation:
    """A runtime command that answers more than once."""

    def __init__(self, talk: Talk, command: Sequence[str]) -> None:
        self._talk, self._command = talk, command

    def hear(self, timeout_s: float | None = None) -> Answer:
        """What it says next, within so long. Raises: as ``call``; what it has said before is no reason of its end."""
        with _hinting(self._command[0]):
            line = self._talk.hear(timeout_s or ANSWER_S)
        return _answer(line, self._command, lambda: replace(self._talk.end(), stdout=line))

    def ask(self, document: Mapping[str, Any], body: Iterable[bytes] = (), timeout_s: float = WORK_S) -> Answer:
        """What it says to a line of JSON, which ``body`` may follow.

        Raises: as ``call``; CommandError when it has not heard the line: its input had ended, so it took its leave.
        """
        self._talk.say(chain([json.dumps(document).encode() + b"\n"], body))
        answer = self.hear(timeout_s)
        if answer.keys() <= {"schema_version"}:
            raise CommandError(f"the device's {self._command[0]} was cut off from this host", "try again")
        return answer


@contextmanager
def conversing(transport: Transport, *command: str, script: str = RUNTIME) -> Iterator[Conversation]:
    """A command of the runtime, or of ``script``, for as long as the block runs: at its end it has heard enough."""
    with transport.talk(["sh", "-c", script, "edgekit", *command]) as talk:
        yield Conversation(talk, command)


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


def probe(transport: Transport) -> Answer:
    """The facts of ``edgekit_runtime.probe``; works before anything is set up. Raises: DeviceError, TransportError."""
    source = files("edgekit_runtime").joinpath("probe.py").read_bytes()
    with _hinting("probe"):
        done = transport.run(["sh", "-c", PYTHON, "edgekit", "-"], stdin=source, timeout_s=ANSWER_S)
    if done.status == NO_PYTHON:
        raise DeviceError("there is no python3 on this device", "install Python 3.8 or newer")
    return _answer(done.check().stdout, ["probe"], lambda: done)


def _answer(said: bytes, command: Sequence[str], end: Callable[[], Completed]) -> Answer:
    """The JSON object that a command printed. Raises: as ``call``."""
    try:
        return parsed(said)
    except ValueError as error:
        raise _silence(end(), command) from error


def _silence(done: Completed, command: Sequence[str]) -> EdgekitError:
    """Why a command that has ended gave no answer."""
    if done.status == NOT_SET_UP:
        return DeviceError("edgekit is not set up on this device", "run 'edgekit device setup' for it")
    if done.status == KILLED:
        hint = "it may have had too little memory: look at its log, journalctl -k"
        return CommandError(f"the device's {command[0]} was killed there", hint)
    said = last_line(done.stderr or done.stdout)
    if said.endswith("No module named edgekit_train"):
        return DeviceError("this device has no edgekit_train", "run 'edgekit device setup' for it, with --train")
    if done.status == UNKNOWN_WORD and "invalid choice" in said:
        return DeviceError("the runtime on this device is of an older edgekit", "run 'edgekit device setup' for it")
    return CommandError(
        f"the device's {command[0]} ended with status {done.status}{f': {said}' if said else ', and said nothing'}",
        "should its runtime be damaged: 'edgekit device setup'",
    )
