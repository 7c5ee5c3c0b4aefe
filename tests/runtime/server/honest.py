"""An honest client in a process of its own: how long it waits for its answers, by the clock of the whole machine.

    python -m tests.runtime.server.honest PORT

It asks on one connection until its standard input ends, then says when it asked and how long it waited.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

from tests.runtime.server.fronts import answer
from tests.runtime.server.lies import TRUE

ROOT = Path(__file__).parents[3]
PAUSE_S = 0.002


@dataclass
class Waits:
    """``spent``: seconds, by the moment of the question; there once the client has ended."""

    spent: list[tuple[float, float]] = field(default_factory=list)

    @property
    def longest_s(self) -> float:
        return max(took for _, took in self.spent)

    def ms(self, part: int, spans: list[tuple[float, float]]) -> float:
        """The percentile of this number, in milliseconds, of the questions within these spans of time."""
        within = [took for at, took in self.spent if any(start <= at < end for start, end in spans)]
        return 1e3 * quantiles(within, n=100)[part - 1]


@contextmanager
def asking(port: int) -> Iterator[Waits]:
    """Somebody who asks all the time. Fails where one answer was not what it should be."""
    command, waits = [sys.executable, "-m", __spec__.name, str(port)], Waits()
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield waits
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    waits.spent = json.loads(said)


def main() -> None:
    ended, spent = threading.Event(), []
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set())).start()
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60) as client:
        while not ended.wait(PAUSE_S):
            began = time.monotonic()
            client.sendall(TRUE)
            assert answer(client)[0] == 200
            spent.append((began, time.monotonic() - began))
    print(json.dumps(spent))


if __name__ == "__main__":
    main()
