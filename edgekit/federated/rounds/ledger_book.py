"""The store's book of ledgers: what each app of a project has spent of its devices' privacy, round by round.

Central and local noise promise different things, and are counted apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import JSON, Column, ColumnElement, String, Table, Text, and_, select, update

from edgekit.federated.privacy.ledger import Budget, Ledger, Step
from edgekit.federated.rounds import private
from edgekit.federated.rounds.measures import Privacy
from edgekit.federated.rounds.round import Plan, Round, Subject
from edgekit.store import METADATA, Store
from edgekit.store.engine import insert_new

LEDGERS = Table(
    "privacy_ledgers",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("app", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("spent", JSON, nullable=False),
)
UNKEPT, UNREAD = "what the round spends of the privacy budget cannot be kept", "the privacy ledger cannot be read"


class LedgerBook:
    """Every method raises EdgekitError when the store refuses it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def ledger(self, subject: Subject, privacy: Privacy) -> Ledger:
        """What was spent so far, whatever the budget was then, with the budget that it is held to now."""
        return _ledger(self._spent(subject, privacy), privacy)

    def settle(self, plan: Plan, subject: Subject, names: Sequence[str]) -> Plan:
        """With the noise that its rounds need. Raises: PrivacySpent where the budget allows none, RoundError."""
        if plan.privacy is None:
            return plan
        ledger = self.ledger(subject, plan.privacy)
        found = private.settled(plan, names, ledger)
        ledger.entered(private.step(found))
        return found

    def allow(self, round_: Round) -> None:
        """That the budget allows it, before devices are asked; what they spend by answering is entered already.

        Raises: PrivacySpent.
        """
        privacy = round_.plan.privacy
        if privacy and not privacy.central:
            self.enter(round_)
        else:
            self.check(round_)

    def check(self, round_: Round) -> None:
        """That the budget allows it; nothing is entered. Raises: PrivacySpent."""
        privacy = round_.plan.privacy
        if privacy and round_.key not in self._spent(round_.subject, privacy):
            self.ledger(round_.subject, privacy).entered(private.step(round_.plan))

    def enter(self, round_: Round) -> None:
        """Once, however often it is said. Raises: PrivacySpent where the budget does not allow the round."""
        privacy, subject = round_.plan.privacy, round_.subject
        if privacy is None:
            return
        with self._store.transaction(UNKEPT) as connection:
            names = {"project": subject.project, "app": subject.app, "kind": privacy.kind}
            insert_new(connection, LEDGERS, [{**names, "spent": {}}])  # it also holds others off, in SQLite
            query = select(LEDGERS.c.spent).where(_own(subject, privacy)).with_for_update()
            rows: dict[str, Any] = connection.execute(query).scalar_one()
            if round_.key not in rows:
                step = private.step(round_.plan)
                _ledger(rows, privacy).entered(step)
                news = {**rows, round_.key: [step.rate, step.noise]}
                connection.execute(update(LEDGERS).where(_own(subject, privacy)).values(spent=news))

    def _spent(self, subject: Subject, privacy: Privacy) -> dict[str, Any]:
        with self._store.transaction(UNREAD) as connection:
            rows = connection.execute(select(LEDGERS.c.spent).where(_own(subject, privacy))).scalar()
        return rows or {}


def _own(subject: Subject, privacy: Privacy) -> ColumnElement[bool]:
    names = {"project": subject.project, "app": subject.app, "kind": privacy.kind}
    return and_(*(LEDGERS.c[name] == value for name, value in names.items()))


def _ledger(rows: dict[str, Any], privacy: Privacy) -> Ledger:
    """``rows``: rate and noise by the key of the round; those that were entered last come last."""
    counted: dict[Step, int] = {}
    for step in (Step(rate, noise) for rate, noise in rows.values()):
        counted[step] = counted.pop(step, 0) + 1
    return Ledger(Budget(privacy.epsilon, privacy.delta), tuple(counted.items()))
