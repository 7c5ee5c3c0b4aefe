"""A host that pushes, by what it says to the command on the device."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit_runtime.bundle import Bundle, blob_path, open_layout
from edgekit_runtime.home import default_home
from tests.runtime.bundles import APP, blobs

PUSH = [sys.executable, "-m", "edgekit_runtime", "push", APP]


@dataclass
class Host:
    """``met``: what the device has told of itself; ``place``: where what it lacks is to come."""

    process: subprocess.Popen[str]
    met: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.met = self.hear()

    @property
    def place(self) -> Path:
        [place] = (default_home() / "incoming").glob(f"*-{self.process.pid}-*")
        return place

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def ask(self, **document: Any) -> dict[str, Any]:
        assert self.process.stdin
        print(json.dumps(document), file=self.process.stdin, flush=True)
        return self.hear()

    def offers(self, parcel: Bundle) -> dict[str, Any]:
        return self.ask(blobs=[blob.as_dict() for blob in blobs(parcel)])

    def sends(self, parcel: Bundle, *names: int) -> None:
        """As files, beside all that a push does."""
        for blob in [blobs(parcel)[n] for n in names]:
            shutil.copyfile(blob_path(parcel.root, blob.digest), self.place / blob.digest[7:])

    def orders(self, parcel: Bundle, **more: Any) -> dict[str, Any]:
        return self.ask(digest=parcel.digest, signature=open_layout(parcel.root)[1], **more)

    def dies(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def host() -> Iterator[Host]:
    with subprocess.Popen(PUSH, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Host(process)
        process.kill()
