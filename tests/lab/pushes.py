"""Pushes that something befalls: a device that serves, the next bundles for it, and a push that runs meanwhile."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from random import Random

import onnx

from edgekit import device as devices
from edgekit import fleet, transports
from edgekit import push as pushing
from edgekit.errors import EdgekitError
from edgekit.simulate import Simulated
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.states import SERVED
from tests.lab.bundles import contents, make_bundle
from tests.lab.project import EDGEKIT

SERVE = "import edgekit_runtime as e, numpy as n; e.load('digits').predict(n.zeros((1, 1, 8, 8), 'f4'))"


@dataclass
class Lab:
    """A device with a live release, and bundles to replace it."""

    project: Path
    pi: Simulated
    numbers: Iterator[int] = field(default_factory=lambda: count(3))

    def bundle(self, padding: int = 0) -> Bundle:
        number = next(self.numbers)
        model = onnx.load_from_string(contents().model)
        noise = Random(number).randbytes(padding // 2).hex()  # each has a model of its own to send
        model.doc_string = f"{number}{noise}"
        given = replace(contents(), model=model.SerializeToString())
        return make_bundle(self.project / f"made/{number}", given, sequence=number)

    def live(self) -> str:
        """The release that is live, all its bytes checked by the device."""
        with transports.connect(self.pi.uri) as link:
            [app] = devices.call(link, "status")["apps"]
        assert app["current"]["state"]["name"] in SERVED
        return str(app["current"]["digest"])

    def serves(self) -> bool:
        with transports.connect(self.pi.uri) as link:
            return link.run([f"{self.pi.home}/env/bin/python", "-c", SERVE]).status == 0

    def push(self, bundle: Bundle) -> list[str]:
        """A push that has to succeed, whatever was before it; what it told."""
        device, told = fleet.find(self.project, "pi"), list[str]()
        with transports.connect(self.pi.uri) as link:
            pushing.push(pushing.open_parcel(bundle.root), device, link, told.append)
            left = link.run(["ls", "-A", f"{self.pi.home}/incoming"]).stdout.decode()
        assert left == "", f"left in incoming: {left}"
        return told

    def start(self, bundle: Bundle) -> subprocess.Popen[str]:
        """A push by the command, in a process of its own."""
        command = [*EDGEKIT, "push", str(bundle.root), "--to", "pi"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@dataclass
class Attempt:
    """A push by this process that may fail, while the block runs; afterwards ``error`` is why."""

    lab: Lab
    bundle: Bundle
    error: EdgekitError | None = None
    seconds: float = 0.0

    def __enter__(self) -> Attempt:
        self._thread = threading.Thread(target=self._run)
        self._done = False
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(120)
        assert self._done, "the push hangs, or died of something that is no EdgekitError"

    def _run(self) -> None:
        started = time.monotonic()
        try:
            self.lab.push(self.bundle)
        except EdgekitError as error:
            self.error = error
        self.seconds = time.monotonic() - started
        self._done = True


def hold(lab: Lab, before: str, attempt: Attempt) -> str:
    """What must hold after a push that something befell: "old" or "new", the release that is live, whole.

    A push that said that it succeeded has; and the next one succeeds, without anybody's help.
    """
    live = lab.live()
    assert live in (before, attempt.bundle.digest)
    assert attempt.error is not None or live == attempt.bundle.digest
    assert lab.serves()
    lab.push(attempt.bundle)
    assert lab.live() == attempt.bundle.digest
    return "old" if live == before else "new"
