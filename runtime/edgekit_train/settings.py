"""Settings: how a trainer goes about it, out of the configuration that came with a round."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from edgekit_runtime.errors import InvalidInput

if TYPE_CHECKING:
    from edgekit_train.trainer import Config


@dataclass(frozen=True)
class Settings:
    """Of mini-batch SGD. ``proximal``: the μ of FedProx (Li et al. 2020, MLSys), 0 for none. ``clip``: the longest that
    a step's gradient may be (L2, all weights together). ``most_bytes``: of samples that are held in memory at once.
    ``replay``: samples of the past that go with each new one (online learning).
    """

    epochs: int = 5
    batch: int = 16
    rate: float = 0.05
    momentum: float = 0.9
    proximal: float = 0.0
    clip: float = 1.0
    seed: int = 0
    most_bytes: int = 16 << 20
    replay: int = 8


LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (1, 1000),
    "batch": (1, 4096),
    "rate": (1e-8, 1e3),
    "momentum": (0.0, 0.999),
    "proximal": (0.0, 1e3),
    "clip": (1e-6, 1e6),
    "seed": (0, (1 << 63) - 1),
    "most_bytes": (1 << 10, 1 << 30),
    "replay": (0, 4096),
}


def of(config: Config, usual: Settings = Settings()) -> Settings:
    """``usual``: what holds where nothing is said.

    Raises: InvalidInput for a setting that is unknown, of another type or out of range.
    """
    known: dict[str, Any] = {each.name: each.default for each in fields(Settings)}
    for name, value in config.items():
        if name not in known:
            raise InvalidInput(f"unknown setting {name!r}", f"known: {', '.join(known)}")
        low, high = LIMITS[name]
        kind = type(known[name])
        if isinstance(value, (str, bool)) or not low <= value <= high or kind(value) != value:
            whole = "whole " if kind is int else ""
            raise InvalidInput(f"{name} is {value!r}", f"give a {whole}number from {low:g} to {high:g}")
    return replace(usual, **{name: type(known[name])(value) for name, value in config.items()})
