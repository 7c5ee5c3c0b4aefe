"""Asking: what is done for one device of a round, wherever it runs: from plain values to plain values.

The task is put there, the device learns, and what it has signed is fetched, on one connection. Nothing is raised for
what a device or the way to it does: that is an answer like others. Asked again, a device answers with what it has.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from edgekit import device as devices
from edgekit import transports
from edgekit.answer import reported
from edgekit.errors import ConfigError, ConnectError, EdgekitError, HostKeyError, RoundError
from edgekit.fanout import reached
from edgekit.federated.rounds import lines
from edgekit.federated.rounds.round import CAME, FAILED, OFFLINE
from edgekit.fleet import Device
from edgekit.transports import Transport
from edgekit_runtime.trust import public_key

LEAST_S = 1.0
PUT = (
    devices.HOME
    + """\
umask 077
mkdir -p "$home/rounds/$1/$2" && cd "$home/rounds/$1/$2" || exit 1
printf %s "$3" >task.sig && cat >.task.new && mv .task.new task.safetensors
"""
)
FETCH = devices.HOME + 'tail -c "+$3" "$home/rounds/$1/$2/update.safetensors" | head -c "$4"\n'
"""From where a device keeps it, whatever place it names; from a byte on, counted from 1, and so many."""
PIECE = 16 << 20
"""Bytes that are fetched at once: what a program says is held in memory until it has ended."""


@dataclass(frozen=True)
class Ask:
    """A device, and what it is asked: the bytes of a ``Task`` and the host's signature of their digest.

    ``most_bytes``: of the update's file. ``for_s``: how long all of it may take. ``crowd``: see ``lines``.
    """

    device: Device
    app: str
    key: str
    task: bytes
    signature: str
    most_bytes: int
    for_s: float
    accept_new_host_key: bool = False
    crowd: str = ""


@dataclass(frozen=True)
class Answer:
    """``came`` with an update as the device wrote it, who signed it (``KIND BLOB``) and how; else the error.

    ``offline``: no connection, or nobody let us in.
    """

    state: str
    update: bytes = b""
    signature: str = ""
    public: str = ""
    error: dict[str, str | None] | None = None


@dataclass(frozen=True)
class Live:
    """An app that a device serves, and the family of its release; or why it is not known."""

    app: str = ""
    family: str = ""
    error: dict[str, str | None] | None = None


def learn(ask: Ask) -> Answer:
    """Have the device learn, and fetch its update."""
    until, met = time.monotonic() + ask.for_s, False
    try:
        with (
            reached(ask.device, _options(ask.accept_new_host_key)) as transport,
            lines.held(ask.crowd, transport),
        ):
            met = True
            return _learned(ask, transport, until)
    except EdgekitError as error:
        away = isinstance(error, ConnectError) and not isinstance(error, HostKeyError) and not met
        return Answer(OFFLINE if away else FAILED, error=error.as_dict())


def forget(ask: Ask) -> Answer:
    """Have the device remove what a round left there."""
    try:
        with reached(ask.device, _options(ask.accept_new_host_key)) as transport:
            devices.train(transport, "forget", ask.app, ask.key)
            return Answer(CAME)
    except EdgekitError as error:
        return Answer(FAILED, error=error.as_dict())


def look(device: Device, app: str, *, accept_new_host_key: bool = False) -> Live:
    """What is live of an app on a device; of its only one where none is named."""
    try:
        with reached(device, _options(accept_new_host_key)) as transport:
            apps = devices.train(transport, "live").get("apps")
    except EdgekitError as error:
        return Live(error=error.as_dict())
    return _live(device.name, apps, app)


def key(device: Device, *, accept_new_host_key: bool = False) -> str:
    """The key that a device signs updates with, ``KIND BLOB``. Raises: DeviceError, TransportError, SignatureError."""
    with reached(device, _options(accept_new_host_key)) as transport:
        return public_key(str(devices.train(transport, "key").get("public")))


def _live(name: str, apps: object, app: str) -> Live:
    """Of what a device says of its apps."""
    said = [each for each in apps if isinstance(each, dict)] if isinstance(apps, list) else []
    found = [each for each in said if app in ("", each.get("app"))]
    if len(found) == 1 and isinstance(error := found[0].get("error"), dict):
        return Live(error=reported(error).as_dict())
    if len(found) == 1:
        return Live(str(found[0].get("app")), str(found[0].get("family")))
    if found:
        why = ConfigError(f"{name}: serves several apps", 'write app = "…" into edgekit.toml')
    else:
        why = ConfigError(f"{name}: serves no {app or 'app'}", "push to it first: edgekit push")
    return Live(error=why.as_dict())


def _learned(ask: Ask, transport: Transport, until: float) -> Answer:
    place = (ask.app, ask.key)
    put = ["sh", "-c", PUT, "edgekit", *place, ask.signature]
    transport.run(put, stdin=ask.task, timeout_s=_left(until)).check()
    said = devices.train(transport, "learn", *place, timeout_s=_left(until))
    size, signature, public = (said.get(name) for name in ("bytes", "signature", "public"))
    if not (isinstance(size, int) and isinstance(signature, str) and isinstance(public, str)):
        raise RoundError(f"{ask.device.name}: says nothing of an update")
    if not 0 < size <= ask.most_bytes:
        raise RoundError(f"{ask.device.name}: an update of {size} bytes, where at most {ask.most_bytes} can be")
    update = _fetched(transport, place, size, until)
    return Answer(CAME, update, signature, public)


def _fetched(transport: Transport, place: tuple[str, str], size: int, until: float) -> bytes:
    """As many bytes of the update as there are, and no more than ``size``."""
    found = bytearray()
    while len(found) < size:
        few = min(PIECE, size - len(found))
        fetch = ["sh", "-c", FETCH, "edgekit", *place, str(len(found) + 1), str(few)]
        piece = transport.run(fetch, timeout_s=_left(until)).check().stdout[:few]
        if not piece:
            break
        found += piece
    return bytes(found)


def _left(until: float) -> float:
    return max(LEAST_S, until - time.monotonic())


def _options(accept_new_host_key: bool) -> transports.Options:
    return transports.Options(accept_new_host_key=accept_new_host_key)
