"""Lines: the open ways of this process to devices at work, which are cut when nobody waits for them any longer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edgekit.errors import TransportError
from edgekit.transports import Transport

_TURN = threading.Lock()
_OPEN: dict[int, tuple[str, Transport]] = {}
_CUT: set[str] = set()


@contextmanager
def held(crowd: str, transport: Transport) -> Iterator[None]:
    """While a way is used for a crowd. Raises: TransportError where it is cut already, or is cut meanwhile."""
    with _TURN:
        if crowd in _CUT:
            raise TransportError("nobody waits any longer")
        _OPEN[id(transport)] = (crowd, transport)
    try:
        yield
    finally:
        with _TURN:
            _OPEN.pop(id(transport))


def cut(crowd: str) -> None:
    """End what is under way for a crowd, and what is about to be."""
    with _TURN:
        _CUT.add(crowd)
        ways = [transport for of, transport in _OPEN.values() if of == crowd]
    for each in ways:
        each.close()
