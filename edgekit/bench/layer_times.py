"""Layer times: what the nodes of a model take of a call on a device, as its engine tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgekit_runtime import fields

SILENT = {
    "litert": "LiteRT's Python interpreter does not time single nodes; TFLite's own benchmark_model does",
    "tflite": "tflite-runtime's Python interpreter does not time single nodes; TFLite's own benchmark_model does",
}


@dataclass(frozen=True)
class Layer:
    """A node, or all of an op: milliseconds a call, and the share of what all nodes take together."""

    name: str
    op: str
    provider: str
    ms: float
    share: float


@dataclass(frozen=True)
class Op:
    """All nodes of a kind."""

    op: str
    nodes: int
    ms: float
    share: float


@dataclass(frozen=True)
class LayerTimes:
    """The slowest first, of both; nothing but a ``note`` where the engine does not tell."""

    layers: tuple[Layer, ...] = ()
    ops: tuple[Op, ...] = ()
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        layers, ops = ([asdict(each) for each in found] for found in (self.layers, self.ops))
        return {"layers": layers, "ops": ops, "note": self.note}


def layer_times(told: object, engine: str) -> LayerTimes:
    """From what a device told, None for nothing. Raises: ValueError, KeyError."""
    if told is None:
        return LayerTimes(note=SILENT.get(engine, f"{engine} does not time single nodes"))
    nodes = [fields.table(each) for each in fields.items(told)]
    total = sum(fields.number(node["ms"]) for node in nodes) or 1.0
    layers = tuple(_layer(node, total) for node in nodes)
    return LayerTimes(layers, _ops(layers))


def _layer(node: dict[str, Any], total: float) -> Layer:
    name, op, provider = (fields.text(node[key]) for key in ("name", "op", "provider"))
    return Layer(name, op, provider, node["ms"], round(node["ms"] / total, 4))


def _ops(layers: Sequence[Layer]) -> tuple[Op, ...]:
    found = []
    for op in {layer.op for layer in layers}:
        own = [layer for layer in layers if layer.op == op]
        ms, share = (round(sum(values), 6) for values in zip(*((each.ms, each.share) for each in own), strict=True))
        found.append(Op(op, len(own), ms, share))
    return tuple(sorted(found, key=lambda each: (-each.ms, each.op)))
