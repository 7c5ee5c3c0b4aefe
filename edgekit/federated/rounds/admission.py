"""Admission: what is checked of an update before anything else touches it. It comes from a machine that may lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgekit.errors import BrokenUpdate, RoundError, SignatureError
from edgekit.federated import checks
from edgekit.federated.checks import Limits
from edgekit.federated.rounds import signatures
from edgekit.federated.rounds.asking import Answer
from edgekit.federated.rounds.round import Facts, Plan, Round
from edgekit_runtime.trust import public_key
from edgekit_train import update as updates
from edgekit_train.clipping import norm
from edgekit_train.device_key import digest_of
from edgekit_train.update import Update, Weights

ROUNDED = 1.5
"""What compression adds to the norm of a clipped delta, by rounding, and by what earlier ones left out."""
HEADER_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class Expected:
    """What an update of a round is held to: by its names, and by the weights that the round began with."""

    app: str
    key: str
    base: Weights
    limits: Limits

    @property
    def most_bytes(self) -> int:
        return most_bytes(self.base)


def expected(round_: Round, base: Weights) -> Expected:
    return Expected(round_.subject.app, round_.key, base, limits(round_.plan, base))


def limits(plan: Plan, base: Weights) -> Limits:
    """The norm that a delta can have: as the plan has it clipped, noised and compressed."""
    if plan.clip is None:
        return checks.unclipped(base)
    limits = checks.clipped(base, plan.clip, plan.noise or 0.0)
    if plan.compression:
        return replace(limits, norm=limits.norm * ROUNDED / plan.compression.share, clipped=False)
    return limits


def most_bytes(base: Weights) -> int:
    """Of an update's file: a number and its place for each of the model's, and what is said of them."""
    numbers = sum(8 * array.size for array in base.values())
    return numbers + HEADER_BYTES + sum(256 + 6 * len(name) for name in base)


def admitted(device: str, answer: Answer, expected: Expected, known: str | None) -> tuple[Update, str]:
    """The update, and the key that it is signed with, ``KIND BLOB``. ``known``: the device's, once it was seen.

    Raises: RoundError for what is wrong with it, in a line that names the device; BrokenUpdate for what the device has
    signed and cannot have come to by its work.
    """
    if len(answer.update) > expected.most_bytes:
        raise RoundError(f"{device}: {len(answer.update)} bytes, where at most {expected.most_bytes} can be")
    public = key_of(device, answer.public, known)
    signatures.check(device, digest_of(answer.update), answer.signature, public)
    try:
        update = updates.parse(answer.update, expected.most_bytes)
    except ValueError as error:
        raise BrokenUpdate(f"{device}: no update: {str(error)[:200]}") from error
    misnamed, held = _names(device, update, expected), (expected.base, expected.limits)
    if wrong := [*misnamed, *checks.reasons(update, *held)]:
        kind = BrokenUpdate if misnamed or checks.broken(update, *held) else RoundError
        raise kind(f"{device}: {'; '.join(wrong)}")
    return update, public


def facts(answer: Answer, update: Update) -> Facts:
    """What is told and kept of an update."""
    size, digest, seconds = len(answer.update), digest_of(answer.update), update.metrics.get("seconds", 0.0)
    length = norm(update.delta)
    return Facts(digest, size, update.examples, length, update.metrics, seconds, release=update.release)


def key_of(device: str, told: str, known: str | None) -> str:
    """The key that a device tells, as far as it is the one that is known. Raises: RoundError."""
    try:
        public = public_key(told)
    except SignatureError as error:
        raise RoundError(f"{device}: tells no public key of OpenSSH") from error
    if known is not None and public != known:
        now, before = signatures.fingerprint(public), signatures.fingerprint(known)
        raise RoundError(
            f"{device}: signs with another key than before: {now}, not {before}",
            f"where it was set up anew: edgekit round trust {device}",
        )
    return public


def _names(device: str, update: Update, expected: Expected) -> list[str]:
    """What it says it belongs to, where that is not what was asked."""
    names = {"device": device, "app": expected.app, "round": expected.key}
    given = {name: str(getattr(update, name)) for name in names}
    return [
        f"{name}: {given[name][:80]!r}, where {names[name]!r} was asked" for name in names if given[name] != names[name]
    ]
