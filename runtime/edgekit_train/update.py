"""Update: what one device learned in one round, as a safetensors file that it signs.

A file comes from another machine, so ``parse`` takes nothing on trust but the numbers themselves: whether they are
finite and of the release's shapes is for who aggregates.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping

import numpy as np

from edgekit_runtime import fields
from edgekit_train import names, tensor_file
from edgekit_train.packed import Packed

Weights = Dict[str, "np.ndarray[Any, Any]"]
"""float32 arrays by name."""
FORMAT, SCHEMA_VERSION = "edgekit-update", "1"
AT = "@at"
"""Behind a tensor's name: the places of its values, where not all of them are there."""
MOST_EXAMPLES, MOST_METRICS = 1 << 40, 100
MOST_COUNTED = 100_000
"""The most examples that a device tells, however many it has learned from: no host takes more of one."""
_KEYS = {"format", "schema_version", "app", "release", "round", "device", "examples", "metrics", "packed"}


@dataclass(frozen=True, eq=False)
class Update:
    """``delta``: float32 by name, the weights after training less those of the ``release`` that was trained on.

    ``release``: its digest. ``round``: 32 hex digits. ``examples``: how many were learned from, one at least.
    ``metrics``: finite figures of the training, such as its loss. Equal are updates of the same bits.
    """

    app: str
    release: str
    round: str
    device: str
    examples: int
    delta: Weights
    metrics: dict[str, float] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Update) or self._said() != other._said() or self.delta.keys() != other.delta.keys():
            return False
        return all(_bits(self.delta[name]) == _bits(other.delta[name]) for name in self.delta)

    def __hash__(self) -> int:
        return hash((self.app, self.release, self.round, self.device))

    def _said(self) -> tuple[Any, ...]:
        return self.app, self.release, self.round, self.device, self.examples, self.metrics


def _bits(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return array.dtype, array.shape, array.tobytes()


def dump(update: Update, packed: Mapping[str, Packed] | None = None) -> bytes:
    """``packed``: how tensors of the delta stand in the file, where not as they are; the delta is what they unpack to.

    Raises: ValueError for what ``parse`` would refuse.
    """
    packed = packed or {}
    _check(update)
    tensors: Weights = {}
    notes: dict[str, dict[str, Any]] = {}
    for name, array in update.delta.items():
        each = packed.get(name) or Packed(array, array.shape)
        each.check()
        tensors[name] = each.values
        note: dict[str, Any] = {} if each.scale is None else {"scale": each.scale}
        if each.at is not None:
            tensors[name + AT] = each.at
            note["shape"] = list(each.shape)
        if note:
            notes[name] = note
    return tensor_file.dump(tensors, _metadata(update, notes))


def _metadata(update: Update, notes: Mapping[str, object]) -> dict[str, str]:
    texts = {key: getattr(update, key) for key in ("app", "release", "round", "device")}
    said = {"examples": update.examples, "metrics": update.metrics, "packed": notes}
    written = {key: json.dumps(value, sort_keys=True, ensure_ascii=False) for key, value in said.items()}
    return {"format": FORMAT, "schema_version": SCHEMA_VERSION, **texts, **written}


def parse(data: bytes, most_bytes: int) -> Update:
    """``most_bytes``: of the file, and of the unpacked delta. ``parse(dump(u), …) == u``.

    Raises: ValueError for a file that is no update or too large.
    """
    if len(data) > most_bytes:
        raise ValueError(f"{len(data)} bytes where at most {most_bytes} can be")
    tensors, said = tensor_file.parse(data)
    if set(said) != _KEYS or (said["format"], said["schema_version"]) != (FORMAT, SCHEMA_VERSION):
        raise ValueError(f"no {FORMAT} of version {SCHEMA_VERSION}")
    packed = _packed(tensors, fields.load(said["packed"]))
    if 4 * sum(math.prod(each.shape) for each in packed.values()) > most_bytes:
        raise ValueError(f"more than {most_bytes} bytes when it is unpacked")
    update = Update(
        **{key: said[key] for key in ("app", "release", "round", "device")},
        examples=_whole(said["examples"]),
        delta={name: each.unpacked() for name, each in packed.items()},
        metrics=fields.load(said["metrics"]),
    )
    _check(update)
    return update


def _packed(tensors: Mapping[str, np.ndarray[Any, Any]], notes: dict[str, Any]) -> dict[str, Packed]:
    """Of the tensors, each with what is said of it. Raises: ValueError where one is missing or left over."""
    plain = {name for name in tensors if not name.endswith(AT)}
    sparse = {name for name, note in notes.items() if "shape" in fields.table(note)}
    if set(notes) - plain or {name + AT for name in sparse} != set(tensors) - plain:
        raise ValueError("tensors that are missing or left over")
    found = {name: _one(tensors[name], tensors.get(name + AT), dict(notes.get(name, {}))) for name in sorted(plain)}
    for each in found.values():
        each.check()
    return found


def _one(values: np.ndarray[Any, Any], at: np.ndarray[Any, Any] | None, note: dict[str, Any]) -> Packed:
    shape = values.shape
    if at is not None:
        shape = tuple(fields.count(size, 0, tensor_file.MOST_SIZE) for size in fields.items(note.pop("shape")))
    scale = fields.number(note.pop("scale")) if "scale" in note else None
    if note or len(shape) > tensor_file.MOST_AXES:
        raise ValueError("unknown words of a packed tensor, or too many axes")
    return Packed(values, shape, scale, at)


def _whole(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,15}", text):
        raise ValueError(f"no number of examples: {text[:80]!r}")
    return int(text)


def _check(update: Update) -> None:
    """Raises: ValueError."""
    for word in (update.app, update.device, *update.metrics):
        names.word(word)
    names.short(update.release)
    names.round_id(update.round)
    fields.count(update.examples, 1, MOST_EXAMPLES)
    if len(update.metrics) > MOST_METRICS:
        raise ValueError(f"{len(update.metrics)} metrics")
    for value in update.metrics.values():
        fields.number(value)
    for name, array in update.delta.items():
        if names.short(name).endswith(AT) or name == tensor_file.METADATA:
            raise ValueError(f"no name of a tensor: {name[:80]!r}")
        if array.dtype != np.float32:
            raise ValueError(f"{name}: {array.dtype} where float32 must be")
