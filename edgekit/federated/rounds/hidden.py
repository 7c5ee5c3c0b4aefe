"""Hidden: the units of a hidden layer, a setting of the trainer ``mlp`` that is the host's: it makes the first weights,
and devices train what comes.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.errors import ConfigError
from edgekit.federated.deepening import deepened, least, usual
from edgekit.federated.merging import MLP
from edgekit.federated.strategy import State, Strategy
from edgekit_train import heads

SETTING = "hidden"
MOST = 1 << 16
Config = Mapping[str, float | int | str]


def left(trainer: str, config: Config) -> dict[str, float | int | str]:
    """The settings that are the devices'."""
    return {name: value for name, value in config.items() if (trainer, name) != (MLP, SETTING)}


def begun(trainer: str, config: Config, state: State, strategy: Strategy) -> State:
    """What a round begins with that would have begun with ``state``: for ``mlp`` a head of one layer is deepened.

    One that has hidden layers already goes on with them. Raises: ConfigError for units that it has not, or cannot have;
    InvalidInput for weights that are no head.
    """
    if trainer != MLP:
        return state
    layers, wanted = heads.layers(state.weights), config.get(SETTING)
    sizes = [bias.size for _, bias in layers[:-1]]
    if not sizes:
        return strategy.init(deepened(state.weights, _units(wanted, layers[-1][1].size)))
    if wanted not in (None, *(sizes if len(sizes) == 1 else ())):
        told = " and ".join(map(str, sizes))
        raise ConfigError(f"hidden is {wanted!r}, and it begins with {told} hidden units", "leave hidden out")
    return state


def _units(wanted: object, classes: int) -> int | None:
    """None where nobody says. Raises: ConfigError."""
    low = least(classes)
    if wanted is None:
        return None
    if not isinstance(wanted, int) or not low <= wanted <= max(low, MOST):
        raise ConfigError(
            f"hidden is {wanted!r}, and a head of {classes} classes begins with {low} to {max(low, MOST)} hidden units",
            f"write hidden={usual(classes)}, or leave it out",
        )
    return wanted
