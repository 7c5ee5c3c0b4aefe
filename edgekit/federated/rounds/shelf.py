"""Shelf: the files of a round on this host: what it began with, each update with its signature, and what came of it.

They lie in the user's data, a folder a round; each is written wholly or not at all, and before the store tells of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from edgekit.errors import RoundError
from edgekit.federated.rounds import states
from edgekit.federated.strategy import State
from edgekit_runtime import durable
from edgekit_runtime.home import held
from edgekit_train.device_key import digest_of
from edgekit_train.update import Weights

START, RESULT, HEAD = "start.safetensors", "result.safetensors", "head.safetensors"
UPDATES = "updates"


@dataclass(frozen=True)
class Shelf:
    """The files of the round of a key. Its methods raise RoundError for what cannot be kept or read."""

    key: str

    @property
    def folder(self) -> Path:
        return Path(platformdirs.user_data_dir("edgekit")) / "rounds" / self.key

    def keep_start(self, state: State, strategy: str) -> None:
        self._keep(START, states.dump(state, strategy))

    def start(self) -> State:
        return states.parse(self._read(START))[0]

    def keep_result(self, combine: Callable[[], State], strategy: str) -> State:
        """The first that is kept stays, whoever combines the round besides: noise is drawn once. What is kept."""
        with self._reporting(), held(self.folder):
            if not (self.folder / RESULT).exists():
                self._keep(RESULT, states.dump(combine(), strategy))
        return self.result()[0]

    def drop_result(self) -> None:
        """The round is to be combined anew, perhaps of other updates."""
        with self._reporting():
            (self.folder / RESULT).unlink(missing_ok=True)

    def result(self) -> tuple[State, str]:
        """And the strategy that it is of."""
        return states.parse(self._read(RESULT))

    def keep_head(self, weights: Weights) -> None:
        self._keep(HEAD, states.dump(State(weights), ""))

    def head(self) -> Weights:
        """What was merged into the model of which a build was made."""
        return states.parse(self._read(HEAD))[0].weights

    def keep(self, device: str, update: bytes, signature: str) -> None:
        self._keep(f"{UPDATES}/{device}.sig", signature.encode())
        self._keep(f"{UPDATES}/{device}.safetensors", update)

    def update(self, device: str, digest: str) -> bytes:
        """The update as it came."""
        data = self._read(f"{UPDATES}/{device}.safetensors")
        if digest_of(data) != digest:
            raise RoundError(
                f"{self.folder}: the update of {device} is not the one that came", "start another: edgekit round start"
            )
        return data

    @property
    def has_updates(self) -> bool:
        """Whether any came, and they are still there."""
        return (self.folder / UPDATES).is_dir()

    def drop_updates(self) -> None:
        """What the round began with and came to stays."""
        shutil.rmtree(self.folder / UPDATES, ignore_errors=True)

    def signature(self, device: str) -> str:
        return self._read(f"{UPDATES}/{device}.sig").decode(errors="replace")

    def _keep(self, name: str, data: bytes) -> None:
        path = self.folder / name
        with self._reporting():
            durable.folder(path.parent)
            durable.write(path, data)

    def _read(self, name: str) -> bytes:
        with self._reporting():
            return (self.folder / name).read_bytes()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = error.filename or self.folder
            raise RoundError(f"{place}: {error.strerror or error}", "look at XDG_DATA_HOME") from error
