"""Logbook: what a release on trial has gone through, in ``trial.json`` in its folder.

A start is written down before it begins, so that one which takes the process or the board with it is known afterwards:
its process is gone and its entry is not.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from edgekit_runtime import durable, fields, probe, processes
from edgekit_runtime.errors import InvalidInput
from edgekit_runtime.histogram import percentile, summed
from edgekit_runtime.home import held
from edgekit_runtime.trial import Facts

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Callable

    from edgekit_runtime.windows import Window

FILE = "trial.json"


@dataclass(frozen=True)
class Logbook:
    """``starts``: how many sessions each process has open that have not shown yet that they are well.

    ``buckets`` and ``errors`` are those of all windows so far (``windows.Window``), ``seconds`` those of service.
    """

    failed_starts: int = 0
    starts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    buckets: dict[int, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)

    def started(self, process: str) -> Logbook:
        return replace(self, starts={**self.starts, process: self.starts.get(process, 0) + 1})

    def ended(self, process: str) -> Logbook:
        """A session has been closed as it should."""
        left = self.starts.get(process, 0) - 1
        return replace(self, starts={**self.starts, process: left}) if left > 0 else self.well(process)

    def well(self, process: str) -> Logbook:
        """A process has served long enough: however it ends, that is no failed start."""
        return replace(self, starts={name: n for name, n in self.starts.items() if name != process})

    def failed(self, process: str) -> Logbook:
        return replace(self.ended(process), failed_starts=self.failed_starts + 1)

    def gone(self) -> list[str]:
        """The processes that have ended without a word."""
        return [name for name in self.starts if not processes.runs(name)]

    def counted(self, gone: list[str]) -> Logbook:
        """With those as failed starts."""
        left = {name: n for name, n in self.starts.items() if name not in gone}
        return replace(self, starts=left, failed_starts=self.failed_starts + len(gone))

    def served(self, window: Window, seconds: float) -> Logbook:
        """With what one session did meanwhile."""
        buckets, errors = summed([self.buckets, window.buckets]), summed([self.errors, window.errors])
        return replace(self, seconds=self.seconds + seconds, buckets=buckets, errors=errors)

    def facts(self, has_previous: bool) -> Facts:
        """An input that does not fit is its sender's error; where none fitted, the release takes other inputs."""
        p95 = math.nan if probe.emulated() else percentile(self.buckets, 0.95) / 1e6
        calls = sum(self.buckets.values())
        errors = sum(n for code, n in self.errors.items() if code != InvalidInput.code or not calls)
        return Facts(self.failed_starts, calls, errors, p95, self.seconds, has_previous)


def dump(book: Logbook) -> bytes:
    return json.dumps(asdict(book), separators=(",", ":"), allow_nan=False).encode()


def parse(data: bytes) -> Logbook:
    """Raises: ValueError. ``parse(dump(book)) == book``."""
    document = fields.load(data)
    try:
        counts = {key: _counts(document[key]) for key in ("starts", "errors")}
        buckets = {int(index): n for index, n in _counts(document["buckets"]).items()}
        numbers = {
            "failed_starts": fields.count(document["failed_starts"]),
            "seconds": fields.number(document["seconds"]),
        }
        return Logbook(**{**document, **counts, **numbers, "buckets": buckets})
    except (KeyError, TypeError) as error:
        raise ValueError(f"no logbook: {error}") from error


def _counts(value: object) -> dict[str, int]:
    return {key: fields.count(n) for key, n in fields.table(value).items()}


def read(folder: Path) -> Logbook:
    """The logbook of the release in a folder; empty where there is none, or none that can be read."""
    try:
        return parse((folder / FILE).read_bytes())
    except (OSError, ValueError):
        return Logbook()


def change(folder: Path, step: Callable[[Logbook], Logbook]) -> Logbook:
    """The logbook after a step, written down if it is another one. Raises: OSError, BundleError."""
    with held(folder):
        before = read(folder)
        after = step(before)
        if after != before:
            durable.write(folder / FILE, dump(after))
    return after


def clear(folder: Path) -> None:
    """Begin anew. Raises: OSError."""
    if (folder / FILE).exists():
        durable.remove(folder / FILE)
