"""Launch: the process of a worker as it is started, and the terms on which it works."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Mapping

from edgekit_runtime.home import default_home

if TYPE_CHECKING:
    import socket

PYTHON = os.path.join(os.path.realpath(os.path.dirname(sys.executable)), os.path.basename(sys.executable))
"""Of the environment that the front runs in: a setup puts another one in its place, whose workers may differ."""


@dataclass(frozen=True)
class Terms:
    """``timeout_s``: after that long without a word, a worker that has been asked is taken to hang.

    ``cache_bytes``: of answers that each worker keeps, 0 for none. ``memory_bytes``: what all workers may take, 0 for
    what the machine has. ``nice``: of apps that are to come after others when there is not enough processor (nice(2)).
    ``token``: what requests must bear, "" for none.
    """

    home: Path = field(default_factory=default_home)
    timeout_s: float = 30.0
    cache_bytes: int = 0
    memory_bytes: int = 0
    nice: Mapping[str, int] = field(default_factory=dict)
    token: str = ""


def start(theirs: socket.socket, app: str, terms: Terms) -> subprocess.Popen[bytes]:
    """A worker for an app at the other end of a pair of sockets. The token does not stand where others can read it."""
    isolated = ["-I"] if sys.flags.isolated else []
    words = (theirs.fileno(), app, terms.timeout_s, terms.cache_bytes, terms.nice.get(app, 0))
    variables = {"EDGEKIT_HOME": str(terms.home), "OPENBLAS_NUM_THREADS": "1"}
    kept = {name: text for name, text in os.environ.items() if name != "NOTIFY_SOCKET"}
    return subprocess.Popen(
        [PYTHON, *isolated, "-m", "edgekit_server.worker", *map(str, words)],
        env={**kept, **variables},
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=2,
    )
