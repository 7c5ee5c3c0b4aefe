"""Strategies: the built-in ones by name. ``liars``: how many devices of a round may send what they like."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import signature
from typing import cast

from edgekit import plugins
from edgekit.errors import ConfigError
from edgekit.federated import coordinates, krum
from edgekit.federated.adaptive import Adaptive, adam, yogi
from edgekit.federated.bulyan import bulyan as by_bulyan
from edgekit.federated.mean import alike, by_examples
from edgekit.federated.rows import Rows
from edgekit.federated.strategy import Strategy, by_rows
from edgekit.federated.vectors import Wide

GROUP = "edgekit.strategies"
"""Entry points of other packages: functions of numbers by name that give a Strategy."""


MOST_RATE = 1e3


def fedavg() -> Strategy:
    """The mean by examples (McMahan et al., AISTATS 2017). One liar moves it anywhere, unless it is ``clipped``."""
    return Strategy("fedavg", by_examples)


def fedprox(mu: float = 0.01) -> Strategy:
    """FedAvg of devices that are held near the weights they were sent: their loss has μ/2 · ‖w - w₀‖² more.

    T. Li et al., Federated Optimization in Heterogeneous Networks, MLSys 2020.
    """
    return Strategy("fedprox", by_examples, config={"proximal": mu})


def fedadam(rate: float = Adaptive.rate) -> Strategy:
    """The mean by examples as a gradient for Adam (Reddi et al., ICLR 2021)."""
    return Strategy("fedadam", by_examples, server=_adaptive("fedadam", adam, rate))


def fedyogi(rate: float = Adaptive.rate) -> Strategy:
    """The mean by examples as a gradient for Yogi (Reddi et al., ICLR 2021)."""
    return Strategy("fedyogi", by_examples, server=_adaptive("fedyogi", yogi, rate))


def median(liars: int = 1) -> Strategy:
    """The median of each number (Yin et al., ICML 2018)."""
    return _robust("median", lambda rows, _: coordinates.median(rows), (2, 1), liars)


def trimmed_mean(liars: int = 1) -> Strategy:
    """The mean of each number without so many at both ends (Yin et al., ICML 2018)."""
    return _robust("trimmed-mean", coordinates.trimmed_mean, (2, 1), liars)


def single_krum(liars: int = 1) -> Strategy:
    """The update that has the nearest neighbours (Blanchard et al., NIPS 2017)."""
    return _robust("krum", krum.krum, (2, 3), liars)


def multi_krum(liars: int = 1) -> Strategy:
    """The mean of the n - f - 2 that have the nearest ones (Blanchard et al., NIPS 2017)."""
    return _robust("multi-krum", krum.multi_krum, (2, 3), liars)


def bulyan(liars: int = 1) -> Strategy:
    """Krum's choice, then each number around its median (El Mhamdi et al., ICML 2018)."""
    return _robust("bulyan", by_bulyan, (4, 3), liars)


def named(name: str, options: Mapping[str, float]) -> Strategy:
    """``options``: those of its function, or of its entry point.

    Raises: ConfigError for an unknown name, and for an option; PluginError where it cannot be loaded.
    """
    make = BY_NAME.get(name) or _brought(name)
    known = signature(make).parameters
    for option, value in options.items():
        if option not in known:
            raise ConfigError(f"{name}: unknown option {option!r}", f"known: {', '.join(known) or 'none'}")
        if not abs(value) < math.inf:
            raise ConfigError(f"{name}: {option} is {value!r}", "give a finite number")
    return make(**options)


def clipped(strategy: Strategy) -> Strategy:
    """The same where deltas have a clip: a mean counts all devices alike, as how many examples one tells of is nothing
    that a clip bounds.
    """
    return replace(strategy, rule=alike) if strategy.rule is by_examples else strategy


def _brought(name: str) -> Callable[..., Strategy]:
    """Of another package, by the entry-point group. Raises: ConfigError for an unknown name, PluginError."""
    brought = plugins.names(GROUP)
    if name not in brought:
        raise ConfigError(f"no strategy {name!r}", f"known: {', '.join([*BY_NAME, *brought])}")
    return cast("Callable[..., Strategy]", plugins.load(GROUP, name))


def _adaptive(name: str, grown: Callable[[Wide, Wide, float], Wide], rate: float) -> Adaptive:
    if not 0 < rate <= MOST_RATE:
        raise ConfigError(f"{name}: rate is {rate!r}", f"give a number above 0, up to {MOST_RATE:g}")
    return Adaptive(grown, rate)


def _robust(name: str, combine: Callable[[Rows, int], Wide], needs: tuple[int, int], liars: int) -> Strategy:
    """``needs``: devices for each liar, and beside these."""
    if not isinstance(liars, int) or liars < 0:
        raise ConfigError(f"{name}: liars is {liars!r}", "give how many devices may lie, 0 or more")
    each, beside = needs
    return Strategy(
        name,
        by_rows(lambda rows: combine(rows, liars)),
        each * liars + beside,
        fewer_liars=lambda broken: _robust(name, combine, needs, max(0, liars - broken)),
    )


MEANS = (fedavg, fedprox, fedadam, fedyogi)
ROBUST: tuple[Callable[[int], Strategy], ...] = (median, trimmed_mean, single_krum, multi_krum, bulyan)
ALL: tuple[Callable[..., Strategy], ...] = (*MEANS, *ROBUST)
BY_NAME = {make().name: make for make in ALL}
