"""A server's inside without HTTP: residents and their loop, turned by the test; and an engine of moods."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_server.http import Response
from edgekit_server.launch import Terms
from edgekit_server.loop import Loop
from edgekit_server.residents import Residents
from edgekit_server.wire import OIP
from edgekit_server.workers import Inquiry, Worker
from tests.lab import distribution
from tests.runtime.bundles import APP

HELD, CRASH, HANG, RAISE, SLOW = 555.0, 666.0, 777.0, 888.0, 999.0
GO = "go"
"""A file beside the engine, for which those wait that are held."""
MOODY = f'''
import os, sys, time
import numpy as np

if "MOODY_PATIENCE_S" in os.environ and "edgekit_server.guests" in sys.modules:  # with clients, on a busy machine
    from functools import partial
    from edgekit_server import guests
    guests.Limits = partial(guests.Limits, patience_s=float(os.environ["MOODY_PATIENCE_S"]))

def load(model, options):
    """y = the number of threads · x, unless the first number of a row is a bad omen."""
    if options.providers == ("dead",):
        os.kill(os.getpid(), 11)
    return Moody(options)

class Moody:
    name, version, provider = "moody", "1", "cpu"

    def __init__(self, options):
        self.options = options

    def run(self, feeds):
        x = feeds["x"]
        omens = set(x[:, 0].tolist())
        if {CRASH} in omens:
            os.kill(os.getpid(), 11)
        if {HANG} in omens:
            time.sleep(600)
        if {RAISE} in omens:
            raise RuntimeError("a mistake in an engine")
        while {HELD} in omens and not os.path.exists(os.path.join(os.path.dirname(__file__), "{GO}")):
            time.sleep(0.005)
        if {SLOW} in omens:
            time.sleep(0.1)
        return {{"y": x[:, :3] * self.options.threads}}

    def close(self):
        pass
'''


def install_moody(place: Path) -> Path:
    """A folder for PYTHONPATH, in which the engine is a distribution."""
    return distribution.engine(place, "moody", MOODY)


@dataclass(frozen=True)
class Got:
    """An answer as it arrived."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body[: int(self.headers.get(LENGTH, len(self.body)))])
        return found

    @property
    def y(self) -> NDArray[np.float32]:
        """The binary output."""
        (told,) = self.document["outputs"]
        return np.frombuffer(self.body[int(self.headers[LENGTH]) :], np.float32).reshape(told["shape"])

    @property
    def error(self) -> str:
        assert self.document.keys() == {"error"}
        return str(self.document["error"])


LENGTH = "Inference-Header-Content-Length"


def binary(x: NDArray[np.float32], **parameters: Any) -> tuple[bytes, int]:
    """A body with the input as a binary tensor, which wants the output so."""
    given = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True, **parameters}}).encode()
    return head + x.tobytes(), len(head)


def row(first: float, n: int = 1) -> NDArray[np.float32]:
    return np.array([[first, 1, 2, 3]] * n, np.float32)


@contextmanager
def stopped(worker: Worker) -> Iterator[None]:
    """It hears nothing meanwhile; what it was asked it finds all at once afterwards."""
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGCONT)


@dataclass
class House:
    home: Path
    terms: Terms
    apps: tuple[str, ...] = ()
    loop: Loop = field(default_factory=Loop)

    def __post_init__(self) -> None:
        self.residents = Residents(self.loop, self.terms, self.apps)

    def until(self, happened: Callable[[], object], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, "it did not happen"
            self.loop.later(0.02, self.residents.look)
            self.loop.turn()

    def ready(self, app: str = APP) -> Worker:
        self.until(lambda: self.residents.find(app).serving)
        serving = self.residents.find(app).serving
        assert serving
        return serving

    def ask(self, x: NDArray[np.float32], app: str = APP, *, version: str = "", **parameters: Any) -> list[Got]:
        """Where the answer is going to be."""
        return self.put(*binary(x, **parameters), app, version)

    def put(
        self, body: bytes, header_length: int | None, app: str = APP, version: str = "", dialect: int = OIP
    ) -> list[Got]:
        got: list[Got] = []

        def reply(response: Response) -> None:
            got.append(Got(response.status, dict(response.headers), b"".join(map(bytes, response.body))))

        self.residents.ask(app, Inquiry(body, dialect, header_length, reply, version))
        return got

    def answer(self, x: NDArray[np.float32], app: str = APP, **parameters: Any) -> Got:
        return self.first(self.ask(x, app, **parameters))

    def first(self, got: list[Got]) -> Got:
        self.until(lambda: got)
        return got[0]

    def close(self) -> None:
        gone: list[bool] = []
        self.residents.stop(lambda: gone.append(True))
        self.until(lambda: gone)
