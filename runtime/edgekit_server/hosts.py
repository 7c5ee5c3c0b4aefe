"""Hosts: by which names a server that asks for no token lets itself be called.

A page in a browser may have a name of its own point to this machine (DNS rebinding), and then read what is here as if
it were its own. The browser still says that name.
"""

from __future__ import annotations

import re
from functools import lru_cache

from edgekit_server.http import Refused

_OURS = re.compile(r"(localhost|[0-9.]+|\[[0-9a-f:.]+\])?(:[0-9]*)?", re.IGNORECASE)
"""An address as it is, with or without a port. No name is all digits (RFC 3696), so these need not be an address."""


@lru_cache(maxsize=16)
def check(host: str) -> None:
    """Of the header ``host``, "" where there is none. Raises: Refused for a name that somebody else may have given."""
    if not _OURS.fullmatch(host):
        raise Refused(421, f"{host[:80]!r} is no name of this server: say localhost or an address, or give it a token")
