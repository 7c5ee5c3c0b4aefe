"""Desk: what the commands of ``edgekit round`` have open: the store, an executor, and the project's float model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit import fanout, fleet, signing
from edgekit import project as projects
from edgekit.cli import round_privacy
from edgekit.data.dataset import open_source
from edgekit.federated.rounds import evaluating
from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.crowd import MOST
from edgekit.federated.rounds.evaluating import Evaluation, Judge
from edgekit.federated.rounds.gate_store import Gates
from edgekit.federated.rounds.generations import Generations
from edgekit.federated.rounds.key_book import KeyBook
from edgekit.federated.rounds.ledger_book import LedgerBook
from edgekit.federated.rounds.round import Plan, Subject
from edgekit.federated.rounds.ways import Ways
from edgekit.fleet import Device
from edgekit.model import Model, open_model
from edgekit.store import Store
from edgekit_train.update import Weights

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from edgekit.cli.round_told import Teller
    from edgekit.project import Project


@dataclass(frozen=True)
class Desk:
    """``crowd``: the pool where devices learn. ``folder``: for files that are needed for as long as it is open."""

    project: Project
    generations: Generations
    keys: KeyBook
    ledgers: LedgerBook
    pool: Executor
    crowd: Executor
    folder: Path
    teller: Teller

    @property
    def place(self) -> str:
        """By which the store knows the project."""
        return self.generations.project

    @property
    def book(self) -> Book:
        return self.generations.book

    @property
    def fleet(self) -> dict[str, Device]:
        return {device.name: device for device in fleet.load(Path.cwd())}

    def model(self, family: str) -> Model | None:
        """The float model that releases were built from; None where edgekit.toml names none."""
        if self.project.model is None:
            return None
        weights = Path(self.project.weights) if self.project.weights else None
        source = open_model(Path(self.project.model), weights)
        return self.generations.model_of(family, source, Path(tempfile.mkdtemp(dir=self.folder)))

    def moments(self, model: Model) -> Weights:
        """Of the features that a float model has on the calibration data. Raises: ConfigError, what a build raises."""
        from edgekit.cli.job import project_job
        from edgekit.federated.gate import Gate

        job = project_job()
        return Gate(job.targets[0], job.order).moments_of(model)

    def hiding(self, plan: Plan, subject: Subject, names: Sequence[str]) -> Plan:
        """With its clip and its noise, as the rounds before have left them. Raises: PrivacySpent, RoundError."""
        if plan.adaptive:
            plan = replace(plan, clip=self.book.last_clip(subject) or plan.clip)
        plan = self.ledgers.settle(plan, subject, names)
        if plan.privacy:
            self.teller.line(round_privacy.told(plan, self.ledgers.ledger(subject, plan.privacy)))
        return plan

    def ways(self, model: Model | None, trainer: str) -> Ways:
        """Raises: ConfigError, EdgekitError, DataError."""
        key = Path(self.project.signing_key).expanduser() if self.project.signing_key else None
        sign, judge, teller = signing.signer(key).sign, self._judge(model, trainer), self.teller
        heard = (teller.part, teller.ended, teller.line)
        return Ways(self.crowd, self.book, self.keys, self.ledgers, self.fleet, sign, judge, *heard)

    def _judge(self, model: Model | None, trainer: str) -> Judge:
        data = self.project.data.evaluation
        if model is None or data is None:
            return evaluating.nobody
        source = open_source(data, "evaluation", Path.cwd())
        evaluation = Evaluation(model, self.project, source, trainer, cache(self.moments))
        return evaluating.judge(evaluation, self.teller.line)


@contextmanager
def book() -> Iterator[Book]:
    """The store's rounds. Raises: ConfigError, EdgekitError."""
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        yield Book(store)


@contextmanager
def generations() -> Iterator[Generations]:
    """What the store knows of this project's rounds. Raises: ConfigError, EdgekitError."""
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        yield Generations(Book(store), Gates(store), str(Path.cwd()))


@contextmanager
def keys() -> Iterator[KeyBook]:
    """The keys of this project's devices. Raises: ConfigError, EdgekitError."""
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        yield KeyBook(store, str(Path.cwd()))


@contextmanager
def ledgers() -> Iterator[LedgerBook]:
    """What rounds have spent of their budgets. Raises: ConfigError, EdgekitError."""
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        yield LedgerBook(store)


@contextmanager
def desk(teller: Teller, executor: str | None = None) -> Iterator[Desk]:
    """Open for as long as the block runs. Raises: ConfigError, EdgekitError, ConnectError."""
    place, project = str(Path.cwd()), projects.load(Path.cwd())
    with (
        Store(os.environ.get("EDGEKIT_STORE")) as store,
        fanout.executor(executor) as pool,
        nullcontext(pool) if executor else fanout.executor(width=MOST) as crowd,
        tempfile.TemporaryDirectory(prefix="edgekit-round-") as folder,
    ):
        generations = Generations(Book(store), Gates(store), place)
        yield Desk(project, generations, KeyBook(store, place), LedgerBook(store), pool, crowd, Path(folder), teller)
