"""Ways: what rounds are carried on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.evaluating import Judge
from edgekit.federated.rounds.key_book import KeyBook
from edgekit.federated.rounds.ledger_book import LedgerBook
from edgekit.federated.rounds.round import Part, Round
from edgekit.fleet import Device


@dataclass(frozen=True)
class Ways:
    """``sign``: an SSHSIG of a digest, by this host's key.

    ``part`` hears of each device's outcome as it comes, ``ended`` of each round that is over, ``line`` of the rest.
    """

    pool: Executor
    book: Book
    keys: KeyBook
    ledgers: LedgerBook
    fleet: Mapping[str, Device]
    sign: Callable[[str], str]
    judge: Judge
    part: Callable[[Round, Part], None]
    ended: Callable[[Round], None]
    line: Callable[[str], None]
