"""Cutting: the end of a model that no engine loads becomes a postprocess in numpy, with a proof."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.errors import ConversionError
from edgekit.model import Model
from edgekit.passes import Context


def converted(
    model: Model,
    context: Context,
    convert: Callable[[Model, Context], Model],
    without_end: Callable[[Model, Context], Model | None],
) -> Model:
    """What ``convert`` makes of a model; of the model without its end where it fails, and the end can be cut.

    Raises: what both do.
    """
    try:
        return convert(model, context)
    except ConversionError:
        shorter = without_end(model, context)
        if shorter is None:
            raise
        return convert(shorter, context)
