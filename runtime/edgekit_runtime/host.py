"""Host: who asks this device, at the other end of its standard input and output: JSON objects, a line each."""

from __future__ import annotations

import json
import select
import sys
from typing import TYPE_CHECKING, Any

from edgekit_runtime import fields
from edgekit_runtime.errors import DeviceError, EdgekitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST = 8 << 20
"""Bytes of an object."""


def whole() -> dict[str, Any]:
    """The one object that standard input holds. Raises: DeviceError."""
    return _object(sys.stdin.buffer.read(MOST + 1))


def line() -> dict[str, Any] | None:
    """The object that comes next; None when the host has said all. Raises: DeviceError."""
    data = sys.stdin.buffer.readline(MOST + 1)
    return _object(data) if data else None


def tell(document: Mapping[str, Any]) -> bool:
    """Answer; whether somebody was there to take it."""
    text = json.dumps({"schema_version": 1, **document}, allow_nan=False)
    try:
        with open(1, "w", closefd=False) as output:
            print(text, file=output)
    except BrokenPipeError:
        return False
    return True


def answer(action: Callable[[], Mapping[str, Any]]) -> int:
    """Tell what comes of an action; the exit status."""
    try:
        said, code = action(), 0
    except EdgekitError as error:
        said, code = {"error": error.as_dict()}, error.exit_code
    except (KeyError, TypeError, ValueError) as error:
        said, code = {"error": DeviceError(f"bad request: {error!r}").as_dict()}, 1
    except OSError as error:
        where = error.filename or "the disk of this device"
        said, code = {"error": DeviceError(f"{error.strerror or error}: {where}").as_dict()}, 1
    return code if tell(said) else 1


def listens() -> bool:
    """Whether somebody reads what is told; who has let go of a push gets no switch."""
    poll = select.poll()
    poll.register(1, 0)  # errors and hang-ups are told always
    return not poll.poll(0)


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > MOST:
        raise DeviceError(f"standard input holds more than {MOST >> 20} MiB")
    try:
        return fields.load(data)
    except ValueError as error:
        raise DeviceError(f"standard input is no JSON object: {error}") from error
