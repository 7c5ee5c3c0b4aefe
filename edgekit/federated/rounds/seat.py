"""Seat: one device in a secure round, from its connection to its last letter, all of it in one conversation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from edgekit import device as devices
from edgekit import transports
from edgekit.device import Conversation
from edgekit.errors import EdgekitError, RoundError
from edgekit.fanout import reached
from edgekit.federated.rounds.asking import LEAST_S, PUT, Ask
from edgekit_train import signed_advert
from edgekit_train.signed_advert import Kind, SignedAdvert

STAGE_S = 120.0
"""So long may a device take over a letter, once it has learned."""


class Seat:
    """One thread at a time speaks; another one may leave it. Methods raise EdgekitError: the device has dropped out."""

    def __init__(self, ask: Ask) -> None:
        self.device = ask.device.name
        self._ask, self._held = ask, ExitStack()
        self._left = False
        self._there: Conversation | None = None

    def advert(self) -> SignedAdvert:
        """What the device says once it has learned."""
        until = time.monotonic() + self._ask.for_s
        place = (self._ask.app, self._ask.key)
        options = transports.Options(accept_new_host_key=self._ask.accept_new_host_key)
        transport = self._held.enter_context(reached(self._ask.device, options))
        put = ["sh", "-c", PUT, "edgekit", *place, self._ask.signature]
        transport.run(put, stdin=self._ask.task, timeout_s=self._ask.for_s).check()
        self._there = self._held.enter_context(devices.conversing(transport, "secure", *place, script=devices.TRAIN))
        if self._left:
            raise self._unfit("it is not waited for any longer")
        said = self._there.hear(max(LEAST_S, until - time.monotonic()))
        try:
            return signed_advert.of(said)
        except (ValueError, KeyError) as error:
            raise self._unfit(f"no advert: {error}") from error

    def letter(self, kind: type[Kind], told: Mapping[str, Any], most_bytes: int) -> Kind:
        """What it says to what it is told."""
        assert self._there
        said = self._there.ask(told, timeout_s=STAGE_S)
        try:
            return signed_advert.letter(kind, said, most_bytes)
        except (ValueError, KeyError) as error:
            raise self._unfit(f"no letter: {error}") from error

    def leave(self, error: EdgekitError | None = None) -> None:
        """Let the device go: to the end of what it does, or at once where there was an error."""
        self._left = True
        if error is None:
            self._held.close()
        else:
            self._held.__exit__(type(error), error, error.__traceback__)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._held.__exit__(kind, error, trace)

    def _unfit(self, what: str) -> RoundError:
        return RoundError(f"{self.device}: {what[:200]}")
