"""Ports for programs that want to be told theirs, before they are started."""

from __future__ import annotations

import atexit
import socket


def free_port() -> int:
    """One of the loopback that nobody else is given as long as this process runs, also while its program restarts.

    The socket that has it stays open and does not listen: so it is in the way of nobody but of who would be given it
    by chance. With SO_REUSEADDR, as servers set it, others may bind the port that is asked for by its number.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    atexit.register(kept.close)
    return int(kept.getsockname()[1])
