"""Sizes of a model's inputs: those that edgekit.toml gives, and those that are left free."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from edgekit.config import dotted
from edgekit.errors import ConfigError, ConversionError, EngineError
from edgekit.model import Format, Model
from edgekit.passes import Context
from edgekit_runtime.tensors import TensorSpec

Shape = tuple[int | None, ...]
Specs = tuple[TensorSpec, ...]


def frozen(specs: Specs, shapes: Mapping[str, Shape]) -> Specs:
    """The inputs with the sizes that are asked for by name; None leaves a size as it is.

    Raises: ConfigError for a name that no input has, another number of axes, or a size that is fixed already.
    """
    known = {spec.name: spec for spec in specs}
    for name, shape in shapes.items():
        if name not in known:
            raise ConfigError(
                f"edgekit.toml: {dotted(('inputs', name))}: no such input", f"the model takes {', '.join(known)}"
            )
        _check(name, shape, known[name])
    return tuple(replace(spec, shape=_merged(spec.shape, shapes.get(spec.name, spec.shape))) for spec in specs)


def _check(name: str, shape: Shape, spec: TensorSpec) -> None:
    where = f"edgekit.toml: {dotted(('inputs', name, 'shape'))}"
    if len(shape) != len(spec.shape):
        hint = "write one size an axis, the batch included"
        raise ConfigError(f"{where}: {len(shape)} sizes, the model takes {spec}", hint)
    for axis, (asked, have) in enumerate(zip(shape, spec.shape, strict=True)):
        if asked and have and asked != have:
            raise ConfigError(f"{where}[{axis}]: {asked}, the model takes {spec}", f"write {have}, which is fixed")


def _merged(known: Shape, asked: Shape) -> Shape:
    return tuple(size or wanted for size, wanted in zip(known, asked, strict=True))


def sized(model: Model, written: Model) -> Model:
    """The tensors by their own names, of the sizes that its file tells."""

    def each(known: Specs, found: Specs) -> Specs:
        return tuple(replace(one, shape=other.shape) for one, other in zip(known, found, strict=True))

    return replace(model, inputs=each(model.inputs, written.inputs), outputs=each(model.outputs, written.outputs))


def left_free(model: Model, context: Context) -> ConversionError | None:
    """What to tell where TFLite is to be made, and an input has a free size behind the batch; None where none has."""
    for spec in model.inputs:
        free = [axis for axis, size in enumerate(spec.shape) if axis and size is None]
        if free:
            axes = f"{'axis' if len(free) == 1 else 'axes'} {', '.join(map(str, free))}"
            shape = _as_in_data(model, spec, context)
            return ConversionError(
                f"{model.path.name}: input {spec} leaves {axes} free, which TFLite cannot have",
                f"write under [{dotted(('inputs', spec.name))}] of edgekit.toml, as the calibration data are: {shape}",
            )
    return None


@contextmanager
def named_where_free(model: Model, context: Context) -> Iterator[None]:
    """An engine that cannot load TFLite with free sizes does not say so. Raises: ConversionError instead, with them."""
    try:
        yield
    except EngineError as error:
        told = left_free(model, context) if model.format is Format.TFLITE else None
        if told:
            raise told from error
        raise


def _as_in_data(model: Model, spec: TensorSpec, context: Context) -> str:
    """The line of TOML, by the first calibration sample; a free batch stays free."""
    sizes = next(context.feeds(model))[spec.inner].shape
    return f"shape = {json.dumps([size if axis or spec.shape[0] else 'N' for axis, size in enumerate(sizes)])}"
