"""Judging by the clock, beside a command that hears from devices all the time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit import fleet
from edgekit.cli import watching
from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.rules.judging import Rule
    from edgekit.store import Store

EVERY_S = 60.0


@contextmanager
def judging(store: Store, tell: Callable[[str], None]) -> Iterator[None]:
    """The devices of this folder's fleet.toml by its rules, once a minute, for as long as the block runs.

    ``tell`` hears which alerts are new and which are closed, and what was done. Raises: ConfigError.
    """
    rules, done = watching.in_force(), threading.Event()

    def again_and_again() -> None:
        while not done.wait(EVERY_S):
            _judge(store, rules, tell)

    thread = threading.Thread(target=again_and_again, name="edgekit-judging", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(EVERY_S)


def _judge(store: Store, rules: Sequence[Rule], tell: Callable[[str], None]) -> None:
    try:
        found = watching.judged(store, rules, fleet.load(Path.cwd()), False, tell)
    except EdgekitError as error:
        tell(f"{error}")
        return
    for alert in found.watched.raised:
        tell(f"{alert.level}: {watching.said(alert)}")
    for alert in found.watched.closed:
        tell(f"closed: {watching.said(alert)}")
    for outcome in found.outcomes:
        tell(f"{outcome.due.device}: {outcome.told}")
