"""Fingerprint: what an artifact asks of an engine — operators with the types they are used with, versions, memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from edgekit.errors import UnsupportedFormat
from edgekit.model import SUFFIXES, Format

UNKNOWN = "?"
"""The type of a tensor that nothing tells."""
ABSENT = ""
"""The type of an optional input or output that is left out."""

SHARED_AXIS = "an axis of its own, taken more than once"
"""A trait of ONNX's DequantizeLinear: onnxruntime copies such a node for each that takes its output."""


@dataclass(frozen=True, order=True)
class Operator:
    """An operator as it is used: types in order of its inputs and outputs, ``ABSENT`` and ``UNKNOWN`` among them.

    ``version``: ONNX, the operator set since which it is as it is; TFLite, the number that its converter stamped.
    ``traits``: what else its need depends on ("rank 5", "broadcast"). ``body``: ONNX, the operators that it
    is made of by its definition, with which an engine that has no kernel for it may do.
    """

    domain: str
    name: str
    version: int
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    body: tuple[Operator, ...] = ()

    @property
    def label(self) -> str:
        """As messages say it: ``com.microsoft.QGemm`` or ``Conv``."""
        return f"{self.domain}.{self.name}" if self.domain else self.name


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak for one sample: weights as stored, and the most of activations that live at one step.

    Activations live from the step that gives them to the last that takes them, in the order of the file; free sizes
    count as 1. An engine adds its own: packed weights, scratch buffers, its code.
    """

    weights: int
    activations: int

    @property
    def peak(self) -> int:
        return self.weights + self.activations


@dataclass(frozen=True)
class Fingerprint:
    """``memory`` is None where sizes depend on what is fed. ``ir_version`` and ``opsets`` are ONNX's.

    ``external``: weights are kept in other files. ``min_runtime``: the TensorFlow release that a TFLite converter
    wrote down as needed; empty where it wrote none.
    """

    format: Format
    operators: tuple[Operator, ...]
    ir_version: int = 0
    opsets: tuple[tuple[str, int], ...] = ()
    external: bool = False
    custom: tuple[str, ...] = ()
    flex: tuple[str, ...] = ()
    min_runtime: str = ""
    memory: Memory | None = None


READERS = {Format.ONNX: "edgekit.compat.fingerprint_onnx:read", Format.TFLITE: "edgekit.compat.fingerprint_tflite:read"}


def read(path: Path, form: Format | None = None) -> Fingerprint:
    """The fingerprint of a .onnx or .tflite file, or of one of any name whose format is given (a bundle's blob).

    Raises: UnsupportedFormat.
    """
    form = form or SUFFIXES.get(path.suffix.lower())
    if form not in READERS:
        raise UnsupportedFormat(f"{path}: no artifact that an engine loads", "give a .onnx or .tflite file")
    module, _, name = READERS[form].partition(":")
    return cast("Fingerprint", getattr(import_module(module), name)(path))


@dataclass(frozen=True)
class Step:
    """One operator's run: the tensors that it takes and gives, by name or index."""

    takes: Sequence[str]
    gives: Sequence[str]


def most_alive(steps: Sequence[Step], sizes: dict[str, int | None], ends: Iterable[str]) -> int | None:
    """The most bytes of tensors that live at one step; None where a size is not known.

    ``sizes`` names the activations; what is not in it (a weight) does not count. ``ends``: the model's inputs and
    outputs, which live throughout.
    """
    named = {name for step in steps for name in (*step.takes, *step.gives)} & sizes.keys() | set(ends)
    known = {name: size for name in named if (size := sizes.get(name)) is not None}
    if len(known) < len(named):
        return None
    first, last = dict.fromkeys(ends, 0), dict.fromkeys(ends, len(steps))
    for number, step in enumerate(steps):
        for name in (*step.takes, *step.gives):
            first.setdefault(name, number)
            last[name] = max(number, last.get(name, 0))
    changes = [0] * (len(steps) + 2)
    for name, size in known.items():
        changes[first[name]] += size
        changes[last[name] + 1] -= size
    alive = peak = 0
    for change in changes:
        alive += change
        peak = max(peak, alive)
    return peak
