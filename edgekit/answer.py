"""Answer: what a device has said, made fit for use: nothing in it steers a terminal, and it has what is asked of it."""

from __future__ import annotations

from typing import Any

from edgekit.errors import DeviceError, EdgekitError
from edgekit_runtime import errors, fields

LONGEST = 1000
"""Characters of a message."""
OTHER = "is its runtime of another edgekit? 'edgekit device setup'"


class Answer(dict[str, Any]):
    """A JSON object of a device. Raises: DeviceError for a key that it lacks."""

    def __missing__(self, key: str) -> Any:
        raise DeviceError(f"this device answers without {key!r}", OTHER)


def parsed(said: bytes) -> Answer:
    """The object that a device printed. Raises: ValueError; the error that it reports."""
    try:
        answer: Answer = _printable(fields.load(said))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if "error" in answer:
        raise reported(answer["error"])
    return answer


def reported(document: object) -> EdgekitError:
    """The error that a device describes, as one of those that a device can have."""
    said = document if isinstance(document, dict) else {"message": document}
    kinds = {
        kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EdgekitError)
    }
    message, hint = said.get("message"), said.get("hint")
    if not message:
        message, hint = "this device tells of an error, and not of which", hint or OTHER
    kind = kinds.get(str(said.get("code")), DeviceError)
    return kind(str(message)[:LONGEST], str(hint)[:LONGEST] if hint else None)


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
            return Answer((printable(key), _printable(each)) for key, each in value.items())
    return value
