"""Round files: what a device has of the rounds of an app, below ``HOME/rounds/APP``.

ROUND/task.safetensors, task.sig        what the host asks for
ROUND/update.safetensors, update.sig    what goes to the host
residual-TRAINER.safetensors            what the updates so far have left out; in ROUND until its update is there

An update and its residual count both or neither: the residual is written first, and taken over when the update is.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit_runtime import durable
from edgekit_runtime.errors import BundleError
from edgekit_runtime.home import app_folder
from edgekit_train import names, residuals
from edgekit_train.trainer import TrainingFailed

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_train.task import Task
    from edgekit_train.update import Weights

KEPT = 3
"""Rounds of an app: what a host has fetched it does not fetch again."""
MOST = 256 << 20


@dataclass(frozen=True)
class RoundFiles:
    """Raises: BundleError for an app, ValueError for a round that has no such name."""

    home: Path
    app: str
    round: str

    def __post_init__(self) -> None:
        app_folder(self.home, self.app)
        names.round_id(self.round)

    @property
    def root(self) -> Path:
        """Of all apps."""
        return self.home / "rounds"

    @property
    def folder(self) -> Path:
        return self.root / self.app / self.round

    @property
    def update(self) -> Path:
        return self.folder / "update.safetensors"

    def task(self) -> tuple[bytes, str]:
        """What the host has put here, and its signature. Raises: TrainingFailed where it has not, OSError."""
        try:
            data = durable.read(self.folder / "task.safetensors", MOST + 1)
            return data, durable.read(self.folder / "task.sig", MOST).decode(errors="replace")
        except FileNotFoundError as error:
            raise TrainingFailed(f"{self.app}: no task of round {self.round[:8]} is here", "send it again") from error

    def residual(self, task: Task) -> Weights:
        """What earlier updates have left out for one of this task; {} for none, or a damaged one. Raises: OSError."""
        try:
            return residuals.parse(durable.read(self.root / self.app / residuals.file_name(task.trainer), MOST), task)
        except (FileNotFoundError, BundleError, ValueError):
            return {}

    def learned(self, task: Task, update: bytes, left: Weights | None) -> None:
        """Keep an update, and what it has left out where that is told. Raises: OSError, DigestMismatch."""
        if left is not None:
            durable.write(self.folder / residuals.file_name(task.trainer), residuals.dump(left, task))
        durable.write(self.update, update)
        self.settle()

    def settle(self) -> None:
        """Let the residual of an update count that a cut has kept from it; drop one without. Raises: OSError."""
        for left in (self.root / self.app).glob(f"*/{residuals.file_name('*')}"):
            if not (left.parent / self.update.name).exists():
                durable.remove(left)
                continue
            os.replace(left, self.root / self.app / left.name)
            durable.sync(self.root / self.app)
            durable.sync(left.parent)

    def forget_older(self) -> None:
        """Remove all rounds of the app but the newest, and this one."""
        others = [path for path in (self.root / self.app).iterdir() if path.is_dir() and path != self.folder]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[KEPT - 1 :]:
            shutil.rmtree(path, ignore_errors=True)

    def forget(self) -> bool:
        """Remove the round; whether there was anything of it. Raises: OSError."""
        there = self.folder.exists()
        if there:
            shutil.rmtree(self.folder)
            durable.sync(self.folder.parent)
        return there
