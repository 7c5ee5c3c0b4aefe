"""Private: what a plan's measures ask of a round: who takes part, how updates are added up, what that spends.

Values in, values out; ``ledger_book`` keeps what was spent.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from edgekit.errors import ConfigError, RoundError
from edgekit.federated.mean import by_examples
from edgekit.federated.privacy import ledger as ledgers
from edgekit.federated.privacy import sampling
from edgekit.federated.privacy.adaptive_clipping import AdaptiveClip
from edgekit.federated.privacy.central import Central
from edgekit.federated.privacy.ledger import Ledger, Step
from edgekit.federated.privacy.rdp import LEAST_NOISE
from edgekit.federated.privacy.secure_sum import check_rule
from edgekit.federated.rounds.round import Plan, Round
from edgekit.federated.strategies import clipped, named
from edgekit.federated.strategy import Rule, Strategy
from edgekit.federated.vectors import Layout, Wide
from edgekit_train.fixed_point import Encoding
from edgekit_train.noise import Randomness
from edgekit_train.update import Update, Weights

BOUND = 1.0
"""The first clip of all, where it follows the devices' norms."""
FLOAT32 = 2.0**-23
"""By so much of their norm two means of neighbouring sums, each rounded by half of it, may be further apart."""
COUNTED = 20
"""The noise on how many were within the clip: a device in so many, as in the paper; or the sum's, if that is more."""


def strategy(plan: Plan) -> Strategy:
    """The plan's, which sees no more of devices than its measures allow.

    Raises: ConfigError, PluginError, RoundError for one that compares updates where there is only a sum.
    """
    found = named(plan.strategy, plan.options)
    if plan.secure:
        check_rule(found)
    if not plan.central:
        return found if plan.clip is None else clipped(found)
    if found.rule is not by_examples:
        raise RoundError(
            f"{found.name} and central noise exclude each other: that is for a sum, in which no update is compared",
            "choose fedavg, fedprox, fedadam or fedyogi; or --privacy local",
        )
    central = _central(plan)
    return replace(found, rule=_of_a_sum(plan, central) if plan.secure else central.rule, least=0)


def settled(plan: Plan, names: Sequence[str], ledger: Ledger) -> Plan:
    """With the devices that it is about, and its noise: as given, or that of rounds before, or as the budget asks.

    Raises: RoundError where no noise is enough, ConfigError for a given one that is none.
    """
    if plan.privacy is None or plan.clip is None:
        return plan
    local = not plan.central
    given = ledgers.local(plan.noise, plan.clip).noise if local and plan.noise else plan.noise
    noise = given or _noise(ledger, plan.privacy.rate, plan.more + 1)
    if not LEAST_NOISE <= noise <= ledgers.MOST_NOISE:
        raise ConfigError(f"noise of {noise:g} × what a device moves protects nothing", "leave --noise out")
    privacy = replace(plan.privacy, noise=noise, among=tuple(names))
    return replace(plan, privacy=privacy, noise=2 * plan.clip * noise if local else None)


def step(plan: Plan) -> Step:
    """What a round of a settled plan spends."""
    assert plan.privacy
    return Step(plan.privacy.rate, plan.privacy.noise)


def drawn(plan: Plan, names: Sequence[str], randomness: Randomness = os.urandom) -> list[str]:
    """Who is in the next round: each of the devices by a coin of its own, or all; maybe nobody."""
    if plan.privacy is None or not plan.privacy.central:
        return list(names)
    return sampling.chosen(plan.privacy.among, plan.privacy.rate, randomness)


def following(round_: Round) -> Plan:
    """The plan of the round that comes next."""
    plan = round_.plan
    clip = round_.result.clip if round_.result and plan.adaptive else plan.clip
    return replace(plan, more=plan.more - 1, clip=clip)


def next_clip(round_: Round, randomness: Randomness = os.urandom) -> float | None:
    """From how many of the devices that are combined say that nothing of theirs was cut off."""
    plan, used = round_.plan, {use.device for use in round_.used}
    if not plan.adaptive or plan.clip is None:
        return None
    said = [part.facts.metrics.get("clipped", 1.0) for part in round_.parts if part.facts and part.device in used]
    expected = plan.privacy.expected if plan.privacy else len(said)
    whole = sum(clipped == 0.0 for clipped in said)
    return _adaptive(plan).after(whole, len(said), max(1.0, expected), randomness).most


def size(weights: Weights) -> int:
    """Numbers of a vector in a secure sum: those of the weights."""
    return sum(array.size for array in weights.values())


def encoding(plan: Plan, devices: int) -> Encoding:
    """How devices of a secure round write their numbers.

    Raises: RoundError for more devices than it can add.
    """
    assert plan.clip
    try:
        return Encoding(plan.clip, devices)
    except ValueError as error:
        raise RoundError(f"a secure sum of {devices} devices: {error}", "select fewer with --to") from error


def _central(plan: Plan) -> Central:
    assert plan.privacy
    assert plan.clip
    noise = _adaptive(plan).noise(plan.privacy.noise) if plan.adaptive and plan.privacy.noise else plan.privacy.noise
    return Central(plan.clip, noise, max(1.0, plan.privacy.expected))


def _adaptive(plan: Plan) -> AdaptiveClip:
    """Its noise on the count is at least the sum's, so that both together need little more."""
    assert plan.clip
    if plan.privacy is None:
        return AdaptiveClip(plan.clip, 0.0)
    return AdaptiveClip(plan.clip, max(plan.privacy.expected / COUNTED, plan.privacy.noise))


def _of_a_sum(plan: Plan, central: Central) -> Rule:
    """Of one update that is the mean of all: nobody has seen the parts. Noise is for what is left of the clip once the
    parts were written in fixed point, and the mean in float32.
    """
    assert plan.privacy
    devices = max(1, len(plan.privacy.among))

    def rule(layout: Layout, updates: Iterable[Update]) -> Wide:
        total = np.zeros(layout.size)
        for update in updates:
            total += float(update.examples) * layout.flat(update.delta)
        most = central.clip + encoding(plan, devices).rounding(layout.size)
        return replace(central, clip=most * (1 + devices * FLOAT32)).released(total)

    return rule


def _noise(ledger: Ledger, rate: float, rounds: int) -> float:
    """That of the last rounds of the kind: what was planned with goes on. Raises: RoundError."""
    before = [entry.noise for entry, _ in ledger.entries if entry.rate == rate]
    return before[-1] if before else ledgers.noise_for(ledger.budget, rate, rounds, ledger.entries)
