"""Rollout: a release to many devices, in waves with a decision after each.

What is here is pure: the value, and what its state says about each device. ``edgekit.rolling`` carries one on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgekit.errand import FAILED, OFFLINE, PUSHED, Terms
from edgekit.policy import MAX_FAILED, Decision, Tally

WAITING, DONE = "waiting", "done"
"""Of a device; between them: pushed (live, its wave not judged yet), failed or offline; after all: withdrawn."""
RUNNING, HALTED, ABORTED = "running", "halted", "aborted"
"""Of a rollout, which ends as done: every wave was judged, whoever is offline."""


@dataclass(frozen=True)
class Plan:
    """How it is to go: sizes of the waves, seconds to look on between them, share of a wave that may fail."""

    waves: tuple[int, ...]
    wait_s: float = 0.0
    max_failed: float = MAX_FAILED
    terms: Terms = Terms()


@dataclass(frozen=True)
class Part:
    """A device of a rollout: its wave, counted from 1, what it is to have, and what has become of it."""

    device: str
    wave: int
    app: str
    release: str
    folder: str
    state: str = WAITING
    facts: dict[str, Any] | None = None
    error: dict[str, str | None] | None = None
    at_s: float = 0.0

    @property
    def ok(self) -> bool:
        return self.state in (PUSHED, DONE)

    @property
    def failure(self) -> str:
        """One line that names the device."""
        message = str((self.error or {}).get("message"))
        return message if message.startswith(f"{self.device}: ") else f"{self.device}: {message}"

    @property
    def previous(self) -> str | None:
        """The release that was live before the push."""
        return self.facts["previous"] if self.facts else None


@dataclass(frozen=True)
class Rollout:
    """All that is known of one; ``number`` is the store's name for it."""

    number: int
    project: str
    state: str
    started_s: float
    plan: Plan
    parts: tuple[Part, ...]
    decisions: tuple[Decision, ...] = ()

    def of_wave(self, wave: int, *states: str) -> tuple[Part, ...]:
        """The devices of a wave that are in one of these states."""
        return tuple(part for part in self.parts if part.wave == wave and part.state in states)

    @property
    def wave(self) -> int:
        """The last one that has begun."""
        return max((part.wave for part in self.parts if part.state != WAITING), default=1)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Of all decisions, in their order."""
        return tuple(reason for decision in self.decisions for reason in decision.reasons)

    def to_push(self, wave: int) -> tuple[Part, ...]:
        """The devices of a wave that do not have the release yet."""
        return self.of_wave(wave, WAITING, FAILED, OFFLINE)

    def tally(self, wave: int) -> Tally:
        passed, offline, waiting = (
            len(self.of_wave(wave, *states)) for states in ((PUSHED, DONE), (OFFLINE,), (WAITING,))
        )
        return Tally(passed, tuple(part.failure for part in self.of_wave(wave, FAILED)), offline, waiting)


def assign(parts: Sequence[Part], plan: Plan) -> tuple[Part, ...]:
    """The devices in their order, each with its wave."""
    waves = [wave for wave, size in enumerate(plan.waves, 1) for _ in range(size)]
    return tuple(replace(part, wave=wave) for part, wave in zip(parts, waves, strict=True))
