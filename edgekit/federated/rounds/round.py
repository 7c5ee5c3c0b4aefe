"""Round: devices that serve one model learn from the same weights, and what they learned becomes the next ones.

What is here is pure: the value, and what its state says about each device. ``running`` carries one on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgekit.federated.rounds.measures import Privacy
from edgekit_train.compression import Compression
from edgekit_train.letters import ANOTHER

WAITING, CAME, LATE, REFUSED, FAILED, OFFLINE = "waiting", "came", "late", "refused", "failed", "offline"
"""Of a device. ``came``: its update is here and sound; ``late``: so it is, but the round was decided without it;
``refused``: what it sent is not to be used."""
RUNNING, DECIDED, DONE, HALTED, ABORTED = "running", "decided", "done", "halted", "aborted"
"""Of a round. ``decided``: which updates are combined is settled, and nothing changes that any more."""
QUORUM = 0.8
"""The share of devices that is enough, unless somebody says, or central noise asks for all."""


@dataclass(frozen=True)
class Subject:
    """What weights belong to; those of one are of no use to another. ``family``: of the releases that devices serve."""

    project: str
    app: str
    family: str
    trainer: str


@dataclass(frozen=True)
class Plan:
    """How a round is to go.

    ``options``: the strategy's; ``config``: the trainer's; ``clip``, ``noise`` and ``compression`` as in a ``Task``.
    ``quorum``: the share of devices that is enough not to wait for the rest; with central noise all of them.
    ``deadline_s``: how long devices are waited for, from the start or from a resume. ``more``: how many rounds follow.
    ``late``: whether what came too late for the round before is used in this one. ``adaptive``: whether the clip
    follows the devices' norms. ``secure``: whether the host learns the sum only.
    """

    strategy: str = "fedavg"
    options: dict[str, float | int] = field(default_factory=dict)
    config: dict[str, float | int | str] = field(default_factory=dict)
    clip: float | None = None
    noise: float | None = None
    compression: Compression | None = None
    quorum: float = QUORUM
    deadline_s: float = 600.0
    more: int = 0
    late: bool = False
    accept_new_host_key: bool = False
    adaptive: bool = False
    privacy: Privacy | None = None
    secure: bool = False

    @property
    def central(self) -> bool:
        """Whether the host adds noise, so that what it gives away hides who took part."""
        return self.privacy is not None and self.privacy.central


@dataclass(frozen=True)
class Facts:
    """Of an update that is here: its digest and bytes as a file, the norm of its delta, how long the device took, and
    the digest of the ``release`` that it has learned on.

    ``masked``: it is one part of a secure sum, of which the host knows neither examples nor norm.
    """

    digest: str
    bytes: int
    examples: int
    norm: float
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    masked: bool = False
    release: str = ""


@dataclass(frozen=True)
class Part:
    """A device of a round, and what has become of it."""

    device: str
    state: str = WAITING
    facts: Facts | None = None
    error: dict[str, str | None] | None = None
    at_s: float = 0.0


@dataclass(frozen=True)
class Use:
    """An update that is combined: by the round that it was sent for, ``behind`` rounds ago.

    ``examples``: as its device says; 0 of a secure sum, where none does.
    """

    key: str
    device: str
    digest: str
    examples: int
    behind: int = 0


@dataclass(frozen=True)
class Result:
    """What a round came to. ``examples``: 0 where no device says. ``moved``: the norm of what was added to the weights.

    ``before`` and ``accuracy``: of the float model with the weights before and after, on ``samples`` of the evaluation
    data; None where there are none, or the weights are no head. ``clip``: that of the next round, where it is adaptive.
    """

    updates: int
    examples: int
    moved: float
    before: float | None = None
    accuracy: float | None = None
    samples: int = 0
    clip: float | None = None


@dataclass(frozen=True)
class Round:
    """All that is known of one. ``number`` is the store's name for it, ``key`` the devices' (32 hex digits).

    ``source``: where its weights came from, told. ``follows``: the number of the round that it was begun by.
    ``broken``: how many updates had given their devices away, when it was decided; see ``BrokenUpdate``.
    """

    number: int
    key: str
    subject: Subject
    plan: Plan
    state: str
    started_s: float
    source: str
    parts: tuple[Part, ...]
    follows: int | None = None
    used: tuple[Use, ...] = ()
    result: Result | None = None
    reason: str | None = None
    broken: int = 0

    def of(self, *states: str) -> tuple[Part, ...]:
        """The devices that are in one of these states."""
        return tuple(part for part in self.parts if part.state in states)

    @property
    def left(self) -> tuple[Part, ...]:
        """The devices that it has no sound update from."""
        return self.of(WAITING, REFUSED, FAILED, OFFLINE)

    @property
    def given(self) -> bool:
        """Whether devices have given their part of a secure sum: where it is lost, nobody gives it again."""
        said = ((part.error or {}).get("hint") for part in self.parts)
        return self.plan.secure and (bool(self.of(CAME)) or ANOTHER in said)


def error_of(message: str, hint: str | None = None, code: str = "round") -> dict[str, Any]:
    """As errors are kept and told."""
    return {"code": code, "message": message, "hint": hint}
