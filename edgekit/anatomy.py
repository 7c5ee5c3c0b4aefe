"""Anatomy: what a model is made of, read from its bytes: layers, in which numbers each computes, what its weights take.

The precision is what the file asks for. What an engine did not get into integers shows in ``edgekit.unfused``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, cast

from edgekit.errors import BundleError
from edgekit_runtime import fields
from edgekit_runtime.bundle import MODEL_TYPE, Bundle

FLOATS = ("float64", "float32", "bfloat16", "float16")
"""Words of floating point, the widest first."""
QUANTIZED = ("int16", "int8", "int4", "int2")
"""Words of quantized numbers, the widest first; signed and unsigned go by one word."""


@dataclass(frozen=True)
class Layer:
    """One operator. ``weight_bytes`` are those of its constants as stored, without what Q/DQ nodes need; what several
    layers share is counted with the first. ``shape`` is its first output's, None in it free; None for one not known.
    """

    name: str
    op: str
    precision: str
    weight_bytes: int
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Total:
    """Of several layers together."""

    layers: int
    weight_bytes: int


@dataclass(frozen=True)
class Anatomy:
    """The layers in the order of the file, without conversions between number formats and without what engines fold.

    ``needs``: what an engine must know; for ONNX the version of each operator set and ``ir_version``, for TFLite the
    version of each operator and, where its writer said so, ``min_runtime_version``.
    """

    layers: tuple[Layer, ...]
    needs: dict[str, str]

    @property
    def weight_bytes(self) -> int:
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def by_op(self) -> dict[str, Total]:
        return _totals(self.layers, lambda layer: layer.op)

    @property
    def by_precision(self) -> dict[str, Total]:
        return _totals(self.layers, lambda layer: layer.precision)

    def as_dict(self) -> dict[str, Any]:
        totals = {"by_op": self.by_op, "by_precision": self.by_precision}
        return {
            "layers": [
                {**asdict(layer), "shape": None if layer.shape is None else list(layer.shape)} for layer in self.layers
            ],
            "weight_bytes": self.weight_bytes,
            **{name: {key: asdict(total) for key, total in each.items()} for name, each in totals.items()},
            "needs": self.needs,
        }


def _totals(layers: Iterable[Layer], key: Callable[[Layer], str]) -> dict[str, Total]:
    """The largest group first."""
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(key(layer), []).append(layer)
    totals = {name: Total(len(group), sum(each.weight_bytes for each in group)) for name, group in groups.items()}
    return dict(sorted(totals.items(), key=lambda item: (-item[1].layers, item[0])))


READERS = {"onnx": "edgekit.anatomy_onnx:read", "tflite": "edgekit.anatomy_tflite:read"}


def dissect(bundle: Bundle) -> Anatomy | None:
    """The anatomy of a bundle's model; None for a format of a plug-in.

    Raises: BundleError when the bytes, which others may have made, are no such model.
    """
    try:
        return of_model(bundle.read(bundle.layer(MODEL_TYPE)), bundle.manifest.format)
    except ValueError as error:
        raise BundleError(f"{bundle.root}: its model cannot be read: {error}", "build it again") from error


def of_model(data: bytes, form: str) -> Anatomy | None:
    """The anatomy of a model; None for a format of a plug-in. Raises: ValueError for bytes that are none."""
    if form not in READERS:
        return None
    module, _, name = READERS[form].partition(":")
    read = cast("Callable[[bytes], Anatomy]", getattr(import_module(module), name))
    return read(data)


def precision(activations: Sequence[str], weight: str) -> str:
    """The word for an operator that takes ``activations`` of these number formats, and a weight of this one ("": none).

    Floating point where any activation is; ``int8 weights`` where only the weight is quantized.
    """
    known = [kind for kind in (*FLOATS, *QUANTIZED) if kind in activations]
    if not known:
        return _of_weight(weight) or next(iter(activations), "")
    widest, order = known[0], (*FLOATS, *QUANTIZED)
    if weight not in order or weight == widest or (widest == "int16" and weight == "int8"):
        return widest
    if widest in QUANTIZED and weight in FLOATS:  # nobody multiplies integers by them
        return weight
    if order.index(weight) < order.index(widest):
        return widest
    return f"{weight} weights" if widest in FLOATS else f"{widest}, {weight} weights"


def _of_weight(weight: str) -> str:
    return f"{weight} weights" if weight in QUANTIZED else weight


@dataclass(frozen=True)
class Choice:
    """Why a layer is in the precision that it is in.

    ``sqnr_db``: the power of the float layer's output over that of what quantizing adds to it, in decibels; None where
    it was not measured.
    """

    name: str
    precision: str
    sqnr_db: float | None
    reason: str


def choices(bundle: Bundle) -> tuple[Choice, ...]:
    """What the build wrote down of each layer; empty where it wrote nothing. Raises: BundleError."""
    try:
        written = fields.items(bundle.manifest.provenance.get("layers", []))
        return tuple(_choice(fields.table(each)) for each in written)
    except (ValueError, KeyError) as error:
        raise BundleError(
            f"{bundle.root}: its account of the layers cannot be read: {error}", "build it again"
        ) from error


def _choice(document: dict[str, Any]) -> Choice:
    name, word, reason = (fields.text(document[key]) for key in ("name", "precision", "reason"))
    decibels = document["sqnr_db"]
    return Choice(name, word, None if decibels is None else fields.number(decibels), reason)
