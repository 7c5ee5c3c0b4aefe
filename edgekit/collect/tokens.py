"""Tokens: which devices may deliver, each by a token of its own; the store keeps what shows a token to be right.

A token is DEVICE.SECRET, 256 bits of chance: its digest needs no salt and no slow hash. A broker has its own file of
passwords, where a device's is its secret; so a line of that file is kept beside it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import Column, Float, String, Table, Text, delete, insert, select

from edgekit.collect import passwords
from edgekit.store import METADATA, Store

TOKENS = Table(
    "tokens",
    METADATA,
    Column("device", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("password", Text, nullable=False),
    Column("since_s", Float, nullable=False),
)
UNKEPT, UNREAD = "the token cannot be kept", "the tokens cannot be read"
LONGEST = 300
NOBODY = "0" * 64


@dataclass(frozen=True)
class Token:
    """As its device gets it; nobody else ever does."""

    device: str
    secret: str

    @property
    def text(self) -> str:
        return f"{self.device}.{self.secret}"

    def __repr__(self) -> str:
        return f"Token({self.device!r})"


@dataclass(frozen=True)
class Issued:
    """That a device has a token, since when (seconds since 1970), and its line of a broker's file."""

    device: str
    password: str
    since_s: float


def fresh(device: str) -> Token:
    return Token(device, secrets.token_urlsafe(32))


class Tokens:
    """Those in a store, whose table is made when it is opened. Every method raises EdgekitError when it refuses."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(self, *tokens: Token) -> None:
        """In place of those that their devices had."""
        rows = [
            {
                "device": token.device,
                "digest": _digest(token.text),
                "password": passwords.line(token.device, token.secret),
                "since_s": time.time(),
            }
            for token in tokens
        ]
        with self._store.transaction(UNKEPT) as connection:
            connection.execute(delete(TOKENS).where(TOKENS.c.device.in_([token.device for token in tokens])))
            connection.execute(insert(TOKENS), rows)

    def revoke(self, device: str) -> bool:
        """Whether it had one."""
        with self._store.transaction(UNKEPT) as connection:
            return connection.execute(delete(TOKENS).where(TOKENS.c.device == device)).rowcount > 0

    def bearer(self, text: str) -> str | None:
        """The device whose token this is; None for nobody's."""
        device = text.rpartition(".")[0] if len(text) <= LONGEST else ""
        query = select(TOKENS.c.digest).where(TOKENS.c.device == device)
        with self._store.transaction(UNREAD) as connection:
            kept = connection.execute(query).scalar() or NOBODY
        return device if hmac.compare_digest(kept, _digest(text)) else None

    def issued(self) -> list[Issued]:
        """By the devices' names."""
        query = select(TOKENS.c.device, TOKENS.c.password, TOKENS.c.since_s).order_by(TOKENS.c.device)
        with self._store.transaction(UNREAD) as connection:
            return [Issued(*row) for row in connection.execute(query)]

    def knows(self, device: str) -> bool:
        """Whether a device of that name has a token."""
        query = select(TOKENS.c.device).where(TOKENS.c.device == device)
        with self._store.transaction(UNREAD) as connection:
            return connection.execute(query).first() is not None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
