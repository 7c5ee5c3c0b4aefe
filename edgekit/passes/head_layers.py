"""Head layers: the dense layers that a head is made of, found from the last one on; whatever the format."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from edgekit.errors import ConversionError
from edgekit.model import Model

Layer = TypeVar("Layer")
NONE = "its first output comes from no dense layer behind others"
ACTIVATED = "its last layer gives no logits, but what {} makes of them"
ADDED = "behind a dense layer, {} adds a constant that is no bias of it"
SIGMOID = "its first output is no classes of which one is right: it ends in a sigmoid"
GROUPS = "its first output is no classes of which one is right: it is {} numbers in groups of {}"
ONE = "its first output is no classes of which one is right: it is a single number"
PLACES = "its last layer answers for more than one place of a sample"


def of(model: Model, before: Callable[[Layer | None], Layer | None]) -> list[Layer]:
    """The first one first. ``before``: the layer before another, before None the last one; None where there is none.

    Raises: ConversionError.
    """
    found: list[Layer] = []
    while len(found) < model.head_layers:
        layer = before(found[0] if found else None)
        if layer is None:
            raise featureless(model, NONE)
        found.insert(0, layer)
    return found


def featureless(model: Model, why: str) -> ConversionError:
    return ConversionError(f"{model.path.name}: has no features to train on: {why}", "build it without features = true")
