"""Alternatives: other ways to feed a model the same samples, worth trying where preprocessing may be wrong.

Pixels in the ranges that models take, the order of colours and of axes, labels that count from another class on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.census import Column, color_axis
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec

Array = NDArray[Any]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class Alternative:
    """Another way to feed ``input``: what it is ``told`` as, what to do (``remedy``), the tensor from the raw array.

    Without ``feed`` the samples are fed as they are. The right class is the label and ``shift``.
    """

    input: str
    told: str
    remedy: str
    feed: Callable[[Array], Array] | None = None
    shift: int = 0


AS_IS = Alternative("", "", "")


def alternatives(interface: Interface, columns: dict[str, Column]) -> tuple[Alternative, ...]:
    """What is worth trying for a model and samples whose raw inputs are so: values, colours, axes, labels."""
    made = [each for spec in interface.inputs for each in _of_input(spec, interface, columns[spec.name])]
    shifts = [
        Alternative("", "the labels count from another class on", remedy, shift=shift)
        for remedy, shift in (("1 added to the labels", 1), ("1 taken from the labels", -1))
    ]
    return (*made, *shifts)


def _of_input(spec: TensorSpec, interface: Interface, column: Column) -> Iterator[Alternative]:
    declared = interface.preprocess.get(spec.name)
    axis = color_axis(spec.shape) if declared is None else {"NCHW": 1, "NHWC": 3}[declared.layout]
    if axis is None or len(spec.shape) != 4 or not column.colors:
        return
    base = declared or Preprocess(layout="NCHW" if axis == 1 else "NHWC", dtype=spec.dtype)
    first = axis == 1 and declared is None  # raw arrays have their colours where the model has them

    def feed(step: Preprocess, turn: Callable[[Array], Array] = lambda x: x) -> Callable[[Array], Array]:
        return lambda raw: step.apply(np.moveaxis(turn(raw), 1, -1) if first else turn(raw), spec.dtype)

    for told, step in _steps(base, spec, column):
        yield Alternative(spec.name, told, _remedy(spec.name, base, step, first), feed(step))
    for told, remedy, turn in _turns(first, declared is None):
        yield Alternative(spec.name, told, remedy, feed(base, turn))


def _steps(base: Preprocess, spec: TensorSpec, column: Column) -> Iterator[tuple[str, Preprocess]]:
    """Other values and colours than those of ``base``, with what they are."""
    colors = (base.color, "rgb" if base.color == "bgr" else "bgr")[: 2 if column.colors == 3 else 1]
    pixels = _pixels(base, column)
    steps = [("", replace(base, color=color)) for color in colors]
    for told, form in _forms(spec.dtype, column.colors) if pixels else ():
        factor, offset = pixels or (1.0, 0.0)
        mean = tuple(m - offset * form.scale for m in form.mean)
        for color in [form.color] if form.color == "bgr" else colors:
            step = replace(base, color=color, scale=factor * form.scale, mean=mean, std=form.std)
            steps.append((told, step))
    for told, step in steps:
        if step != base:
            swapped = "swapped colours" if step.color != base.color else ""
            yield " and ".join(filter(None, (told, swapped))), step


def _forms(dtype: str, colors: int) -> Iterator[tuple[str, Preprocess]]:
    """What models take pixels of 0..255 as."""
    if dtype == "int8":
        yield "values -128..127", Preprocess(mean=(128.0,))
        return
    yield "values 0..255", Preprocess()
    if dtype.startswith("float"):
        yield "values 0..1", Preprocess(scale=1 / 255)
        yield "values -1..1", Preprocess(scale=1 / 127.5, mean=(1.0,))
        if colors == 3:
            yield "ImageNet's mean and deviation", Preprocess(scale=1 / 255, mean=IMAGENET[0], std=IMAGENET[1])
            yield "Caffe's mean", Preprocess(color="bgr", mean=CAFFE)


def _pixels(base: Preprocess, column: Column) -> tuple[float, float] | None:
    """Factor and offset that make pixels of 0..255 of the raw values; None where these are no known kind of pixel."""
    if base.dtype == "uint8":
        return 1.0, 0.0
    if base.dtype == "int8":
        return 1.0, 128.0
    if column.low >= 0 and column.high <= 255:
        return (255.0 if column.high <= 1 else 1.0), 0.0
    return (127.5, 127.5) if column.low >= -1 and column.high <= 1 else None


def _turns(first: bool, plain: bool) -> Iterator[tuple[str, str, Callable[[Array], Array]]]:
    """Other orders of the axes of raw images that have the same shape."""
    high, wide = (2, 3) if first else (1, 2)
    yield "images on their side", "height and width exchanged", lambda x: np.swapaxes(x, high, wide)
    if plain and first:
        transposed = "images transposed from height × width × colour, not reshaped"
        yield "a wrong reshape", transposed, lambda x: np.moveaxis(x.reshape(*_last(x, 1)), -1, 1)
    elif plain:
        transposed = "images transposed from colour × height × width, not reshaped"
        yield "a wrong reshape", transposed, lambda x: np.moveaxis(x.reshape(*_last(x, 3)), 1, -1)


def _last(x: Array, axis: int) -> tuple[int, ...]:
    """The shape with the colours at the other end than ``axis``."""
    batch, a, b, c = x.shape
    return (batch, b, c, a) if axis == 1 else (batch, c, a, b)


def _remedy(name: str, base: Preprocess, step: Preprocess, first: bool) -> str:
    """What to write into edgekit.toml."""
    values = {key: value for key, value in step.as_dict().items() if value != base.as_dict()[key]}
    bare = base == Preprocess(layout=base.layout, dtype=base.dtype)
    needs_last = first and (len(step.mean) > 1 or step.color != base.color)
    values |= {"layout": "NCHW"} if needs_last else {}
    values |= {"dtype": base.dtype} if bare and base.dtype != "uint8" else {}
    written = ", ".join(f"{key} = {_toml(value)}" for key, value in values.items())
    return f"{written} under [preprocess.{name}]{' and height × width × colour images' if needs_last else ''}"


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
